"""An index's inverted lists, opened one by one: which of them to scan is decided here and not by Faiss.

A list is as good as the best product in it. Under a filter the nearest list may hold one allowed product and a list
behind it a hundred: the best of a hundred draws lies two and a half deviations above the centroid, and so counts for
more. Lists are therefore taken in the order of centroid's score + deviation x expected best of n standard draws.
"""

from statistics import NormalDist
from typing import Any, NamedTuple

import faiss
import numpy as np

from index.ann import FaissIndex, RowFilter, stay_serial

_LOOKED_AT = 4_096  # rows whose distance from their centroid is measured
_DIRECTIONS = 64  # ... along so many
_SEED = 7


class Coded(NamedTuple):
    """Rows with the scores of their codes, best first."""

    rows: np.ndarray  # (k,) int64
    scores: np.ndarray  # (k,) float32

    def merged(self, more: "Coded") -> "Coded":
        """All rows of both, best first."""
        rows, scores = (np.concatenate(pair) for pair in zip(self, more, strict=True))
        order = np.argsort(-scores, kind="stable")
        return Coded(rows[order], scores[order])


class Promising(NamedTuple):
    """Lists, and the score that the best of their allowed rows is expected to have; best first."""

    lists: np.ndarray  # (n,) int64
    expected: np.ndarray  # (n,) float32


class InvertedLists:
    """The lists of an index that has some. Safe to share between threads: no scan changes it.

    Args:
        ann: the index, of which nothing but the centroids is copied.
        vectors: (count, dim) float32, the exact ones of its rows; a few thousand of them are looked at.
    """

    def __init__(self, ann: FaissIndex, vectors: np.ndarray) -> None:
        self._ann = ann  # owns what `_base` is a view of
        self._base = ann.layers.base
        self.sizes = ann.list_sizes  # (nlist,) int64: codes per list
        self._centroids = self._base.quantizer.reconstruct_n(0, len(self.sizes))  # (nlist, d) float32
        self._of_row = np.empty(ann.count, dtype=np.int32)  # the list that holds each row
        for at in np.flatnonzero(self.sizes).tolist():
            self._of_row[faiss.rev_swig_ptr(self._base.invlists.get_ids(at), int(self.sizes[at]))] = at
        rows = np.random.default_rng(_SEED).choice(ann.count, size=min(_LOOKED_AT, ann.count), replace=False)
        residuals = ann.transformed(np.array(vectors[rows])) - self._centroids[self._of_row[rows]]
        self.deviation = _deviation(residuals, self._centroids)  # of scores around their centroid's
        self._lead = self.deviation * _best_of(int(self.sizes.max(initial=0)))

    def scores(self, transformed: np.ndarray) -> np.ndarray:
        """(nlist,) float32: the inner product of a query, (1, d) float32, with every list's centroid."""
        scores = np.empty(len(self.sizes), dtype=np.float32)
        pointers = (faiss.swig_ptr(array) for array in (scores, transformed, self._centroids))
        faiss.fvec_inner_products_ny(*pointers, self._centroids.shape[1], len(scores))  # type: ignore[attr-defined]
        return scores

    def allowed(self, only: RowFilter) -> np.ndarray:
        """(nlist,) int64: how many allowed rows each list holds. To be kept: counting takes longer than a search."""
        return np.bincount(self._of_row[only.rows()], minlength=len(self.sizes))

    def promising(self, scores: np.ndarray, allowed: np.ndarray) -> Promising:
        """The lists that hold allowed rows, those with the best ones first."""
        holding = np.flatnonzero(allowed)
        expected = scores[holding] + self._lead[allowed[holding]]
        order = np.argsort(-expected)
        return Promising(holding[order], expected[order])

    def scan(
        self, transformed: np.ndarray, lists: np.ndarray, scores: np.ndarray, *, candidates: int, only: RowFilter
    ) -> Coded:
        """The best allowed rows of some lists, by their codes.

        Args:
            transformed: (1, d) float32.
            lists: (n,) int64, contiguous: which to scan.
            scores: (n,) float32, contiguous: what `scores` gave for them.
            candidates: how many rows to give at most.
            only: the rows that may be found.
        """
        stay_serial()
        rows, coded = np.empty(candidates, dtype=np.int64), np.empty(candidates, dtype=np.float32)
        knobs: Any = faiss.SearchParametersIVF(nprobe=len(lists), sel=only.selector)  # type: ignore[call-arg]
        query, keys, near, found, labels = (
            faiss.swig_ptr(array) for array in (transformed, lists, scores, coded, rows)
        )
        # Faiss' own method, since its wrapper for arrays takes no parameters.
        self._base.search_preassigned_c(1, query, candidates, keys, near, found, labels, False, knobs, None)
        held = int(np.count_nonzero(rows >= 0))
        return Coded(rows[:held], coded[:held])


def _deviation(residuals: np.ndarray, centroids: np.ndarray) -> np.float32:
    """How far scores spread around their centroid's: along centroids, since queries lie where products do."""
    some = centroids[:: max(1, len(centroids) // _DIRECTIONS)]
    along = residuals @ (some / np.linalg.norm(some, axis=1, keepdims=True)).T
    return np.float32(np.sqrt((along**2).mean()))


def _best_of(most: int) -> np.ndarray:
    """(most + 1,) float32: the expected best of n standard normal draws, by n (Blom 1958); 0 for none."""
    inverse = NormalDist().inv_cdf
    best = [0.0] + [inverse((n - 0.375) / (n + 0.25)) for n in range(1, most + 1)]
    return np.array(best, dtype=np.float32)
