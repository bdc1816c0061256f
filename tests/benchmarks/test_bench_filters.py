"""Filters to measure under: they leave what they should, near is nearer than far, and recall is of what is left."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.filter_cases import FILTERS, KINDS, Case, filter_cases
from benchmarks.filters import UNFILTERED, run
from benchmarks.vectors import K, VectorSet
from index.errors import TuneError
from tests.helpers import product_vectors, query_vectors

DIM = 16
COUNT = 6_000


@pytest.fixture(scope="module")
def vectors() -> VectorSet:
    return VectorSet(source="test", products=product_vectors(COUNT, dim=DIM), queries=query_vectors(60, dim=DIM))


def silent(_done: int, _total: int) -> None:
    """No progress is shown."""


def score(case: Case, products: np.ndarray) -> float:
    """Mean inner product of a case's queries with all that they may find."""
    return float(np.mean([(products[ask.only.mask()] @ ask.query[0]).mean() for ask in case.asks]))


@given(share=st.floats(0.001, 1.0), seed=st.integers(0, 2**16))
@settings(max_examples=20)
def test_a_filter_leaves_its_share_and_the_nearest_are_of_it(share: float, seed: int) -> None:
    """Of 1,000 products so many pass; what is nearest passes too, best first, and nothing that passes is nearer."""
    small = VectorSet(source="test", products=product_vectors(1_000, dim=DIM), queries=query_vectors(10, dim=DIM))
    cases = filter_cases(small, [share], seed=seed, progress=silent)

    assert list(KINDS) == [case.kind for case in cases]
    for case in cases:
        for ask, near in zip(case.asks, case.near, strict=True):
            assert round(1_000 * share) == ask.only.allowed
            found = near[near >= 0]
            assert ask.only.allows(found).all()
            scores = small.products @ ask.query[0]
            best = np.sort(scores[ask.only.mask()])[::-1][: len(found)]
            assert scores[found] == pytest.approx(best, abs=1e-5)


def test_every_filter_is_asked_a_tenth_of_the_queries(vectors: VectorSet) -> None:
    """6 of 60 queries under each of 5 filters; the same filters for all queries of a region."""
    random, near, at_large, far = filter_cases(vectors, [0.1], seed=0, progress=silent)

    assert [6 * FILTERS] * 4 == [len(case.asks) for case in (random, near, at_large, far)]
    regions = [[id(ask.only) for ask in case.asks] for case in (near, at_large, far)]
    assert regions[0] == regions[1] == regions[2]
    assert FILTERS == len(set(regions[0]))


def test_near_is_nearer_than_any_and_far_is_further(vectors: VectorSet) -> None:
    """A region is one place; what passes by chance is not, so it is as near to queries at large as all products are."""
    random, near, at_large, far = (
        score(case, vectors.products) for case in filter_cases(vectors, [0.05], seed=0, progress=silent)
    )

    assert near > at_large > far
    assert near > random > far


@pytest.mark.parametrize("share", [0.0, 1.5, -0.1, 1e-5])
def test_a_share_that_leaves_nothing_is_refused(vectors: VectorSet, share: float) -> None:
    """A hundred-thousandth of 6,000 is no product."""
    with pytest.raises(TuneError, match=rf"selectivity {share} leaves -?\d+ of 6,000 products"):
        filter_cases(vectors, [share], seed=0, progress=silent)


def test_each_way_is_measured_at_each_selectivity(vectors: VectorSet, tmp_path: Path) -> None:
    """5,100 of 6,000 are too many to compare, so lists are probed; 60 are all compared, and so all found.

    Faiss finds fewer of a region that the query is far from, in the lists that are nearest to the query.
    """
    result = run(vectors, cache=tmp_path, selectivities=[0.85, 0.01], target=0.9, blocks=1, calls=5)

    kinds = list(KINDS)
    assert [UNFILTERED, *kinds, *kinds] == [row["name"] for row in result.rows]
    assert [1.0, *[0.85] * 4, *[0.01] * 4] == [row["selectivity"] for row in result.rows]
    unfiltered, lists, few = result.rows[0], result.rows[1:5], {row["name"]: row for row in result.rows[5:]}
    assert unfiltered["ann_recall_at_10"] >= 0.9
    assert {"lists"} == {row["strategy"] for row in lists}
    assert all(row["lists_probed"] >= unfiltered["lists_probed"] for row in lists)
    assert [("exact", None, 1.0)] * 4 == [
        (row["strategy"], row["lists_probed"], row["ann_recall_at_10"]) for row in few.values()
    ]
    assert few["far"]["faiss_ann_recall_at_10"] < few["near"]["faiss_ann_recall_at_10"]
    assert all(row[f"{way}_us"] > 0 for row in few.values() for way in ("p50", "first_use", "faiss_p50", "exact_p50"))
    assert 3 == len([path for path in result.save(tmp_path / "out") if path.exists()])


def test_few_products_are_a_full_recall(vectors: VectorSet) -> None:
    """Where 3 pass, the 3 of them are all that is to be found."""
    cases = filter_cases(vectors, [3 / COUNT], seed=0, progress=silent)

    assert {3} == {int((near >= 0).sum()) for case in cases for near in case.near}
    assert K > 3
