import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.bootstrap import difference, estimate, mean_over, roc_auc_over
from models.evaluation.metrics import roc_auc


def test_the_mean_leaves_out_what_is_undefined() -> None:
    """The mean of 1, NaN and 0 is 1/2, with or without the query that has no value."""
    found = estimate(mean_over(np.array([1.0, np.nan, 0.0])), queries=3, rounds=50)

    assert found is not None
    assert 0.5 == found.value


def test_counts_make_it_a_mean_over_pairs() -> None:
    """Three pairs at 1 and one at 0 are 3/4."""
    found = estimate(mean_over(np.array([1.0, 0.0]), counts=np.array([3, 1])), queries=2, rounds=50)

    assert found is not None
    assert 0.75 == found.value


def test_nothing_to_measure_gives_no_estimate() -> None:
    """No queries, or none with a value."""
    assert estimate(mean_over(np.array([])), queries=0) is None
    assert estimate(mean_over(np.array([np.nan, np.nan])), queries=2) is None


def test_equal_values_have_no_spread() -> None:
    """Resampling equal numbers changes nothing."""
    assert (0.3, 0.3, 0.3) == pytest.approx(estimate(mean_over(np.full(20, 0.3)), queries=20, rounds=100))


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    """400 queries, half of them found: 0.5 +- 1.96 * 0.5 / 20, that is 0.451 to 0.549."""
    found = estimate(mean_over(np.arange(400) % 2 * 1.0), queries=400, rounds=2000)

    assert found is not None
    assert (0.5, 0.451, 0.549) == pytest.approx(found, abs=0.006)


def test_a_paired_difference_is_sharper_than_its_parts() -> None:
    """One system that is better by 0.1 on every query: the difference is certain, though each mean is not."""
    values = np.random.default_rng(0).random(30)
    found = estimate(difference(mean_over(values + 0.1), mean_over(values)), queries=30, rounds=200)

    assert (0.1, 0.1, 0.1) == pytest.approx(found)


def test_equal_seeds_give_equal_intervals() -> None:
    """A report can be made again."""
    statistic = mean_over(np.random.default_rng(0).random(30))

    assert estimate(statistic, queries=30, seed=3) == estimate(statistic, queries=30, seed=3)
    assert estimate(statistic, queries=30, seed=3) != estimate(statistic, queries=30, seed=4)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30))
def test_the_weighted_roc_auc_is_that_of_the_repeated_pairs(pairs: list[tuple[bool, int, int]]) -> None:
    """A query that counts twice is its pairs written twice."""
    relevant, scores, query = (np.array(column) for column in zip(*pairs, strict=True))
    weights = np.array([0.0, 1.0, 2.0, 3.0])
    repeats = weights[query].astype(int)

    expected = roc_auc(relevant.repeat(repeats), scores.repeat(repeats))

    assert expected == pytest.approx(roc_auc_over(relevant, scores, query)(weights))
