"""How well a system retrieves: every figure of Que2Search 3.4, and those of rated search, whole and by slices."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.data.schema import RELEVANT
from models.evaluation.bootstrap import (
    ROUNDS,
    Estimate,
    Statistic,
    difference,
    estimate,
    mean_over,
    roc_auc_over,
)
from models.evaluation.metrics import batch_hits_at_k, ndcg_at_k, precision_at_k, recall_at_k, roc_auc_by_query
from models.evaluation.slices import Slice, slices, whole
from models.evaluation.systems import System
from models.evaluation.task import EvaluationTask

K = 10
METRICS = {  # name -> what the report's tables call it
    "batch_recall_at_1": "batch recall@1",
    "batch_recall_at_10": "batch recall@10",
    "roc_auc": "ROC AUC",
    "query_roc_auc": "query-mean AUC",
    "knn_recall_at_10": "KNN recall@10",
    "recall_at_10": "recall@10",
    "ndcg_at_10": "nDCG@10",
    "precision_at_10": "precision@10",
    "judged_recall_at_10": "judged recall@10",
    "judged_ndcg_at_10": "judged nDCG@10",
    "judged_precision_at_10": "judged precision@10",
}


class Observations(NamedTuple):
    """What a system did with each test pair, rating and query. NaN: not measurable there."""

    batch_hits_at_1: np.ndarray  # (p,) float: found among its batch's documents; NaN in the batch left over
    batch_hits_at_10: np.ndarray  # (p,)
    knn_hits_at_10: np.ndarray  # (p,) float: the logged product is among the first ten
    scores: np.ndarray  # (j,) float32, of the rated pairs
    query_roc_auc: np.ndarray  # (q,)
    recall_at_10: np.ndarray  # (q,) unjudged products count as wrong
    ndcg_at_10: np.ndarray  # (q,)
    precision_at_10: np.ndarray  # (q,) KNN precision; unjudged products count as wrong
    judged_recall_at_10: np.ndarray  # (q,) the ranking of the judged products alone
    judged_ndcg_at_10: np.ndarray  # (q,)
    judged_precision_at_10: np.ndarray  # (q,) over the judged products there are, where they are fewer than ten


@dataclass(frozen=True, kw_only=True)
class SliceResult:
    """One system's figures on one part of the task; None where it holds nothing to measure them on."""

    family: str
    label: str
    pairs: int
    judged_queries: int  # what precision, recall and nDCG are means over; ROC AUC and KNN recall count pairs
    metrics: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class SystemResult:
    """One system's figures: whole with intervals, and by slices."""

    name: str
    metrics: Mapping[str, Estimate | None]
    slices: list[SliceResult]
    languages: Mapping[str, Estimate | None]  # ROC AUC by the query's language


def observe(task: EvaluationTask, system: System, *, batch: int, seed: int = 0, retrieve: bool = True) -> Observations:
    """Ask the system everything once. `batch` is that of batch recall: the paper trains and measures with 768.

    Without `retrieve` no product is searched for, and whatever needs the nearest ten is not measurable.
    """
    nearest = system.nearest(np.arange(len(task.queries)), k=K) if retrieve else None  # (q, K)
    scores = system.scores(task.judged[:, 0], task.judged[:, 1])
    hits_1, hits_10 = _batch_hits(task, system, batch=batch, seed=seed)
    return Observations(
        hits_1,
        hits_10,
        _knn_hits(task, nearest),
        scores,
        roc_auc_by_query(task.ratings >= RELEVANT, scores, task.judged[:, 0], queries=len(task.queries)),
        *_rated_search(task, nearest, scores),
    )


def result(
    task: EvaluationTask, observed: Observations, *, name: str, rounds: int = ROUNDS, seed: int = 0
) -> SystemResult:
    """The figures of `observed`, with intervals by bootstrap over queries for the whole."""

    def estimated(metric: Statistic) -> Estimate | None:
        return estimate(metric, queries=len(task.queries), rounds=rounds, seed=seed)

    parts = slices(task)
    return SystemResult(
        name=name,
        metrics={metric: estimated(found) for metric, found in statistics(task, observed, whole(task)).items()},
        slices=[_slice_result(task, observed, part) for part in parts],
        languages={
            part.label: estimated(statistics(task, observed, part)["roc_auc"])
            for part in parts
            if part.family == "language"
        },
    )


def compare(
    task: EvaluationTask, one: Observations, other: Observations, *, rounds: int = ROUNDS, seed: int = 0
) -> dict[str, Estimate | None]:
    """By metric `one` minus `other` over the same resampled queries: an interval above 0 is a real gain."""
    ones, others = (statistics(task, observed, whole(task)) for observed in (one, other))
    return {
        metric: estimate(difference(ones[metric], others[metric]), queries=len(task.queries), rounds=rounds, seed=seed)
        for metric in METRICS
    }


def statistics(task: EvaluationTask, observed: Observations, part: Slice) -> dict[str, Statistic]:
    """By metric, the figure on a slice as a function of how often each query counts."""
    query, judged = task.pairs[:, 0], part.judged
    pairs = (observed.batch_hits_at_1, observed.batch_hits_at_10, observed.knn_hits_at_10)
    per_query = (
        observed.recall_at_10,
        observed.ndcg_at_10,
        observed.precision_at_10,
        observed.judged_recall_at_10,
        observed.judged_ndcg_at_10,
        observed.judged_precision_at_10,
    )
    batch_1, batch_10, knn = (_over_pairs(hits, part.pairs, query, queries=len(task.queries)) for hits in pairs)
    return dict(
        zip(
            METRICS,
            [
                batch_1,
                batch_10,
                roc_auc_over(task.ratings[judged] >= RELEVANT, observed.scores[judged], task.judged[judged, 0]),
                mean_over(np.where(part.queries, observed.query_roc_auc, np.nan)),
                knn,
                *(mean_over(np.where(part.queries, values, np.nan)) for values in per_query),
            ],
            strict=True,
        )
    )


def _over_pairs(hits: np.ndarray, wanted: np.ndarray, query: np.ndarray, *, queries: int) -> Statistic:
    """The mean over pairs, resampled by query."""
    measured = wanted & ~np.isnan(hits)
    counts = np.bincount(query[measured], minlength=queries)
    sums = np.bincount(query[measured], hits[measured], minlength=queries)
    return mean_over(sums / np.maximum(counts, 1), counts=counts)


def _batch_hits(task: EvaluationTask, system: System, *, batch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Batch recall's hits at 1 and at 10 of every test pair that fits a full batch (or the only one)."""
    hits = np.full((2, len(task.pairs)), np.nan)
    order = np.random.default_rng(seed).permutation(len(task.pairs))
    size = min(batch, len(task.pairs))
    positives = _keys(task, task.pairs[:, 0], task.pairs[:, 1])
    for start in range(0, len(order) - size + 1, size) if size else ():
        at = order[start : start + size]
        queries, products = np.repeat(task.pairs[at, 0], size), np.tile(task.pairs[at, 1], size)
        scores = system.scores(queries, products).reshape(size, size)
        # What else the query is known to want is no mistake, as in training.
        wanted = np.isin(_keys(task, queries, products), positives).reshape(size, size)
        np.fill_diagonal(wanted, val=False)
        scores[wanted] = -np.inf
        hits[0, at], hits[1, at] = batch_hits_at_k(scores, k=1), batch_hits_at_k(scores, k=K)
    return hits[0], hits[1]


def _keys(task: EvaluationTask, queries: np.ndarray, products: np.ndarray) -> np.ndarray:
    keys: np.ndarray = queries * len(task.product_languages) + products
    return keys


def _knn_hits(task: EvaluationTask, nearest: np.ndarray | None) -> np.ndarray:
    """(p,) float: the logged product is among the nearest ten."""
    if nearest is None:
        return np.full(len(task.pairs), np.nan)
    hits: np.ndarray = (nearest[task.pairs[:, 0]] == task.pairs[:, 1:]).any(axis=1).astype(float)
    return hits


def _rated_search(task: EvaluationTask, nearest: np.ndarray | None, scores: np.ndarray) -> tuple[np.ndarray, ...]:
    """(q,) each: recall@10, nDCG@10, precision@10, and the three over the judged products alone."""
    values = np.full((6, len(task.queries)), np.nan)
    for query, products, ratings, own_scores in _judged_queries(task, scores):
        if nearest is not None:
            values[:3, query] = _rated_list(nearest[query], products, ratings, places=K)
        by_score = products[np.lexsort((products, -own_scores))]
        values[3:, query] = _rated_list(by_score, products, ratings, places=min(K, len(products)))
    return tuple(values)


def _rated_list(
    ranked: np.ndarray, products: np.ndarray, ratings: np.ndarray, *, places: int
) -> tuple[float, float, float]:
    """A ranking's recall@10, nDCG@10, and precision over its first `places`; NaN where nothing could be found."""
    rating_of = dict(zip(products.tolist(), ratings.tolist(), strict=True))
    gains = np.array([rating_of.get(product, 0) for product in ranked.tolist()])
    relevant = products[ratings >= RELEVANT]
    return (
        recall_at_k(ranked, relevant, k=K) if len(relevant) else np.nan,
        ndcg_at_k(gains, ratings, k=K) if ratings.any() else np.nan,
        precision_at_k(ranked, relevant, k=places),
    )


def _judged_queries(
    task: EvaluationTask, scores: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Per rated query: its row, and its products, their ratings and their scores."""
    order = np.argsort(task.judged[:, 0], kind="stable")
    starts = np.flatnonzero(np.diff(task.judged[order, 0], prepend=-1))
    for at in np.split(order, starts[1:]) if len(order) else []:
        yield int(task.judged[at[0], 0]), task.judged[at, 1], task.ratings[at], scores[at]


def _slice_result(task: EvaluationTask, observed: Observations, part: Slice) -> SliceResult:
    ones = np.ones(len(task.queries))
    rated = np.bincount(task.judged[:, 0], minlength=len(task.queries)) > 0
    return SliceResult(
        family=part.family,
        label=part.label,
        pairs=int(part.pairs.sum()),
        judged_queries=int((rated & part.queries).sum()),
        metrics={metric: statistic(ones) for metric, statistic in statistics(task, observed, part).items()},
    )
