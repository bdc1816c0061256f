"""Nearest products by inner product: the protocol every index keeps, and its Faiss implementation."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import faiss
import numpy as np

from index.errors import IndexFileError, SpecError
from index.spec import layers_of

_ID_BYTES = 8  # of a row in an inverted list
_ONE_QUERY = 11  # fast scan query by query, with a reservoir; Faiss' own choice is made for groups of queries
_FEW_ROWS = 16_384  # that a filter keeps beside its bitmap: reading those out again takes as long as comparing them
_WITHIN = 1_000  # candidates that a search within a radius starts with


class Hits(NamedTuple):
    """What a search found. Rows are sorted by (-score, number), so equal scores come in one order always."""

    numbers: np.ndarray  # (n, candidates) int64 product numbers, best first; -1 where the probed lists ran out
    scores: np.ndarray  # (n, candidates) float32 inner products; -inf where numbers is -1


class Ranked(NamedTuple):
    """One query's list, sorted by (-score, number), of whatever length."""

    numbers: np.ndarray  # (k,) int64 product numbers
    scores: np.ndarray  # (k,) float32 inner products


class RowFilter:
    """Which rows of an index may be found, as a bitmap. Made once, it serves any number of searches and threads.

    Args:
        bits: (ceil(count / 8),) uint8, row r is bit r % 8 of byte r // 8; bits past the last row are 0.
        count: rows of the index: an index of product numbers `numbers` holds `numbers[row]` in each.
    """

    def __init__(self, bits: np.ndarray, *, count: int) -> None:
        self.bits = bits
        self.count = count
        self.allowed = int(np.bitwise_count(bits).sum(dtype=np.int64))  # rows
        self.origin: RowFilter | None = None  # the filter that this one is all of but some rows, see `among`
        self._rows: np.ndarray | None = None
        self.selector: Any = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]  # stubs: pointers

    @classmethod
    def of(cls, mask: np.ndarray) -> Self:
        """From a (count,) bool mask by row."""
        return cls(np.packbits(mask, bitorder="little"), count=len(mask))

    def among(self, alive: np.ndarray) -> "RowFilter":
        """Without the rows whose bits are 0 in (ceil(count / 8),) `alive`, nearly all of which are 1."""
        left = RowFilter(self.bits & alive, count=self.count)
        left.origin = self
        if self.allowed <= _FEW_ROWS:
            rows = self.rows()
            left._rows = rows[left.allows(rows)]
        return left

    @property
    def share(self) -> float:
        """Of all rows, those that are allowed."""
        return self.allowed / max(1, self.count)

    def mask(self) -> np.ndarray:
        """(count,) bool."""
        return np.unpackbits(self.bits, count=self.count, bitorder="little").view(bool)

    def allows(self, rows: np.ndarray) -> np.ndarray:
        """(n,) bool: which of the (n,) rows are allowed."""
        allowed: np.ndarray = (self.bits[rows >> 3] >> (rows & 7)) & 1 == 1
        return allowed

    def rows(self) -> np.ndarray:
        """(allowed,) int64, ascending; kept where they are few."""
        if self._rows is not None:
            return self._rows
        rows = np.flatnonzero(self.mask())
        if len(rows) <= _FEW_ROWS:
            self._rows = rows
        return rows


@dataclass(frozen=True)
class IndexStats:
    """What an index is made of."""

    count: int  # vectors
    dim: int
    nlist: int | None
    bytes_per_product: float  # codes, ids, what is re-scored, and a product's share of the centroids


class AnnIndex(Protocol):
    """Vectors in, product numbers out. Safe to share between threads: no search changes it."""

    dim: int
    count: int
    nlist: int | None

    def search(
        self, queries: np.ndarray, *, nprobe: int | None, candidates: int, only: RowFilter | None = None
    ) -> Hits:
        """The best `candidates` products of each query, as found in its `nprobe` nearest lists.

        Args:
            queries: (n, dim) float32.
            nprobe: lists to probe, 1 to nlist; None when the index has no lists.
            candidates: length of the list; a property of the effort, whatever the page or its size.
            only: the rows that may be found; None: all of them.

        Raises:
            SpecError: nprobe or `only` does not fit the index, candidates < 1, or the queries have another dimension.
        """
        ...

    def within(
        self, queries: np.ndarray, *, nprobe: int | None, min_score: float, only: RowFilter | None = None
    ) -> list[Ranked]:
        """Per query every product of its `nprobe` nearest lists whose score is `min_score` (the radius) or more.

        An index that re-scores lists products in the order of their codes, and stops when the radius is reached: close
        to it some may be missing.

        Raises:
            SpecError: as `search`.
        """
        ...

    def codes_scanned(self, queries: np.ndarray, *, nprobe: int | None) -> np.ndarray:
        """(n,) int64: how many stored codes the search of each query compares."""
        ...

    def stats(self) -> IndexStats:
        """Sizes; cheap."""
        ...


class FaissIndex:
    """Any Faiss index that `index.spec` accepts. A Faiss id is a row; `numbers` maps rows to product numbers.

    Args:
        whole: the trained and filled Faiss index.
        numbers: (count,) uint32, ascending.
    """

    def __init__(self, whole: Any, *, numbers: np.ndarray) -> None:
        if len(numbers) != whole.ntotal:
            raise IndexFileError(
                f"the index holds {whole.ntotal} vectors but {len(numbers)} product numbers; run `que2search build`"
            )
        self._whole = whole
        self.layers = layers_of(whole)  # views: valid as long as this index
        if isinstance(self.layers.base, faiss.IndexIVFPQFastScan):
            self.layers.base.implem = _ONE_QUERY
        # None: rows are numbers, as long as no product was ever deleted. A hundred lookups are a tenth of a search.
        self._numbers = None if _are_rows(numbers) else np.asarray(numbers)  # sheds np.memmap, whose indexing is slow
        self._params: dict[int | None, Any] = {}
        self.dim: int = whole.d
        self.count: int = whole.ntotal
        self.nlist: int | None = int(self.layers.base.nlist) if self.layers.is_ivf else None

    def search(
        self, queries: np.ndarray, *, nprobe: int | None, candidates: int, only: RowFilter | None = None
    ) -> Hits:
        """See `AnnIndex.search`. Runs on the calling thread alone."""
        check_search(self, queries, nprobe=nprobe, candidates=candidates, only=only)
        stay_serial()
        scores, rows = self._whole.search(queries, candidates, params=self._parameters(nprobe, only))
        return _hits(scores, rows, self._numbers)

    def within(
        self, queries: np.ndarray, *, nprobe: int | None, min_score: float, only: RowFilter | None = None
    ) -> list[Ranked]:
        """See `AnnIndex.within`. Runs on the calling thread alone."""
        # Not by Faiss' range search: the fast scan that is quickest for one query has none.
        check_search(self, queries, nprobe=nprobe, only=only)
        return [self._within(queries[i : i + 1], nprobe, np.float32(min_score), only) for i in range(len(queries))]

    def _within(self, query: np.ndarray, nprobe: int | None, min_score: np.float32, only: RowFilter | None) -> Ranked:
        """Lists more and more candidates of the (1, dim) query, until the last one is too far or there are no more."""
        candidates = min(_WITHIN, self.count)
        hits = self.search(query, nprobe=nprobe, candidates=candidates, only=only)
        while hits.scores[0, -1] >= min_score and candidates < self.count:
            candidates = min(8 * candidates, self.count)
            hits = self.search(query, nprobe=nprobe, candidates=candidates, only=only)
        return ranked(hits, min_score=float(min_score))

    def rows_of(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) int64: the row of each product number that the index holds."""
        if self._numbers is None:
            return numbers
        # In the array's own type: NumPy would convert all of it otherwise.
        rows: np.ndarray = np.searchsorted(self._numbers, numbers.astype(self._numbers.dtype))
        return rows

    def codes_scanned(self, queries: np.ndarray, *, nprobe: int | None) -> np.ndarray:
        """See `AnnIndex.codes_scanned`: the sizes of the lists that the coarse quantizer picks."""
        check_search(self, queries, nprobe=nprobe)
        if nprobe is None:
            return np.full(len(queries), self.count, dtype=np.int64)
        _, lists = self.layers.base.quantizer.search(self.transformed(queries), nprobe)  # (n, nprobe)
        sizes: np.ndarray = np.where(lists < 0, 0, self.list_sizes[lists]).sum(axis=1)
        return sizes

    def transformed(self, queries: np.ndarray) -> np.ndarray:
        """(n, d) float32: queries as the lists know them, behind the index's OPQ or PCA where it has one."""
        if self.layers.transform is not None:
            chain = self.layers.transform.chain
            for i in range(chain.size()):
                queries = chain.at(i).apply(queries)
        return queries

    def stats(self) -> IndexStats:
        """See `AnnIndex.stats`: counted by layer, without what a fast-scan list's last block leaves empty."""
        base, refine = self.layers.base, self.layers.refine
        size = float(base.sa_code_size() if self.nlist is None else base.code_size + _ID_BYTES)
        if refine is not None:
            size += refine.refine_index.sa_code_size()
        if self.nlist is not None:
            size += 4 * base.d * self.nlist / max(1, self.count)
        return IndexStats(self.count, self.dim, self.nlist, size)

    @cached_property
    def list_sizes(self) -> np.ndarray:
        """(nlist,) int64: codes per list; empty for an index without lists."""
        if self.nlist is None:
            return np.empty(0, dtype=np.int64)
        lists = self.layers.base.invlists
        return np.array([lists.list_size(i) for i in range(self.nlist)], dtype=np.int64)

    def stored_vectors(self) -> np.ndarray | None:
        """(count, dim) float32 view of the exact vectors inside the index; None when it keeps only codes.

        The view keeps the index alive. Its address may be unaligned, as the file's layout has it.
        """
        store = self.layers.base if self.layers.refine is None else self.layers.refine.refine_index
        store = faiss.downcast_index(store)
        if self.layers.transform is not None and self.layers.refine is None:
            return None
        if not isinstance(store, faiss.IndexFlat):
            return None
        floats = faiss.rev_swig_ptr(store.get_xb(), self.count * self.dim)
        return np.asarray(_View(self._whole, floats)).reshape(self.count, self.dim)

    def _parameters(self, nprobe: int | None, only: RowFilter | None) -> Any:
        """Knobs travel with the call (faiss #2204, #3321). A made object never changes, so threads may share it."""
        if only is not None:
            return self._new_parameters(nprobe, sel=only.selector)
        params = self._params.get(nprobe)
        if params is None and nprobe is not None:
            params = self._params[nprobe] = self._new_parameters(nprobe)
        return params

    def _new_parameters(self, nprobe: int | None, **selector: Any) -> Any:
        if nprobe is None:
            params = _knobs(faiss.SearchParameters, **selector)
        else:
            params = _knobs(faiss.SearchParametersIVF, nprobe=nprobe, **selector)
        if self.layers.transform is not None:
            params = _knobs(faiss.SearchParametersPreTransform, index_params=params)
        if self.layers.refine is not None:
            # k is the candidates already: all are re-scored and all come back.
            params = _knobs(faiss.IndexRefineSearchParameters, k_factor=1.0, base_index_params=params)
        return params


class _View:
    """Memory inside a Faiss index as an array that keeps the index alive, which Faiss' own views do not."""

    def __init__(self, owner: Any, floats: np.ndarray) -> None:
        self._owner = owner
        self.__array_interface__ = floats.__array_interface__


def load_faiss_index(path: Path, *, numbers: np.ndarray) -> FaissIndex:
    """Open an index file through mmap: processes share its pages, and start-up reads only the small parts.

    Raises:
        IndexFileError: the file is missing, cut short or not an index.
    """
    return FaissIndex(read_mapped(path), numbers=numbers)


def read_mapped(path: Path) -> Any:
    """The bare Faiss index of a file, through mmap. Raises IndexFileError."""
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as exc:
        raise IndexFileError(f"cannot read {path}; rebuild it with `que2search build`") from exc


def ranked(hits: Hits, *, row: int = 0, min_score: float | None = None) -> Ranked:
    """A query's list without the empty places and without hits below the radius."""
    numbers, scores = hits.numbers[row], hits.scores[row]
    # Both conditions cut a tail, since the list is sorted: nothing is cut where its last place is kept.
    if numbers.size and numbers[-1] >= 0 and (min_score is None or scores[-1] >= min_score):
        return Ranked(numbers, scores)
    keep = numbers >= 0
    if min_score is not None:
        keep &= scores >= min_score
    length = np.count_nonzero(keep)
    return Ranked(numbers[:length], scores[:length])


def check_search(
    ann: AnnIndex, queries: np.ndarray, *, nprobe: int | None, candidates: int = 1, only: RowFilter | None = None
) -> None:
    """Refuse what no search can answer. Raises SpecError."""
    if queries.ndim != 2 or queries.shape[1] != ann.dim:
        raise SpecError(f"queries have shape {queries.shape}; this index takes (n, {ann.dim})")
    if candidates < 1:
        raise SpecError(f"candidates={candidates} must be at least 1")
    if ann.nlist is None and nprobe is not None:
        raise SpecError(f"nprobe={nprobe} was given, but this index has no lists; leave it None")
    if ann.nlist is not None and (nprobe is None or not 1 <= nprobe <= ann.nlist):
        raise SpecError(f"nprobe={nprobe} must be between 1 and {ann.nlist}, the number of lists")
    if only is not None and only.count != ann.count:
        raise SpecError(f"the filter is over {only.count} rows; this index has {ann.count}")


def stay_serial() -> None:
    """One thread for a search: requests supply the parallelism.

    OpenMP's setting belongs to the calling thread, and each such thread would start a pool of its own (faiss #2731).
    """
    faiss.omp_set_num_threads(1)


def _are_rows(numbers: np.ndarray) -> bool:
    """Whether ascending numbers are 0, 1, 2, ... without a gap."""
    return len(numbers) > 0 and int(numbers[-1]) == len(numbers) - 1


def _knobs(kind: Any, **values: object) -> Any:
    """Faiss adds these constructors' keywords at run time (and keeps nested ones alive); its stubs do not know them."""
    return kind(**values)


def _hits(scores: np.ndarray, rows: np.ndarray, numbers: np.ndarray | None) -> Hits:
    """Faiss' answer in our terms. It is sorted by score, so only equal scores are left to put in order."""
    found = rows if numbers is None else numbers[rows].astype(np.int64)  # row -1 reads a wrong number, replaced below
    if rows.size and rows[:, -1].min() < 0:
        scores[rows < 0] = -np.inf
        found[rows < 0] = -1
    equal = scores[:, 1:] == scores[:, :-1]
    if equal.any():
        for i in np.flatnonzero((equal & (found[:, 1:] >= 0)).any(axis=1)):
            order = np.lexsort((found[i], -scores[i]))
            found[i], scores[i] = found[i, order], scores[i, order]
    return Hits(found, scores)
