"""Exact search: every vector is compared. The yardstick of the others, and the effort `exact`."""

import faiss
import numpy as np

from index.ann import Hits, check_search


class ExactIndex:
    """Keeps the protocol of `index.ann.AnnIndex` by comparing every vector where it lies, mapped or in memory.

    Args:
        vectors: (count, dim) float32, contiguous; never copied.
        numbers: (count,) product numbers, ascending; the rows themselves when left out.
    """

    def __init__(self, vectors: np.ndarray, *, numbers: np.ndarray | None = None) -> None:
        self._vectors = np.asarray(vectors)
        self._numbers = np.arange(len(vectors)) if numbers is None else np.asarray(numbers)
        self.count, self.dim = self._vectors.shape
        self.nlist: int | None = None

    def search(self, queries: np.ndarray, *, nprobe: int | None = None, candidates: int) -> Hits:
        """See `AnnIndex.search`; nprobe must be None. Of equal scores the smaller number takes the last place."""
        check_search(self, queries, nprobe=nprobe, candidates=candidates)
        numbers = np.full((len(queries), candidates), -1, dtype=np.int64)
        scores = np.full((len(queries), candidates), -np.inf, dtype=np.float32)
        for i, query in enumerate(np.ascontiguousarray(queries, dtype=np.float32)):
            products = self._inner_products(query)
            rows = best_rows(products, candidates)
            numbers[i, : len(rows)] = self._numbers[rows]
            scores[i, : len(rows)] = products[rows]
        return Hits(numbers, scores)

    def codes_scanned(self, queries: np.ndarray, *, nprobe: int | None = None) -> np.ndarray:
        """See `AnnIndex.codes_scanned`: all of them."""
        check_search(self, queries, nprobe=nprobe, candidates=1)
        return np.full(len(queries), self.count, dtype=np.int64)

    def _inner_products(self, query: np.ndarray) -> np.ndarray:
        """(count,) float32."""
        # Vectors inside an index file start at any byte: NumPy would copy them all to align them, this kernel does not.
        products = np.empty(self.count, dtype=np.float32)
        faiss.fvec_inner_products_ny(  # type: ignore[attr-defined]  # missing in its stubs
            faiss.swig_ptr(products), faiss.swig_ptr(query), faiss.swig_ptr(self._vectors), self.dim, self.count
        )
        return products


def best_rows(scores: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k highest scores, sorted by (-score, row); of equal ones at the k-th place the first rows."""
    rows = np.arange(len(scores))
    if k < len(scores):
        rows = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    order = np.lexsort((rows, -scores[rows]))[:k]
    best: np.ndarray = rows[order]
    return best
