"""Bootstrap intervals over queries."""

import numpy as np
import pytest

from index.intervals import ROUNDS, mean_intervals, resampled_sums


def test_an_interval_is_as_wide_as_it_should_be() -> None:
    """Half of 400 queries find 1 and half 0: the mean's standard error is 0.5 / 20, so 0.5 +- 0.049."""
    ((low, high),) = mean_intervals(np.repeat([0.0, 1.0], 200)[:, None])

    assert (0.451, 0.549) == pytest.approx((low, high), abs=0.006)


def test_where_all_agree_there_is_no_width() -> None:
    """Each column has its own interval."""
    assert [(0.25, 0.25), (1.0, 1.0)] == mean_intervals(np.array([[0.25, 1.0]] * 7))


def test_columns_share_the_drawn_queries() -> None:
    """What one column gains the other loses, round by round; as many queries are drawn as there are."""
    first, second = resampled_sums(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])).T

    assert (ROUNDS,) == first.shape
    assert {3.0} == set(first + second)
    assert 1 < len(set(first))
