import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.metrics import (
    batch_hits_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    roc_auc,
    roc_auc_by_query,
)

ratings = st.lists(st.integers(0, 3), min_size=1, max_size=12)


def test_batch_recall_counts_the_rows_that_find_their_own_document() -> None:
    """Row 0 finds its own first, row 1 second, row 2 last: 1/3 at 1, 2/3 at 2, all at 3."""
    scores = np.array([[0.9, 0.1, 0.2], [0.8, 0.5, 0.1], [0.7, 0.6, 0.5]])

    assert [True, False, False] == batch_hits_at_k(scores, k=1).tolist()
    assert [1 / 3, 2 / 3, 1.0] == [batch_hits_at_k(scores, k=k).mean() for k in (1, 2, 3)]


def test_a_tie_is_no_find_in_a_batch() -> None:
    """A model that gives every pair one score has learnt nothing, and recalls nothing at 1."""
    assert 0.0 == batch_hits_at_k(np.ones((4, 4)), k=1).mean()
    assert 1.0 == batch_hits_at_k(np.ones((4, 4)), k=4).mean()


def test_roc_auc_is_the_share_of_ordered_pairs() -> None:
    """Of the four (relevant, other) pairs three are in order: 0.9 > 0.8, 0.9 > 0.1, 0.7 > 0.1, but 0.7 < 0.8."""
    relevant = np.array([True, False, True, False])

    assert 0.75 == roc_auc(relevant, np.array([0.9, 0.8, 0.7, 0.1]))


def test_roc_auc_of_one_kind_of_pairs_is_undefined() -> None:
    """None, rather than a number that means nothing."""
    for kind in (True, False):
        assert roc_auc(np.full(3, kind), np.arange(3.0)) is None


def test_roc_auc_by_query_compares_within_a_query_only() -> None:
    """Query 0 is in order, query 1 the wrong way round, query 2 has no relevant pair, query 3 has no pair."""
    relevant = np.array([True, False, True, False, False])
    scores = np.array([0.2, 0.1, 0.8, 0.9, 0.5])

    values = roc_auc_by_query(relevant, scores, np.array([0, 0, 1, 1, 2]), queries=4)

    np.testing.assert_equal(values, [1.0, 0.0, np.nan, np.nan])


def test_precision_counts_the_share_of_places_well_used() -> None:
    """One of the first two is relevant; of four places one is relevant, two are wrong and one stayed empty."""
    ranked = np.array([4, 1, 2, -1])

    assert 0.5 == precision_at_k(ranked, np.array([1, 9]), k=2)
    assert 0.25 == precision_at_k(ranked, np.array([1, 9]), k=4)
    assert 0.0 == precision_at_k(ranked, np.array([], dtype=np.int64), k=4)


def test_recall_counts_the_share_of_relevant_products() -> None:
    """One of two relevant products is among the first two; of three, two fit and one of them is there."""
    ranked = np.array([4, 1, 2, -1])

    assert 0.5 == recall_at_k(ranked, np.array([1, 9]), k=2)
    assert 0.5 == recall_at_k(ranked, np.array([1, 2, 9]), k=2)
    assert 2 / 3 == recall_at_k(ranked, np.array([1, 2, 9]), k=4)


def test_ndcg_discounts_by_rank() -> None:
    """Ratings 0 then 3, where 3 then 1 was best: 7 / log2(3) against 7 + 1 / log2(3)."""
    value = ndcg_at_k(np.array([0, 3]), np.array([1, 3]), k=2)

    assert (7 / math.log2(3)) / (7 + 1 / math.log2(3)) == pytest.approx(value)


@given(ratings.filter(any), st.integers(1, 15), st.randoms())
def test_ndcg_lies_between_0_and_1_and_is_1_for_the_best_order(values: list[int], k: int, random: st.randoms) -> None:
    """Whatever the ratings; any order of them gives no more than the sorted one."""
    ideal = np.array(values)
    shuffled = np.array(random.sample(values, len(values)))

    assert 1.0 == pytest.approx(ndcg_at_k(np.sort(ideal)[::-1], ideal, k=k))
    assert 0.0 <= ndcg_at_k(shuffled, ideal, k=k) <= 1.0 + 1e-12


@given(st.permutations(range(20)), st.sets(st.integers(0, 25), min_size=1), st.integers(1, 24))
def test_recall_lies_between_0_and_1(order: list[int], relevant: set[int], k: int) -> None:
    """And is 1 as soon as the list holds every relevant product and k covers it."""
    value = recall_at_k(np.array(order), np.array(sorted(relevant)), k=k)

    assert 0.0 <= value <= 1.0
    if relevant <= set(order) and k >= 20:
        assert 1.0 == value


@given(st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=1, max_size=30))
def test_negated_scores_mirror_the_roc_auc(pairs: list[tuple[bool, int]]) -> None:
    """A ranking upside down wins where it lost; ties stay half."""
    relevant = np.array([kind for kind, _ in pairs])
    scores = np.array([score for _, score in pairs], dtype=float)
    value, mirrored = roc_auc(relevant, scores), roc_auc(relevant, -scores)

    assert (value is None) == (mirrored is None)
    if value is not None and mirrored is not None:
        assert 1.0 == pytest.approx(value + mirrored)


@given(st.integers(1, 8), st.integers(0, 1000))
def test_batch_recall_never_falls_with_k(size: int, seed: int) -> None:
    """And is 1 when k is the whole batch."""
    scores = np.random.default_rng(seed).integers(0, 4, (size, size)).astype(float)
    values = [batch_hits_at_k(scores, k=k).mean() for k in range(1, size + 1)]

    assert sorted(values) == values
    assert 1.0 == values[-1]
