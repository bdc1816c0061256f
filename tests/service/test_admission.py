"""Admission: by waiting time, before any work; 429 with Retry-After."""

import asyncio
from time import sleep
from typing import Any

import httpx
import pytest

from index.operating_points import EFFORTS
from models.features import QueryFeatures
from service.admission import Admission, Admitted
from service.errors import OverloadedError
from service.settings import Settings
from tests.service.fakes import LengthRelease, listed_pipeline
from tests.service.harness import application

LISTS = dict.fromkeys(EFFORTS, range(50))


class SlowRelease(LengthRelease):
    """Takes 20 ms for a query, without giving the event loop a turn."""

    def _embed(self, features: QueryFeatures) -> Any:
        sleep(0.02)
        return super()._embed(features)


def answers_of_a_burst(settings: Settings, *, requests: int) -> list[httpx.Response]:
    """What `requests` simultaneous searches of 20 ms each get."""
    pipeline = listed_pipeline(LISTS, parts={"release": SlowRelease()}, timeout_ms=60_000)

    async def burst(http: httpx.AsyncClient) -> list[httpx.Response]:
        return await asyncio.gather(*(http.get("/search", params={"q": "lamp"}) for _ in range(requests)))

    with application(settings, load=lambda _: pipeline) as client:
        return client.run(burst)


def test_who_waited_too_long_is_refused_with_the_time_to_come_back() -> None:
    """Ten at once, 20 ms each, limit 100 ms: the first waited for nobody, the last for nine."""
    first, *_, last = answers_of_a_burst(Settings(max_waiting_ms=100), requests=10)

    assert "low" == first.json()["search"]["effort"]
    assert (429, "application/problem+json") == (last.status_code, last.headers["content-type"])
    assert "1" == last.headers["retry-after"]
    assert "limit 100 ms" in last.json()["detail"]


def test_patience_refuses_nobody() -> None:
    """The same burst under a limit of a minute is answered in full."""
    answers = answers_of_a_burst(Settings(max_waiting_ms=60_000), requests=10)

    assert [200] * 10 == [answer.status_code for answer in answers]
    assert not any(answer.json()["search"]["degraded"] for answer in answers)


def test_waiting_lowers_the_effort_before_it_refuses() -> None:
    """Limit 100 ms; three requests of one turn, picked up at 0, 51 and 101 ms."""
    clock = iter([0, 51_000_000, 101_000_000])

    async def one_turn() -> None:
        admission = Admission(max_waiting_ms=100, max_in_flight=10, now_ns=lambda: next(clock))

        assert Admitted(0, overloaded=False) == admission.enter()
        assert Admitted(51_000, overloaded=True) == admission.enter()
        with pytest.raises(OverloadedError, match="waited 101 ms, limit 100 ms"):
            admission.enter()

    asyncio.run(one_turn())


def test_waiting_ends_with_the_turn() -> None:
    """A request of the loop's next turn starts to wait anew."""
    clock = iter([0, 20_000_000, 40_000_000])

    async def two_turns() -> list[float]:
        admission = Admission(max_waiting_ms=100, max_in_flight=10, now_ns=lambda: next(clock))
        waited = [admission.enter().waited_us, admission.enter().waited_us]
        await asyncio.sleep(0)
        return [*waited, admission.enter().waited_us]

    assert [0, 20_000, 0] == asyncio.run(two_turns())


def test_the_number_in_flight_is_limited() -> None:
    """Bodies that arrive slowly hold their place; the third of two is refused until one leaves."""

    async def three() -> None:
        admission = Admission(max_waiting_ms=60_000, max_in_flight=2)
        admission.enter()
        admission.enter()
        with pytest.raises(OverloadedError, match="2 requests in flight, limit 2"):
            admission.enter()
        admission.leave()
        admission.enter()

    asyncio.run(three())
