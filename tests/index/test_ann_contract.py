"""What every index promises, checked on each implementation and layout alike."""

import numpy as np
import pytest

from index.ann import AnnIndex, RowFilter
from index.errors import SpecError
from index.exact import ExactIndex
from tests.helpers import faiss_index, product_vectors, query_vectors

COUNT, DIM = 1_500, 32
RE_SCORED = ("exact", "Flat", "IVF32,PQ8x4fsr,RFlat", "IVF32,Flat")  # their scores are inner products to the last bit
LAYOUTS = (*RE_SCORED, "IVF32,PQ8x4fs,Refine(SQ8)", "OPQ8,IVF32,PQ8")


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


def test_a_filter_lets_only_its_rows_through(ann: AnnIndex, queries: np.ndarray, numbers: np.ndarray) -> None:
    """Every third row: 500 of 1,500 products, and with all lists probed every one of them is found."""
    mask = np.arange(COUNT) % 3 == 1

    hits = ann.search(queries, nprobe=ann.nlist, candidates=600, only=RowFilter.of(mask))

    for row in hits.numbers:
        assert numbers[mask].tolist() == sorted(row[:500].tolist())
        assert [-1] * 100 == row[500:].tolist()


def test_a_filtered_list_is_the_whole_list_without_the_others(
    ann: AnnIndex, queries: np.ndarray, numbers: np.ndarray
) -> None:
    """Filtering changes neither order nor scores of what stays."""
    mask = np.random.default_rng(3).random(COUNT) < 0.2
    allowed = numbers[mask]

    whole = ann.search(queries, nprobe=ann.nlist, candidates=COUNT)
    kept = ann.search(queries, nprobe=ann.nlist, candidates=len(allowed), only=RowFilter.of(mask))

    for i in range(len(queries)):
        stays = np.isin(whole.numbers[i], allowed)
        assert whole.numbers[i, stays].tolist() == kept.numbers[i].tolist()
        np.testing.assert_allclose(whole.scores[i, stays], kept.scores[i], atol=1e-6)


def test_a_filter_that_allows_nothing_finds_nothing(ann: AnnIndex, queries: np.ndarray) -> None:
    """No error: an empty list."""
    nothing = RowFilter.of(np.zeros(COUNT, dtype=bool))

    hits = ann.search(queries, nprobe=ann.nlist, candidates=10, only=nothing)

    assert (hits.numbers == -1).all()
    assert (hits.scores == -np.inf).all()
    assert [0] * 20 == [len(near.numbers) for near in ann.within(queries, nprobe=ann.nlist, min_score=-2, only=nothing)]


def test_a_filter_of_another_size_is_refused(ann: AnnIndex, queries: np.ndarray) -> None:
    """A bitmap of another generation would allow the wrong products, or read past its end."""
    other = RowFilter.of(np.ones(COUNT - 1, dtype=bool))

    with pytest.raises(SpecError, match=r"over 1499 rows; this index has 1500"):
        ann.search(queries, nprobe=ann.nlist, candidates=10, only=other)


def test_the_radius_bounds_what_is_within(ann: AnnIndex, queries: np.ndarray) -> None:
    """Each list is sorted and ends at the radius; a wider radius only adds."""
    narrow = ann.within(queries, nprobe=ann.nlist, min_score=0.5)
    wide = ann.within(queries, nprobe=ann.nlist, min_score=0.3)

    for near, all_near in zip(narrow, wide, strict=True):
        assert (near.scores >= 0.5).all()
        assert set(near.numbers.tolist()) <= set(all_near.numbers.tolist())
        assert sorted(zip(-near.scores, near.numbers, strict=True)) == list(
            zip(-near.scores, near.numbers, strict=True)
        )


def test_the_radius_and_a_filter_together(
    ann: AnnIndex, vectors: np.ndarray, numbers: np.ndarray, queries: np.ndarray
) -> None:
    """At full effort nearly all that exact arithmetic finds is there, and nothing that the filter excludes."""
    mask = np.arange(COUNT) % 2 == 0
    scores = queries @ vectors.T

    found = ann.within(queries, nprobe=ann.nlist, min_score=0.3, only=RowFilter.of(mask))

    expected = [set(numbers[mask & (row >= 0.3)].tolist()) for row in scores]
    assert all(np.isin(near.numbers, numbers[mask]).all() for near in found)
    shared = sum(len(want & set(near.numbers.tolist())) for want, near in zip(expected, found, strict=True))
    assert shared >= 0.7 * sum(map(len, expected))  # of 8 sub-quantizers of 4 bits; see the next test for exact scores


@pytest.mark.parametrize("layout", ["exact", "Flat", "IVF32,Flat"])
def test_whole_vectors_miss_nothing_within_the_radius(
    layout: str, vectors: np.ndarray, numbers: np.ndarray, queries: np.ndarray
) -> None:
    """The radius itself included: it is put on the score of a product."""
    ann = ExactIndex(vectors, numbers=numbers) if layout == "exact" else faiss_index(layout, vectors, numbers=numbers)
    best = ann.search(queries, nprobe=ann.nlist, candidates=40)

    for i in range(len(queries)):
        near = ann.within(queries[i : i + 1], nprobe=ann.nlist, min_score=float(best.scores[i, -1]))[0]
        assert best.numbers[i].tolist() == near.numbers.tolist()


def test_stats_tell_what_a_product_takes(ann: AnnIndex) -> None:
    """A code of 4 to 32 bytes, an id, what is re-scored, and 32 centroids of 128 bytes over 1,500 products."""
    stats = ann.stats()

    assert (COUNT, DIM, ann.nlist) == (stats.count, stats.dim, stats.nlist)
    assert 8 <= stats.bytes_per_product <= 32 * 4 + 4 + 8 + 32 * 128 / COUNT + 1


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
