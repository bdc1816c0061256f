"""Percentile intervals by bootstrap over queries: what another sample of queries might have shown."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

ROUNDS = 1_000
CONFIDENCE = 0.95

Statistic = Callable[[np.ndarray], float | None]  # (q,) how often each query counts -> figure; None: undefined


class Estimate(NamedTuple):
    """A figure over all queries, and where 95 % of the resampled ones lie."""

    value: float
    low: float
    high: float


def estimate(statistic: Statistic, *, queries: int, rounds: int = ROUNDS, seed: int = 0) -> Estimate | None:
    """The statistic over all queries with its interval; None where it is undefined there.

    Equal seeds resample equally, so that the figures of two systems over one set of queries are comparable.
    """
    value = statistic(np.ones(queries)) if queries else None
    if value is None:
        return None
    rng = np.random.default_rng(seed)
    draws = (rng.multinomial(queries, np.full(queries, 1 / queries)) for _ in range(rounds))
    resampled = [drawn for drawn in map(statistic, draws) if drawn is not None]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled or [value], [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def difference(one: Statistic, other: Statistic) -> Statistic:
    """The paired difference: both statistics over the same resampled queries."""

    def statistic(weights: np.ndarray) -> float | None:
        first, second = one(weights), other(weights)
        return None if first is None or second is None else first - second

    return statistic


def mean_over(values: np.ndarray, *, counts: np.ndarray | None = None) -> Statistic:
    """The mean of (q,) values, NaN ones left out.

    With counts (q,) a query's value stands for that many pairs, and the mean is that over pairs.
    """
    known = ~np.isnan(values) if counts is None else counts > 0
    filled = np.where(known, values, 0.0)
    sizes = known.astype(float) if counts is None else counts.astype(float)

    def statistic(weights: np.ndarray) -> float | None:
        total = float(weights @ sizes)
        return float(weights @ (filled * sizes)) / total if total else None

    return statistic


def roc_auc_over(relevant: np.ndarray, scores: np.ndarray, query: np.ndarray) -> Statistic:
    """The pooled ROC AUC of (p,) pairs, `query` being the query of each; sorted once for all rounds."""
    levels, level = np.unique(scores, return_inverse=True)

    def statistic(weights: np.ndarray) -> float | None:
        counts = weights[query]
        wanted = np.bincount(level, counts * relevant, minlength=len(levels))
        others = np.bincount(level, counts * ~relevant, minlength=len(levels))
        pairs = wanted.sum() * others.sum()
        outscored = np.cumsum(others) - others / 2  # a tie is half a win
        return float(wanted @ outscored / pairs) if pairs else None

    return statistic
