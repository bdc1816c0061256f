"""Exact search: every vector is compared. The yardstick of the others, and the effort `exact`."""

import faiss
import numpy as np

from index.ann import Hits, IndexStats, Ranked, RowFilter, check_search


class ExactIndex:
    """Keeps the protocol of `index.ann.AnnIndex` by comparing every vector where it lies, mapped or in memory.

    Args:
        vectors: (count, dim) float32, contiguous; never copied.
        numbers: (count,) product numbers, ascending; the rows themselves when left out.
    """

    def __init__(self, vectors: np.ndarray, *, numbers: np.ndarray | None = None) -> None:
        self.vectors = np.asarray(vectors)
        self._numbers = np.arange(len(vectors)) if numbers is None else np.asarray(numbers)
        self.count, self.dim = self.vectors.shape
        self.nlist: int | None = None

    def search(
        self, queries: np.ndarray, *, nprobe: int | None = None, candidates: int, only: RowFilter | None = None
    ) -> Hits:
        """See `AnnIndex.search`; nprobe must be None. Of equal scores the smaller number takes the last place."""
        check_search(self, queries, nprobe=nprobe, candidates=candidates, only=only)
        numbers = np.full((len(queries), candidates), -1, dtype=np.int64)
        scores = np.full((len(queries), candidates), -np.inf, dtype=np.float32)
        rows = None if only is None else only.rows()
        for i, query in enumerate(np.ascontiguousarray(queries, dtype=np.float32)):
            products = self._inner_products(query, rows)
            best = best_rows(products, candidates)
            numbers[i, : len(best)] = self._numbers[best if rows is None else rows[best]]
            scores[i, : len(best)] = products[best]
        return Hits(numbers, scores)

    def rescore(self, query: np.ndarray, rows: np.ndarray) -> Hits:
        """All of the given rows for one query, (1, dim) float32, as a list of (1, len(rows))."""
        products = self._inner_products(np.ascontiguousarray(query[0], dtype=np.float32), rows)
        order = np.lexsort((rows, -products))
        return Hits(self._numbers[rows[order]].astype(np.int64)[None], products[order][None])

    def within(
        self, queries: np.ndarray, *, nprobe: int | None = None, min_score: float, only: RowFilter | None = None
    ) -> list[Ranked]:
        """See `AnnIndex.within`; nprobe must be None, and none is missing."""
        check_search(self, queries, nprobe=nprobe, only=only)
        rows = None if only is None else only.rows()
        lists = []
        for query in np.ascontiguousarray(queries, dtype=np.float32):
            products = self._inner_products(query, rows)
            near = np.flatnonzero(products >= np.float32(min_score))
            near = near[np.lexsort((near, -products[near]))]
            numbers = self._numbers[near if rows is None else rows[near]].astype(np.int64)
            lists.append(Ranked(numbers, products[near]))
        return lists

    def codes_scanned(self, queries: np.ndarray, *, nprobe: int | None = None) -> np.ndarray:
        """See `AnnIndex.codes_scanned`: all of them."""
        check_search(self, queries, nprobe=nprobe)
        return np.full(len(queries), self.count, dtype=np.int64)

    def stats(self) -> IndexStats:
        """See `AnnIndex.stats`: the vectors."""
        return IndexStats(self.count, self.dim, None, 4.0 * self.dim)

    def _inner_products(self, query: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """(count,) float32, or (len(rows),) with some rows alone."""
        return inner_products(query, self.vectors, rows)


def inner_products(query: np.ndarray, vectors: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """The inner product of (dim,) float32 `query` with each vector, on the calling thread alone.

    Args:
        query: contiguous.
        vectors: (count, dim) float32, contiguous.
        rows: (r,) int64, which to compare; None: all.

    Returns:
        (count,) or (r,) float32.
    """
    # Vectors inside an index file start at any byte: NumPy would copy them all to align them, these kernels do not.
    count, dim = vectors.shape
    products = np.empty(count if rows is None else len(rows), dtype=np.float32)
    out, x, y = (faiss.swig_ptr(array) for array in (products, query, vectors))
    if rows is None:
        faiss.fvec_inner_products_ny(out, x, y, dim, count)  # type: ignore[attr-defined]  # not in its stubs
    else:
        ids = faiss.swig_ptr(rows)
        faiss.fvec_inner_products_by_idx(out, x, y, ids, dim, 1, len(rows))  # type: ignore[attr-defined]
    return products


def best_rows(scores: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k highest scores, sorted by (-score, row); of equal ones at the k-th place the first rows."""
    rows = np.arange(len(scores))
    if k < len(scores):
        rows = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    order = np.lexsort((rows, -scores[rows]))[:k]
    best: np.ndarray = rows[order]
    return best
