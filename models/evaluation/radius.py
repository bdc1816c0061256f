"""Precision and consistency over the radius: what a looser minimum cosine lets in (Que2Search 6.3, 6.6).

The paper's failure: a looser radius found more and made search worse, because the rankers behind it could not handle
the noise. So each radius is judged by what it returns, and by what a ranker makes of that: here BM25, which knows
words and nothing else. q: queries, k: candidates, r: radii
"""

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from models.data.schema import RELEVANT
from models.evaluation.metrics import ndcg_at_k
from models.evaluation.plots import RadiusStudy
from models.evaluation.retrieval import K
from models.evaluation.systems import System
from models.evaluation.task import EvaluationTask

RADII = tuple(round(0.05 * step, 2) for step in range(19))  # minimum cosines 0 to 0.9
DEPTH = 1_000  # candidates at most, as in the service
QUERIES = 300  # rated ones, at most
KEPT_RECALL = 0.95
STEADY = 0.8  # of the ranker's first ten


def radius_study(
    task: EvaluationTask, system: System, ranker: System, *, radii: Sequence[float] = RADII, seed: int = 0
) -> RadiusStudy | None:
    """What each minimum cosine returns to rated queries, and what the ranker puts first of that.

    Args:
        system: returns candidates by cosine.
        ranker: orders them again; equals stay in the order of cosines.

    Returns:
        None where no query has a relevant product.
    """
    relevant = task.ratings >= RELEVANT
    rated = np.unique(task.judged[relevant, 0])
    if not len(rated):
        return None
    queries = np.sort(np.random.default_rng(seed).permutation(rated)[:QUERIES])
    found = system.nearest(queries, k=DEPTH)  # (q, k)
    asked = np.repeat(queries, found.shape[1]).reshape(found.shape)
    cosines, ranks = (np.full(found.shape, -np.inf, dtype=np.float32) for _ in range(2))
    there = found >= 0
    for into, scorer in ((cosines, system), (ranks, ranker)):
        into[there] = scorer.scores(asked[there], found[there])
    ratings = _ratings(task, asked, found)  # (q, k), -1 unjudged
    wanted = np.bincount(task.judged[relevant, 0], minlength=len(task.queries))[queries]  # (q,)
    ideals = [task.ratings[task.judged[:, 0] == query] for query in queries]
    order = np.argsort(-ranks, axis=1, kind="stable")  # the ranker's, of everything
    points, before = [], None
    for least in sorted(radii, reverse=True):  # from tight to loose
        inside = cosines >= least
        first = [ranked[kept[ranked]][:K] for ranked, kept in zip(order, inside, strict=True)]  # places among k
        hits, judged = (inside & (ratings >= RELEVANT)).sum(axis=1), (inside & (ratings >= 0)).sum()
        points.append(
            (
                least,
                inside.sum(axis=1).mean(),
                hits.sum() / judged if judged else np.nan,
                (hits / wanted).mean(),
                fmean(_ndcg(row[places], ideal) for row, places, ideal in zip(ratings, first, ideals, strict=True)),
                np.nan if before is None else fmean(_overlap(*pair) for pair in zip(before, first, strict=True)),
            )
        )
        before = first
    return RadiusStudy(*(np.array(column) for column in zip(*reversed(points), strict=True)))


def reading(study: RadiusStudy) -> list[str]:
    """What an operator should take from it, in sentences made of its numbers."""
    kept = np.flatnonzero(study.recall >= KEPT_RECALL * study.recall.max())[-1]
    best = int(np.argmax(study.ranked_ndcg))
    loosest = study.ranked_ndcg[0]
    cost = (
        f"A minimum cosine of {study.minimum_cosine[kept]:.2f} keeps {KEPT_RECALL:.0%} of the recall that is to be had "
        f"({study.recall[kept]:.3f} of {study.recall.max():.3f}), with {study.results[kept]:,.0f} results a query "
        f"instead of {study.results[0]:,.0f}."
    )
    noise = (
        f"A ranker that knows words alone does best on what {study.minimum_cosine[best]:.2f} lets in: nDCG@10 "
        f"{study.ranked_ndcg[best]:.3f}, "
        + (f"against {loosest:.3f} on the loosest radius." if best else "no radius is looser.")
    )
    said = [cost, noise]
    if best > 0 and loosest < study.ranked_ndcg[best]:
        said.append(
            "Looser than that, every further result is another chance for the ranker to err: widen the radius only "
            "together with the ranker."
        )
    unsteady = np.flatnonzero(study.overlap < STEADY)
    if len(unsteady):
        places = ", ".join(f"{study.minimum_cosine[at]:.2f}" for at in unsteady)
        said.append(
            f"Loosening to {places} changes more than {1 - STEADY:.0%} of the ranker's first ten: people see another "
            "list there, so try such a step on real traffic before it is made."
        )
    return said


def _ratings(task: EvaluationTask, queries: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Each (query, product)'s rating, -1 where nobody rated it."""
    judged = map(tuple, task.judged.tolist())
    rating_of = dict(zip(judged, task.ratings.tolist(), strict=True))
    pairs = zip(queries.ravel().tolist(), products.ravel().tolist(), strict=True)
    return np.array([rating_of.get(pair, -1) for pair in pairs]).reshape(queries.shape)


def _ndcg(ratings: np.ndarray, ideal: np.ndarray) -> float:
    return ndcg_at_k(np.maximum(ratings, 0), ideal, k=K)


def _overlap(tighter: np.ndarray, looser: np.ndarray) -> float:
    """Of the looser radius's first products, the share that the tighter one had shown; 1 where there are none."""
    return float(np.isin(looser, tighter).mean()) if len(looser) else 1.0
