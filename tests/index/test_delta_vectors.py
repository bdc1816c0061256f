"""Vectors that came after a generation: the newest are always found, those in lists as its efforts promise."""

import numpy as np
import pytest

from index.delta_vectors import MOVED, TAIL, DeltaVectors
from index.exact import ExactIndex
from tests.helpers import faiss_index, product_vectors, query_vectors

BASE, ADDED, DIM, K = 12_000, 6_000, 32, 10
VECTORS = product_vectors(BASE + ADDED, dim=DIM)
QUERIES = query_vectors(40, dim=DIM)
FACTORIES = ["IVF512,PQ8x4fsr,RFlat", "PCA24,IVF64,PQ8x4", "Flat"]


@pytest.fixture(scope="module", params=FACTORIES)
def filled(request: pytest.FixtureRequest) -> DeltaVectors:
    delta = DeltaVectors(faiss_index(request.param, VECTORS[:BASE]), ExactIndex(VECTORS[:BASE]))
    for vector in VECTORS[BASE:]:
        delta.append(vector)
    return delta


def truth(query: np.ndarray) -> np.ndarray:
    return VECTORS[BASE:] @ query[0]


def tenth(query: np.ndarray) -> float:
    return float(np.sort(truth(query))[-K])


def test_without_a_limit_of_lists_all_are_compared(filled: DeltaVectors) -> None:
    """Exactly the rows that score enough, with their scores."""
    for query in np.split(QUERIES, len(QUERIES)):
        near = filled.near(query, nprobe=None, least=tenth(query) + 1e-6)

        assert np.flatnonzero(truth(query) > tenth(query) + 1e-6).tolist() == near.rows.tolist()
        np.testing.assert_allclose(near.scores, truth(query)[near.rows], atol=1e-6)


@pytest.mark.parametrize(("nprobe", "recall"), [(2, 0.8), (8, 0.95), (64, 0.99)])
def test_lists_find_what_is_near(filled: DeltaVectors, nprobe: int, recall: float) -> None:
    """Of the ten nearest, by the lists that the search probes; every score is exact, no row comes twice."""
    found = []
    for query in np.split(QUERIES, len(QUERIES)):
        near = filled.near(query, nprobe=nprobe, least=tenth(query) - 1e-6)
        np.testing.assert_allclose(near.scores, truth(query)[near.rows], atol=1e-6)
        assert len(near.rows) == len(set(near.rows.tolist()))
        found.append(min(K, len(near.rows)) / K)

    assert recall <= np.mean(found)


def test_the_newest_are_found_whatever_is_probed(filled: DeltaVectors) -> None:
    """A product that was just published is compared with every query."""
    for row in range(ADDED - TAIL, ADDED, 50):
        own = VECTORS[BASE + row][None]
        assert row in filled.near(own, nprobe=1, least=0.999).rows


def test_few_rows_are_no_harm() -> None:
    """None at all, one, and the ones around the first that go to the lists."""
    delta = DeltaVectors(faiss_index(FACTORIES[0], VECTORS[:BASE]), ExactIndex(VECTORS[:BASE]))
    for count in range(TAIL + 2 * MOVED):
        if count in {0, 1, TAIL, TAIL + MOVED - 1, TAIL + MOVED, TAIL + MOVED + 1}:
            near = delta.near(QUERIES[:1], nprobe=512, least=-2.0)
            assert list(range(count)) == sorted(near.rows.tolist())
        delta.append(VECTORS[count])
