"""What every index promises, checked on each implementation and layout alike."""

import numpy as np
import pytest

from index.ann import AnnIndex
from index.errors import SpecError
from index.exact import ExactIndex
from tests.helpers import faiss_index, product_vectors, query_vectors

COUNT, DIM = 1_500, 32
LAYOUTS = ("exact", "Flat", "IVF32,PQ8x4fsr,RFlat", "OPQ8,IVF32,PQ8", "IVF32,Flat")


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return product_vectors(COUNT, dim=DIM)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return query_vectors(20, dim=DIM)


@pytest.fixture(scope="module")
def numbers() -> np.ndarray:
    """Product numbers with gaps, as compaction leaves them: 5, 8, 11, ..."""
    return (5 + 3 * np.arange(COUNT)).astype(np.uint32)


@pytest.fixture(scope="module", params=LAYOUTS)
def ann(request: pytest.FixtureRequest, vectors: np.ndarray, numbers: np.ndarray) -> AnnIndex:
    if request.param == "exact":
        return ExactIndex(vectors, numbers=numbers)
    return faiss_index(request.param, vectors, numbers=numbers)


def test_it_states_its_size(ann: AnnIndex) -> None:
    """Count and dimension are those of the vectors."""
    assert (COUNT, DIM) == (ann.count, ann.dim)


def test_a_list_has_one_entry_per_candidate(ann: AnnIndex, queries: np.ndarray) -> None:
    """k is the candidates, whatever will be shown of them."""
    hits = ann.search(queries, nprobe=ann.nlist, candidates=150)

    assert (20, 150) == hits.numbers.shape == hits.scores.shape
    assert np.int64 == hits.numbers.dtype
    assert np.float32 == hits.scores.dtype


def test_hits_are_product_numbers(ann: AnnIndex, queries: np.ndarray, numbers: np.ndarray) -> None:
    """Not rows: here every number is 5 more than a multiple of 3."""
    hits = ann.search(queries, nprobe=ann.nlist, candidates=50)

    assert np.isin(hits.numbers, numbers).all()


def test_lists_are_sorted_by_score_then_number(ann: AnnIndex, queries: np.ndarray) -> None:
    """One order, always."""
    hits = ann.search(queries, nprobe=ann.nlist, candidates=100)

    for numbers, scores in zip(hits.numbers, hits.scores, strict=True):
        assert sorted(zip(-scores, numbers, strict=True)) == list(zip(-scores, numbers, strict=True))


def test_no_product_comes_twice(ann: AnnIndex, queries: np.ndarray) -> None:
    """A list is a set in an order."""
    hits = ann.search(queries, nprobe=ann.nlist, candidates=500)

    assert all(500 == len(set(row)) for row in hits.numbers)


def test_places_that_cannot_be_filled_are_marked(ann: AnnIndex, queries: np.ndarray) -> None:
    """Asking for more than there is pads with -1 and -inf, at the end."""
    hits = ann.search(queries, nprobe=ann.nlist, candidates=COUNT + 10)

    assert (hits.numbers[:, :COUNT] >= 0).all()
    assert (hits.numbers[:, COUNT:] == -1).all()
    assert (hits.scores[:, COUNT:] == -np.inf).all()


def test_probing_everything_with_all_candidates_finds_the_nearest(
    ann: AnnIndex, vectors: np.ndarray, numbers: np.ndarray, queries: np.ndarray
) -> None:
    """At full effort only the codes' rounding is left: the exact nearest is among the first hundred."""
    hits = ann.search(queries, nprobe=ann.nlist, candidates=100)
    nearest = numbers[np.argmax(queries @ vectors.T, axis=1)]

    assert np.mean([best in row for best, row in zip(nearest, hits.numbers, strict=True)]) >= 0.95


def test_scanning_everything_is_counted_as_such(ann: AnnIndex, queries: np.ndarray) -> None:
    """All lists hold all codes."""
    assert [COUNT] * 20 == ann.codes_scanned(queries, nprobe=ann.nlist).tolist()


def test_no_queries_give_no_lists(ann: AnnIndex) -> None:
    """An empty batch is no error."""
    hits = ann.search(np.empty((0, DIM), np.float32), nprobe=ann.nlist, candidates=10)

    assert (0, 10) == hits.numbers.shape


def test_one_query_or_many_find_the_same(ann: AnnIndex, queries: np.ndarray) -> None:
    """A batch is only several searches."""
    together = ann.search(queries, nprobe=ann.nlist, candidates=20)

    for i in range(len(queries)):
        alone = ann.search(queries[i : i + 1], nprobe=ann.nlist, candidates=20)
        np.testing.assert_allclose(alone.scores[0], together.scores[i], atol=1e-5)


def test_impossible_searches_are_refused(ann: AnnIndex, queries: np.ndarray) -> None:
    """The message names the value."""
    with pytest.raises(SpecError, match="candidates=0"):
        ann.search(queries, nprobe=ann.nlist, candidates=0)
    with pytest.raises(SpecError, match=r"\(20, 31\)"):
        ann.search(queries[:, :31], nprobe=ann.nlist, candidates=10)
    wrong = [3] if ann.nlist is None else [None, 0, -1, ann.nlist + 1]
    for nprobe in wrong:
        with pytest.raises(SpecError, match=f"nprobe={nprobe}"):
            ann.search(queries, nprobe=nprobe, candidates=10)
