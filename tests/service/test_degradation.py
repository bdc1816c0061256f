"""Deadlines and overload over HTTP: the effort falls, the answer says so, and only then comes a refusal."""

from collections.abc import Mapping
from typing import Any

import pytest

from index.operating_points import EFFORTS
from service.admission import Admitted
from service.clock import Clock
from service.errors import DeadlineError
from service.schemas import SearchRequest
from service.settings import Settings
from tests.service.fakes import listed_pipeline
from tests.service.harness import application

LISTS = dict.fromkeys(EFFORTS, range(50))
HOUR_US = 3.6e9


def answer_of(
    params: Mapping[str, object], *, timeout_ms: float = 60_000, **p99_us: float
) -> tuple[int, dict[str, Any]]:
    pipeline = listed_pipeline(LISTS, p99_us=p99_us, timeout_ms=timeout_ms)
    with application(Settings(), load=lambda _: pipeline) as client:
        answer = client.get("/search", params={"q": "lamp", **params})
        return answer.status_code, answer.json()


def test_a_deadline_below_an_efforts_cost_degrades_the_answer() -> None:
    """`high` costs an hour here: page 2 comes from `balanced`, flagged."""
    status, answer = answer_of({"page": 2}, high=HOUR_US)

    assert 200 == status
    assert ("balanced", True) == (answer["search"]["effort"], answer["search"]["degraded"])


def test_an_unhurried_answer_is_not_degraded() -> None:
    """Costs that fit change nothing."""
    _, answer = answer_of({"page": 2}, high=1.0)

    assert ("high", False) == (answer["search"]["effort"], answer["search"]["degraded"])


def test_a_deadline_that_nothing_fits_is_504() -> None:
    """Every effort costs an hour."""
    status, problem = answer_of({}, **dict.fromkeys(EFFORTS, HOUR_US))

    assert (504, 504) == (status, problem["status"])
    assert "minimal" in problem["detail"]


def test_a_deadline_that_has_passed_is_504() -> None:
    """A nanosecond is over before the search begins."""
    status, problem = answer_of({"timeout_ms": 1e-6})

    assert 504 == status
    assert "passed before the search began" in problem["detail"]


def test_a_request_cannot_ask_for_more_time_than_the_operator_allows() -> None:
    """With an operator's limit of a nanosecond, a minute of the client's does not help."""
    status, _ = answer_of({"timeout_ms": 60_000}, timeout_ms=1e-6)

    assert 504 == status


@pytest.mark.parametrize("params", [{"effort": "exact"}, {"effort": "high"}])
def test_an_effort_above_the_limit_is_422(params: Mapping[str, object]) -> None:
    """The message names the highest effort of this server."""
    pipeline = listed_pipeline(LISTS, max_effort="balanced")
    with application(Settings(), load=lambda _: pipeline) as client:
        problem = client.get("/search", params={"q": "lamp", **params}).json()

    assert (422, "effort") == (problem["status"], problem["field"])
    assert "up to balanced" in problem["detail"]


def test_waiting_before_pick_up_counts_against_the_deadline() -> None:
    """A request that waited an hour has nothing left of its minute; overload travels on to the choice of effort."""
    pipeline = listed_pipeline(LISTS, timeout_ms=60_000)
    request = SearchRequest(q="lamp")

    with pytest.raises(DeadlineError, match="60000 ms passed"):
        pipeline.budget(request, clock=Clock(), admitted=Admitted(waited_us=HOUR_US, overloaded=False))
    assert pipeline.budget(request, clock=Clock(), admitted=Admitted(waited_us=0, overloaded=True)).overloaded
