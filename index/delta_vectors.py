"""The vectors of the products that came after a generation: the newest compared one by one, those before in lists.

The lists stand around the generation's own centroids, grouped so that finding the nearest takes microseconds. They hold
half-precision copies: scanning is a matter of memory, and what it finds is compared exactly afterwards. It looks for
nothing but what comes near enough to join the generation's list, of which there is little.
"""

import math
from typing import Any, NamedTuple

import faiss
import numpy as np

from index.ann import FaissIndex, stay_serial
from index.exact import ExactIndex, inner_products
from index.growing import Growing

TAIL = 256  # newest rows, at least, that are compared one by one: more take longer than the lists
MOVED = 64  # rows that go from there to the lists together, which is cheaper than one by one
LISTS = 256  # at most
SAMPLE = 4_096  # vectors that are grouped where centroids are of another space than vectors
WIDER = 8  # times the share of lists that the generation's search probes: there are fewer, and larger ones
LEAST = 4  # lists that are probed always
_HALF = 2e-3  # the error of an inner product with a vector in half precision, for vectors of length 1
_SEED = 7
_ROUNDS = 5  # of k-means


class Near(NamedTuple):
    """Rows of a delta with their scores, in no order."""

    rows: np.ndarray  # (n,) int64
    scores: np.ndarray  # (n,) float32


class DeltaVectors:
    """Exact vectors in rows that never leave.

    Args:
        ann: of the generation.
        exact: over the same rows.
    """

    def __init__(self, ann: FaissIndex, exact: ExactIndex) -> None:
        self._vectors = Growing(np.float32, ann.dim)
        self._nlist = ann.nlist
        self._lists = None if ann.nlist is None else _lists(ann, exact)
        self._params: dict[int, Any] = {}

    def append(self, vector: np.ndarray) -> None:
        """Add a row, (dim,) float32."""
        self._vectors.append(vector)
        if self._lists is None or len(self._vectors) - self._lists.ntotal < TAIL + MOVED:
            return
        stay_serial()
        self._lists.add(self._vectors.rows[self._lists.ntotal :][:MOVED])

    def near(self, query: np.ndarray, *, nprobe: int | None, least: float) -> Near:
        """The rows that score `least` or more, as far as they are in the tail or in lists that are probed.

        Args:
            query: (1, dim) float32, contiguous.
            nprobe: of the generation's search; None: every row is compared.
            least: an inner product.
        """
        listed = 0 if nprobe is None or self._lists is None else self._lists.ntotal
        tail = (inner_products(query[0], self._vectors.rows[listed:]) >= least).nonzero()[0] + listed
        if nprobe is None or listed == 0:
            return self.among(query, tail)
        return self.among(query, np.concatenate([self._probed(query, nprobe, least), tail]), least=least)

    def among(self, query: np.ndarray, rows: np.ndarray, *, least: float = -np.inf) -> Near:
        """Those of the (r,) int64 rows that score `least` or more."""
        scores = inner_products(query[0], self._vectors.rows, rows)
        near = (scores >= least).nonzero()[0]
        return Near(rows[near], scores[near])

    def _probed(self, query: np.ndarray, nprobe: int, least: float) -> np.ndarray:
        """Rows of the nearest lists that may score `least`."""
        lists: Any = self._lists
        share = WIDER * nprobe / (self._nlist or 1)
        probed = min(lists.nlist, max(LEAST, math.ceil(share * lists.nlist)))
        params = self._params.get(probed)
        if params is None:
            params = self._params[probed] = faiss.SearchParametersIVF(nprobe=probed)  # type: ignore[call-arg]
        stay_serial()
        # Not by the method of Faiss' Python class: what that does around this call takes half as long as the search.
        result = faiss.RangeSearchResult(1)
        lists.range_search_c(1, faiss.swig_ptr(query), float(least) - _HALF, result, params)
        count = int(faiss.rev_swig_ptr(result.lims, 2)[1])
        found: np.ndarray = faiss.rev_swig_ptr(result.labels, count).copy()
        return found


def _lists(ann: FaissIndex, exact: ExactIndex) -> Any:
    """Empty lists around groups of the generation's centroids."""
    stay_serial()
    base = ann.layers.base
    if ann.layers.transform is None:
        points = base.quantizer.reconstruct_n(0, base.nlist)
    else:
        rows = np.random.default_rng(_SEED).choice(ann.count, size=min(SAMPLE, ann.count), replace=False)
        points = np.array(exact.vectors[rows])
    if len(points) > LISTS:
        groups = faiss.Kmeans(ann.dim, LISTS, niter=_ROUNDS, seed=_SEED, spherical=True, min_points_per_centroid=1)
        groups.train(points)
        points = groups.centroids
    quantizer = faiss.IndexFlatIP(ann.dim)
    quantizer.add(points)
    half = faiss.ScalarQuantizer.QT_fp16
    lists = faiss.IndexIVFScalarQuantizer(quantizer, ann.dim, len(points), half, faiss.METRIC_INNER_PRODUCT, False)
    lists.is_trained = True  # half precision has nothing to learn
    return lists
