"""The figures that a ranking is judged by, over plain arrays.

q: queries, p: (query, product) pairs, b: batch, k: list length
"""

import numpy as np
from sklearn.metrics import roc_auc_score


def batch_hits_at_k(scores: np.ndarray, *, k: int) -> np.ndarray:
    """Whether each query of a batch finds its own document among the batch's: Que2Search 3.4, "batch recall@K".

    Args:
        scores: (b, b), row i of the queries against document j; the pair of row i stands on the diagonal.

    Returns:
        (b,) bool: fewer than k documents of the batch score at least as high as the own one. A tie is no find. Their
        mean is the batch recall@K.
    """
    own = np.diagonal(scores)[:, None]  # (b, 1)
    better: np.ndarray = (scores >= own).sum(axis=1) - 1  # without itself
    return better < k


def roc_auc(relevant: np.ndarray, scores: np.ndarray) -> float | None:
    """The chance that a relevant pair outscores one that is not, over all pairs: Que2Search 3.4, Table 4.

    Args:
        relevant: (p,) bool.
        scores: (p,), comparable across queries.

    Returns:
        None where the pairs are all of one kind.
    """
    if relevant.all() or not relevant.any():
        return None
    return float(roc_auc_score(relevant, scores))


def roc_auc_by_query(relevant: np.ndarray, scores: np.ndarray, query: np.ndarray, *, queries: int) -> np.ndarray:
    """(q,) ROC AUC within each query, NaN where it has pairs of one kind only; its mean is the query-mean ROC AUC.

    Args:
        relevant: (p,) bool.
        scores: (p,), compared within a query only.
        query: (p,) the query of each pair, 0 to queries - 1.
    """
    values = np.full(queries, np.nan)
    for at in np.unique(query):
        value = roc_auc(relevant[query == at], scores[query == at])
        values[at] = np.nan if value is None else value
    return values


def recall_at_k(ranked: np.ndarray, relevant: np.ndarray, *, k: int) -> float:
    """Of a query's relevant products, the share among the first k, over min(k, relevant).

    With the logged product as the only relevant one this is KNN recall@K (Que2Search 3.4).

    Args:
        ranked: (n,) products, best first; -1 where the list ran out.
        relevant: (r,) distinct products, r > 0.
    """
    return float(np.isin(relevant, ranked[:k]).sum() / min(k, len(relevant)))


def precision_at_k(ranked: np.ndarray, relevant: np.ndarray, *, k: int) -> float:
    """The share of relevant products among the first k; a place that the list leaves empty is no find.

    Over the products nearest to a query this is KNN precision (Que2Search 3.4).

    Args:
        ranked: (n,) distinct products, best first; -1 where the list ran out.
        relevant: (r,) products.
    """
    return float(np.isin(ranked[:k], relevant).sum() / k)


def ndcg_at_k(gains: np.ndarray, ideal: np.ndarray, *, k: int) -> float:
    """Normalised discounted cumulative gain, a rating r counting 2^r - 1 and rank i being discounted by log2(i + 1).

    Args:
        gains: (n,) ratings of the ranked products, best rank first; 0 for the unjudged.
        ideal: (r,) all ratings of the query, in any order, one of them above 0.
    """
    return _dcg(gains[:k]) / _dcg(np.sort(ideal)[::-1][:k])


def _dcg(ratings: np.ndarray) -> float:
    return float(((2.0**ratings - 1.0) / np.log2(np.arange(len(ratings)) + 2.0)).sum())
