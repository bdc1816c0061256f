"""Vectors of queries that were asked before: kept for a time, up to a number, and told in /metrics."""

from collections.abc import Iterator

import numpy as np
import pytest

from index.operating_points import EFFORTS
from models.features import QueryFeatures
from service.clock import Clock
from service.query_vectors import Embedded, QueryEmbedder, QueryVectors
from service.schemas import SearchRequest
from service.settings import Settings
from tests.service.fakes import LengthRelease, listed_pipeline
from tests.service.harness import Client, application
from tests.service.test_observability import metric

LISTS = dict.fromkeys(EFFORTS, range(50))
HOUR = 3_600


class CountingRelease(LengthRelease):
    """Keeps how many queries each run of its tower embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[int] = []

    def _embed(self, features: QueryFeatures) -> np.ndarray:
        vectors = super()._embed(features)
        self.runs.append(len(vectors))
        return vectors


def embedded(number: float) -> Embedded:
    return Embedded(np.full((1, 4), number, dtype=np.float32), truncated=False, known=False)


def kept(most: int, *, hours: float = 8) -> tuple[QueryVectors, list[float]]:
    """A cache, and its clock."""
    clock = [0.0]
    return QueryVectors(most=most, seconds=hours * HOUR, now=lambda: clock[0]), clock


def test_a_vector_is_kept_for_its_time() -> None:
    """Eight hours: there after 7:59, gone after 8:00, whether or not it was asked for in between."""
    vectors, clock = kept(10)
    vectors.keep(("lamp", "US"), embedded(1))

    clock[0] = 8 * HOUR - 1
    assert vectors.get(("lamp", "US")) is not None
    clock[0] = 8 * HOUR
    assert vectors.get(("lamp", "US")) is None
    assert 0 == len(vectors)


def test_the_least_recently_used_makes_room() -> None:
    """Two places; lamp is asked for again before chair comes, so sofa goes."""
    vectors, _ = kept(2)
    vectors.keep(("lamp", None), embedded(1))
    vectors.keep(("sofa", None), embedded(2))
    vectors.get(("lamp", None))
    vectors.keep(("chair", None), embedded(3))

    assert [True, False, True] == [vectors.get((text, None)) is not None for text in ("lamp", "sofa", "chair")]
    assert 2 == len(vectors)


def test_a_country_makes_another_query() -> None:
    """The query tower reads it."""
    vectors, _ = kept(2)
    vectors.keep(("lamp", "US"), embedded(1))

    assert vectors.get(("lamp", "DE")) is None


def test_nobody_can_change_a_kept_vector() -> None:
    """Searches share it."""
    vectors, _ = kept(2)
    vectors.keep(("lamp", None), embedded(1))
    found = vectors.get(("lamp", None))

    assert found is not None
    assert found.known
    with pytest.raises(ValueError, match="read-only"):
        found.vectors[0, 0] = 2


def test_a_batch_runs_the_tower_once_for_what_is_lacking() -> None:
    """Four searches of three queries, one of them kept: one run, of two."""
    release = CountingRelease()
    embedder = QueryEmbedder(release, kept=QueryVectors(most=10, seconds=HOUR))  # type: ignore[arg-type]
    alone = embedder.one(SearchRequest(q="lamp"), Clock())
    found = embedder.all([SearchRequest(q=text) for text in ("sofa bed", "lamp", "sofa bed", "chair")])

    assert [1, 2] == release.runs
    assert [8, 4, 8, 5] == [one.vectors[0, 0] for one in found]
    assert [False, True, False, False] == [one.known for one in found]
    assert not alone.known


@pytest.fixture
def release() -> CountingRelease:
    return CountingRelease()


@pytest.fixture
def client(release: CountingRelease) -> Iterator[Client]:
    vectors = QueryVectors(most=10, seconds=HOUR)
    pipeline = listed_pipeline(LISTS, parts={"release": release, "query_vectors": vectors})
    with application(Settings(timeout_ms=60_000), load=lambda _: pipeline) as client:
        yield client


def test_a_known_query_costs_no_tower_and_finds_the_same(client: Client, release: CountingRelease) -> None:
    """Its stages are missing from the timings; hits and misses are counted, later pages too."""
    before = len(release.runs)
    answers = [client.get("/search", params={"q": "lamp", "page": page}).json() for page in (1, 1, 2)]

    assert before + 1 == len(release.runs)
    assert ["query_tower" in answer["timings_us"] for answer in answers] == [True, False, False]
    assert answers[0]["hits"] == answers[1]["hits"]
    assert 1 == metric(client, 'q2s_query_vectors_total{outcome="miss"}')
    assert 2 == metric(client, 'q2s_query_vectors_total{outcome="hit"}')


def test_without_a_cache_every_search_runs_the_tower(release: CountingRelease) -> None:
    """Q2S_QUERY_CACHE=0; nothing is counted."""
    with application(
        Settings(timeout_ms=60_000), load=lambda _: listed_pipeline(LISTS, parts={"release": release})
    ) as client:
        before = len(release.runs)
        for _ in range(3):
            assert 200 == client.get("/search", params={"q": "lamp"}).status_code

        assert before + 3 == len(release.runs)
        assert 0 == metric(client, 'q2s_query_vectors_total{outcome="miss"}')
