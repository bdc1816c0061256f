"""Exact search: every vector is compared. The yardstick of the others, and the effort `exact`."""

import numpy as np

from index.ann import Hits, check_search

_SCORES_AT_ONCE = 1 << 24  # 64 MB of float32: bounds memory when many queries meet many vectors


class ExactIndex:
    """Keeps the protocol of `index.ann.AnnIndex` with plain matrix products over the vectors as they lie (mmap or not).

    Args:
        vectors: (count, dim) float32.
        numbers: (count,) product numbers, ascending; the rows themselves when left out.
    """

    nlist = None

    def __init__(self, vectors: np.ndarray, *, numbers: np.ndarray | None = None) -> None:
        self._vectors = np.asarray(vectors)
        self._numbers = np.arange(len(vectors)) if numbers is None else np.asarray(numbers)
        self.count, self.dim = self._vectors.shape

    def search(self, queries: np.ndarray, *, nprobe: int | None = None, candidates: int) -> Hits:
        """See `AnnIndex.search`; nprobe must be None. Among equal scores the smaller product number wins the last place."""
        check_search(self, queries, nprobe=nprobe, candidates=candidates)
        numbers = np.full((len(queries), candidates), -1, dtype=np.int64)
        scores = np.full((len(queries), candidates), -np.inf, dtype=np.float32)
        step = max(1, _SCORES_AT_ONCE // max(1, self.count))
        for start in range(0, len(queries), step):
            block = queries[start : start + step] @ self._vectors.T  # (step, count)
            for i, row_scores in enumerate(block, start):
                rows = best_rows(row_scores, candidates)
                numbers[i, : len(rows)] = self._numbers[rows]
                scores[i, : len(rows)] = row_scores[rows]
        return Hits(numbers, scores)

    def codes_scanned(self, queries: np.ndarray, *, nprobe: int | None = None) -> np.ndarray:
        """See `AnnIndex.codes_scanned`: all of them."""
        check_search(self, queries, nprobe=nprobe, candidates=1)
        return np.full(len(queries), self.count, dtype=np.int64)


def best_rows(scores: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k highest scores, sorted by (-score, row), ties at the k-th place included by row."""
    rows = np.arange(len(scores))
    if k < len(scores):
        rows = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    order = np.lexsort((rows, -scores[rows]))[:k]
    best: np.ndarray = rows[order]
    return best
