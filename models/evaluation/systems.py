"""Whatever ranks products for queries: two towers' vectors, or words."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from index.exact import ExactIndex
from index.lexical import LexicalIndex

_PAIRS_AT_ONCE = 1 << 16  # at 128 dimensions 32 MB a side


class System(Protocol):
    """Ranks the products of one `EvaluationTask`; queries and products are its rows."""

    @property
    def name(self) -> str: ...

    def nearest(self, queries: np.ndarray, *, k: int) -> np.ndarray:
        """(n, k) int64 product rows for the (n,) query rows, best first, equals by row; -1 where nothing is left."""
        ...

    def scores(self, queries: np.ndarray, products: np.ndarray) -> np.ndarray:
        """(p,) float32: the score of each (query row, product row)."""
        ...


class VectorSystem:
    """Exact search by inner product.

    Args:
        query_vectors: (q, d) float32 in the order of the task's queries.
        product_vectors: (n, d) float32 in the order of the task's products.
    """

    def __init__(self, name: str, *, query_vectors: np.ndarray, product_vectors: np.ndarray) -> None:
        self.name = name
        self._queries = query_vectors
        self._products = product_vectors
        self._exact = ExactIndex(product_vectors)

    def nearest(self, queries: np.ndarray, *, k: int) -> np.ndarray:
        """See `System`."""
        return self._exact.search(self._queries[queries], nprobe=None, candidates=k).numbers

    def scores(self, queries: np.ndarray, products: np.ndarray) -> np.ndarray:
        """See `System`."""
        scores = np.empty(len(queries), dtype=np.float32)
        for start in range(0, len(queries), _PAIRS_AT_ONCE):
            block = slice(start, start + _PAIRS_AT_ONCE)
            scores[block] = (self._queries[queries[block]] * self._products[products[block]]).sum(axis=1)
        return scores


class LexicalSystem:
    """BM25; product numbers are the task's product rows.

    Args:
        texts: (q,) the queries' texts in the order of the task's queries.
    """

    def __init__(self, name: str, *, lexical: LexicalIndex, texts: Sequence[str]) -> None:
        self.name = name
        self._lexical = lexical
        self._texts = texts

    def nearest(self, queries: np.ndarray, *, k: int) -> np.ndarray:
        """See `System`."""
        numbers = np.full((len(queries), k), -1, dtype=np.int64)
        for row, query in zip(numbers, queries, strict=True):
            found = self._lexical.search(self._texts[query], k=k).numbers
            row[: len(found)] = found
        return numbers

    def scores(self, queries: np.ndarray, products: np.ndarray) -> np.ndarray:
        """See `System`; 0 where query and product share no word."""
        scores = np.zeros(len(queries), dtype=np.float32)
        order = np.argsort(queries, kind="stable")
        starts = np.flatnonzero(np.diff(queries[order], prepend=-1))
        for group in np.split(order, starts[1:]) if len(order) else []:
            scores[group] = self._lexical.scores(self._texts[queries[group[0]]], products[group])
        return scores
