"""Intervals by bootstrap over queries: what another sample of queries might have shown."""

from typing import NamedTuple

import numpy as np

ROUNDS = 1_000
CONFIDENCE = 0.95
_BLOCK = 1 << 23  # query counts drawn at a time: bounds the memory where there are many queries


class Interval(NamedTuple):
    """Where 95 % of the resampled figures lie."""

    low: float
    high: float


def resampled_sums(values: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Sums over queries drawn with replacement, as many as there are: (q, m) values give (ROUNDS, m).

    Equal seeds draw equal queries, so that columns of one or of several calls may be compared pairwise.
    """
    queries = len(values)
    draw = np.random.default_rng(seed)
    sums = np.empty((ROUNDS, values.shape[1]))
    step = max(1, _BLOCK // queries)
    for start in range(0, ROUNDS, step):
        rounds = min(step, ROUNDS - start)
        drawn = draw.integers(queries, size=(rounds, queries)) + queries * np.arange(rounds)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rounds * queries).reshape(rounds, queries)
        sums[start : start + rounds] = counts.astype(np.float32) @ values.astype(np.float32)
    return sums


def intervals(resampled: np.ndarray) -> list[Interval]:
    """The interval of each column of (ROUNDS, m) resampled figures."""
    tail = (1 - CONFIDENCE) / 2
    lows, highs = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return [Interval(round(low, 6), round(high, 6)) for low, high in zip(lows.tolist(), highs.tolist(), strict=True)]


def mean_intervals(values: np.ndarray) -> list[Interval]:
    """The interval of the mean of each column of (q, m) values."""
    return intervals(resampled_sums(values) / len(values))
