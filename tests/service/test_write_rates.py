"""How fast a key may write: single writes are refused, lines of a bulk load wait, and no key slows another one."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import OverloadedError
from service.keys import Key, new_key
from service.metrics import Metrics
from service.settings import Settings
from service.write_rates import Bucket, WriteRates
from tests.helpers import small_featurizer
from tests.service.real_server import Server, server
from tests.small_release import small_catalogue, small_release

(SLOW, SLOW_KEY), (FREE, FREE_KEY) = new_key("feed", "write", rate=0.001), new_key("shop", "write")


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    """3 at once; at 2 a second the fourth after half a second; a long pause fills it up to 3 again, not beyond."""
    clock = Clock()
    bucket = Bucket(rate=2, burst=3, now=clock)

    for _ in range(3):
        assert 0 == bucket.lacking_s(1)
        bucket.take(1)
    assert 0.5 == bucket.lacking_s(1)
    clock.seconds = 0.5
    assert 0 == bucket.lacking_s(1)
    clock.seconds = 100
    assert (0, 0.5) == (bucket.lacking_s(3), bucket.lacking_s(4))


def test_what_is_owed_is_paid_first() -> None:
    """A group of 10 from a bucket of 4 at 2 a second: the next one waits for the 6 that were owed, 3 seconds."""
    bucket = Bucket(rate=2, burst=4, now=Clock())
    bucket.take(10)

    assert (3, 3.5) == (bucket.lacking_s(0), bucket.lacking_s(1))


@given(
    rate=st.floats(0.1, 1_000),
    burst=st.integers(1, 100),
    pauses=st.lists(st.floats(0, 10), min_size=1, max_size=50),
)
def test_never_more_than_burst_and_rate_allow(rate: float, burst: int, pauses: list[float]) -> None:
    """Whenever one tries: up to any moment at most the burst and what the rate gave since the start."""
    clock = Clock()
    bucket = Bucket(rate=rate, burst=burst, now=clock)
    taken = 0
    for pause in pauses:
        clock.seconds += pause
        while bucket.lacking_s(1) == 0:
            bucket.take(1)
            taken += 1
        assert taken <= burst + rate * clock.seconds + 1e-6


def limits(*, rate: float = 0.001) -> tuple[WriteRates, Metrics]:
    metrics = Metrics()
    return WriteRates(rate=rate, burst=2, metrics=metrics), metrics


@pytest.mark.parametrize("key", [None, FREE_KEY])
def test_a_single_write_too_many_is_refused(key: Key | None) -> None:
    """After two at once, at one in a thousand seconds: it says how fast it may, and when to come back."""
    rates, metrics = limits()
    rates.check(key)
    rates.check(key)

    with pytest.raises(OverloadedError, match=r"faster than 0\.001 a second") as refused:
        rates.check(key)
    assert 990 <= int(refused.value.headers["Retry-After"]) <= 1000
    assert b'q2s_limited_writes_total{outcome="refused"} 1.0' in metrics.text()


def test_no_key_slows_another_one() -> None:
    """Each has its own bucket, and its own rate before the server's; without a rate there is no limit."""
    rates, _ = limits(rate=0)
    for _ in range(100):
        rates.check(FREE_KEY)
    rates.check(SLOW_KEY)
    rates.check(SLOW_KEY)

    with pytest.raises(OverloadedError):
        rates.check(SLOW_KEY)
    rates.check(FREE_KEY)


def test_lines_wait_and_none_is_refused() -> None:
    """Three groups of 10 at 1,000 a second and 2 at once: 8 are owed after the first and 18 after the second."""
    rates, metrics = limits(rate=1_000)

    async def load() -> float:
        begun = asyncio.get_running_loop().time()
        for _ in range(3):
            await rates.pace(None, 10)
        return asyncio.get_running_loop().time() - begun

    assert asyncio.run(load()) >= 0.017  # less than a clock's tick below 18 ms
    assert b'q2s_limited_writes_total{outcome="slowed"} 20.0' in metrics.text()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two keys, one of them slow; two writes at once."""
    home: Path = tmp_path_factory.mktemp("home")
    release = small_release(home / "releases", featurizer=small_featurizer())
    catalogue = small_catalogue(home, release, products=60)
    (home / "keys").write_text(SLOW_KEY.line() + FREE_KEY.line())
    with server(
        Settings(
            release=release,
            catalogue=catalogue,
            keys_file=home / "keys",
            write_burst=2,
            warmup_queries=3,
            timeout_ms=60_000,
            max_standing_ms=10_000,
        )
    ) as running:
        yield running


def test_a_key_that_writes_too_fast_is_answered_429(running: Server) -> None:
    """Stores and deletions count alike; the other key goes on, and so do searches of the first."""
    slow, free = (httpx.Client(base_url=running.url, headers={"X-API-Key": secret}) for secret in (SLOW, FREE))
    with slow, free:
        statuses = [
            slow.put("/products/a", json={"title": "red lamp"}).status_code,
            slow.delete("/products/a").status_code,
        ]
        refused = slow.put("/products/b", json={"title": "blue lamp"})

        assert [202, 202] == statuses
        assert (429, 429) == (refused.status_code, refused.json()["status"])
        assert int(refused.headers["retry-after"]) > 0
        assert 404 == slow.get("/products/b").status_code
        assert 202 == free.put("/products/b", json={"title": "blue lamp"}).status_code
        assert 200 == slow.get("/search", params={"q": "lamp"}).status_code


def test_a_bulk_load_of_a_free_key_is_not_slowed(running: Server) -> None:
    """A thousand lines where two writes are one burst of the slow key."""
    lines = b"\n".join(b'{"id": "bulk-%d", "title": "lamp %d"}' % (at, at) for at in range(1_000))
    answer = httpx.post(f"{running.url}/products", content=lines, headers={"X-API-Key": FREE}, timeout=60)

    assert 200 == answer.status_code
    assert 1_000 == answer.text.count('"status":202')
