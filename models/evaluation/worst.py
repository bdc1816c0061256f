"""The queries that a system serves worst, with what was wanted and what came: where to look for what to mend."""

from collections.abc import Sequence

import numpy as np

from models.data.schema import RELEVANT
from models.evaluation.page_sections import Retrieved, WorstQuery
from models.evaluation.retrieval import METRICS, K, Observations
from models.evaluation.systems import System
from models.evaluation.task import EvaluationTask


def worst_queries(
    task: EvaluationTask, system: System, observed: Observations, *, titles: Sequence[str], count: int = 10
) -> list[WorstQuery]:
    """The `count` queries of the lowest nDCG@10, or without ratings of the lowest KNN recall@10; lowest first.

    Of equally bad ones those for which more products were wanted come first.

    Args:
        observed: what the system did on the task.
        titles: (n,) of the products.
    """
    metric, values = "ndcg_at_10", observed.ndcg_at_10
    if np.isnan(values).all():
        metric, values = "knn_recall_at_10", _mean_by_query(task, observed.knn_hits_at_10)
    wanted = _wanted(task)
    amounts = np.array([len(products) for products in wanted])
    measured = np.flatnonzero(~np.isnan(values))
    chosen = measured[np.lexsort((-amounts[measured], values[measured]))][:count]
    nearest = system.nearest(chosen, k=K)
    return [
        WorstQuery(
            query=task.queries["query"][query],
            country=task.queries["country"][query],
            metric=METRICS[metric],
            value=float(values[query]),
            wanted=[titles[product] for product in sorted(wanted[query])],
            retrieved=_retrieved(task, system, query, found[found >= 0], wanted[query], titles),
        )
        for query, found in zip(chosen.tolist(), nearest, strict=True)
    ]


def _retrieved(
    task: EvaluationTask, system: System, query: int, found: np.ndarray, wanted: set[int], titles: Sequence[str]
) -> list[Retrieved]:
    judged = set(task.judged[task.judged[:, 0] == query, 1].tolist())
    scores = system.scores(np.full(len(found), query), found)
    return [
        Retrieved(titles[product], float(score), product in wanted if product in wanted | judged else None)
        for product, score in zip(found.tolist(), scores, strict=True)
    ]


def _wanted(task: EvaluationTask) -> list[set[int]]:
    """By query the products that were logged for it or rated relevant."""
    wanted: list[set[int]] = [set() for _ in range(len(task.queries))]
    for query, product in np.concatenate([task.pairs, task.judged[task.ratings >= RELEVANT]]).tolist():
        wanted[query].add(product)
    return wanted


def _mean_by_query(task: EvaluationTask, hits: np.ndarray) -> np.ndarray:
    """(q,) the mean over each query's pairs; NaN where it has none."""
    query, queries = task.pairs[:, 0], len(task.queries)
    counts = np.bincount(query, minlength=queries)
    return np.where(counts, np.bincount(query, hits, minlength=queries) / np.maximum(counts, 1), np.nan)
