"""Filtered search: how it is done follows from what a filter leaves, and what is found hardly differs."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.ann import FaissIndex, RowFilter
from index.errors import SpecError
from index.exact import ExactIndex
from index.filtered import FEW, FilteredSearch
from index.lists import InvertedLists
from index.operating_points import OperatingPoint
from tests.helpers import faiss_index, product_vectors, query_vectors

COUNT, DIM = 20_000, 32
LAYOUTS = ("IVF128,Flat", "IVF128,PQ16x4fsr,RFlat", "PCA24,IVF128,PQ12x4fs,RFlat")
SHARES = (0.95, 0.6, 0.3, 0.1, 0.01)

Build = Callable[[str], FaissIndex]  # from a factory string


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return product_vectors(COUNT, dim=DIM)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return query_vectors(60, dim=DIM)


@pytest.fixture(scope="module")
def numbers() -> np.ndarray:
    """Product numbers with gaps: 5, 8, 11, ..."""
    return (5 + 3 * np.arange(COUNT)).astype(np.uint32)


@pytest.fixture(scope="module")
def exact(vectors: np.ndarray, numbers: np.ndarray) -> ExactIndex:
    return ExactIndex(vectors, numbers=numbers)


@pytest.fixture(scope="module")
def build(vectors: np.ndarray, numbers: np.ndarray) -> Build:
    """Builds an index over the vectors; training is slow, so each layout is built once."""
    return cache(lambda factory: faiss_index(factory, vectors, numbers=numbers))


@pytest.fixture(scope="module", params=LAYOUTS)
def search(request: pytest.FixtureRequest, build: Build, exact: ExactIndex) -> FilteredSearch:
    return FilteredSearch(build(request.param), exact)


def point(nprobe: int | None = 8, *, candidates: int = 100, effort: str = "low") -> OperatingPoint:
    return OperatingPoint(effort=effort, nprobe=nprobe, candidates=candidates)


def first(count: int, *, of: int = COUNT) -> RowFilter:
    """The first rows alone."""
    return RowFilter.of(np.arange(of) < count)


def at_random_order() -> np.ndarray:
    return np.random.default_rng(3).random(COUNT)


def at_random(share: float) -> np.ndarray:
    return at_random_order() < share


# What is done


@pytest.mark.parametrize(
    ("allowed", "strategy"), [(0, "exact"), (FEW, "exact"), (FEW + 1, "lists"), (17_999, "lists"), (20_000, "post")]
)
def test_the_share_decides_what_is_done(
    search: FilteredSearch, queries: np.ndarray, allowed: int, strategy: str
) -> None:
    """Few are all compared, of nearly all the others are left out afterwards, and lists are chosen between."""
    use = search.search(queries[:1], point(), first(allowed)).use

    assert (strategy, allowed) == (use.strategy, use.allowed)
    assert (strategy == "exact") == (use.nprobe is None)


def test_more_lists_are_probed_than_without_a_filter(search: FilteredSearch, queries: np.ndarray) -> None:
    """Allowed products are scattered; leaving out one in two thousand changes nothing about the lists."""
    nearly_all, half = first(19_990), RowFilter.of(at_random(0.5))

    assert 4 == search.search(queries[:1], point(4), nearly_all).use.nprobe
    assert (search.search(queries[:1], point(4), half).use.nprobe or 0) > 4


@pytest.mark.parametrize("point", [point(None), point(None, effort="exact")], ids=["flat", "exact"])
def test_without_lists_all_allowed_are_compared(
    build: Build, exact: ExactIndex, queries: np.ndarray, point: OperatingPoint
) -> None:
    """A flat index has none, and the effort `exact` uses none."""
    wide = first(19_000)
    for factory in ("Flat", "IVF128,Flat"):
        found = FilteredSearch(build(factory), exact).search(queries[:1], point, wide)

        assert ("exact", None) == (found.use.strategy, found.use.nprobe)
        assert exact.search(queries[:1], candidates=100, only=wide).numbers.tolist() == found.hits.numbers.tolist()


def test_a_filter_against_the_query_falls_back_to_lists(
    search: FilteredSearch, exact: ExactIndex, queries: np.ndarray
) -> None:
    """It leaves 95 % of all products, but none of the 1,000 nearest: the ordinary list would end up empty."""
    nearest = exact.search(queries[:1], candidates=1_000).numbers[0]
    against = RowFilter.of(~np.isin(np.arange(COUNT), (nearest - 5) // 3))

    found = search.search(queries[:1], point(), against)

    assert 0.95 == against.share
    assert "lists" == found.use.strategy
    assert 100 == found.hits.numbers.shape[1]


def test_nothing_allowed_finds_nothing(search: FilteredSearch, queries: np.ndarray) -> None:
    """An empty list, not an error."""
    found = search.search(queries[:1], point(), first(0)).hits

    assert not (found.numbers >= 0).any()


def test_a_filter_of_another_index_is_refused(search: FilteredSearch, queries: np.ndarray) -> None:
    """Its rows would be other products."""
    with pytest.raises(SpecError, match="the filter is over 30 rows; this index has 20000"):
        search.search(queries[:1], point(), first(10, of=30))


# What is found


@settings(max_examples=40)
@given(
    shares=st.lists(st.floats(0, 1), min_size=8, max_size=8),
    row=st.integers(0, 59),
    nprobe=st.integers(1, 128),
    candidates=st.integers(1, 300),
)
def test_hits_are_allowed_products_each_once_with_exact_scores(
    search: FilteredSearch, exact: ExactIndex, queries: np.ndarray,
    shares: list[float], row: int, nprobe: int, candidates: int,
) -> None:  # fmt: skip
    """Whatever the filter: here each eighth of the rows has a share of its own."""
    mask = np.random.default_rng(row).random(COUNT) < np.repeat(shares, COUNT // 8)
    query = queries[row : row + 1]

    hits = search.search(query, point(nprobe, candidates=candidates), RowFilter.of(mask)).hits

    found = hits.numbers[0][hits.numbers[0] >= 0]
    assert len(found) == len(np.unique(found)) <= candidates
    assert mask[(found - 5) // 3].all()
    again = exact.rescore(query, (found - 5) // 3)
    assert again.numbers[0].tolist() == found.tolist()
    np.testing.assert_allclose(again.scores[0], hits.scores[0][: len(found)], atol=1e-6)


@pytest.mark.parametrize("search", LAYOUTS[:2], indirect=True)  # a PCA to 24 dimensions loses more, filter or not
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(("kind", "least"), [("at random", 0.95), ("for the query", 0.95), ("against the query", 0.93)])
def test_recall_holds_at_every_share(
    search: FilteredSearch,
    exact: ExactIndex,
    vectors: np.ndarray,
    queries: np.ndarray,
    share: float,
    kind: str,
    least: float,
) -> None:
    """ann_recall@10 of 0.95, as the operating point's own is; a little less where all that is near is left out.

    A filter for the query keeps the products nearest to what all queries have in common, one against it the others.
    """
    closeness = vectors @ queries.mean(axis=0)
    rank_by = {"at random": at_random_order(), "for the query": closeness, "against the query": -closeness}[kind]
    only = RowFilter.of(rank_by >= np.quantile(rank_by, 1 - share))
    expected = exact.search(queries, candidates=10, only=only).numbers

    found = [search.search(queries[i : i + 1], point(), only).hits.numbers[0, :10] for i in range(len(queries))]

    recalls = [np.isin(*pair).mean() for pair in zip(expected, found, strict=True)]
    assert np.mean(recalls) >= least


# Lists, one by one


def test_every_allowed_row_is_counted_in_its_list(build: Build) -> None:
    """Of all rows the sizes of the lists, of none zeros, of one row a single 1."""
    lists = InvertedLists(build("IVF128,Flat"), product_vectors(COUNT, dim=DIM))

    assert lists.sizes.tolist() == lists.allowed(first(COUNT)).tolist()
    assert 0 == lists.allowed(first(0)).sum()
    assert [0] * 127 + [1] == sorted(lists.allowed(first(1)).tolist())


def test_a_list_with_more_allowed_rows_comes_before_an_equally_near_one(build: Build) -> None:
    """The best of a hundred draws lies above the best of one; a list without any is left out."""
    lists = InvertedLists(build("IVF128,Flat"), product_vectors(COUNT, dim=DIM))
    scores, allowed = np.zeros(128, dtype=np.float32), np.zeros(128, dtype=np.int64)
    allowed[[7, 30, 99]] = 1, 100, 10

    assert [30, 99, 7] == lists.promising(scores, allowed).lists.tolist()
    scores[7] = 1.0  # a cosine that no deviation makes up for
    assert [7, 30, 99] == lists.promising(scores, allowed).lists.tolist()


@pytest.mark.parametrize("factory", ["IVF16,Flat", "IVF16,PQ8x4fsr,RFlat", "OPQ8,IVF16,PQ8", "PCA24,IVF16,Flat"])
def test_all_lists_together_hold_what_exact_search_finds(factory: str) -> None:
    """Scanned for all that is allowed, they give just that; the nearest come early, as far as codes can tell."""
    vectors, query = product_vectors(1_000, dim=DIM), query_vectors(1, dim=DIM)
    ann, only = faiss_index(factory, vectors), RowFilter.of(np.arange(1_000) % 3 == 0)
    lists, transformed = InvertedLists(ann, vectors), ann.transformed(query)
    order, near = np.arange(16), lists.scores(transformed)

    everything = lists.scan(transformed, order, near, candidates=400, only=only)
    early = lists.scan(transformed, order, near, candidates=50, only=only)

    assert only.rows().tolist() == sorted(everything.rows.tolist())
    assert everything.scores[:50].tolist() == early.scores.tolist()
    assert ExactIndex(vectors).search(query, candidates=1, only=only).numbers[0, 0] in early.rows
