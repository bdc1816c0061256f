"""Indexes side by side behind one protocol: ours, Faiss' others and other libraries'; built once and kept on disk."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import faiss
import numpy as np

from benchmarks.blocks import Progress
from benchmarks.vectors import K, VectorSet
from index.ann import AnnIndex, FaissIndex
from index.build import Steps, all_cores, fill, train, training_points
from index.exact import ExactIndex
from index.files import write_atomically
from index.operating_points import MAX_DEPTH, MAX_SIZE
from index.spec import IndexSpec, choose_spec, new_index, spec_from_factory
from index.vector_tables import VectorBatch

CONNECTIVITY = 16  # M of every graph
EF_CONSTRUCTION = 100  # of every graph
EF_LIMIT = 5_000  # no graph is searched further
RESCORED = (10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500, 700, 1_000)  # candidates to choose from
SERVED = tuple(candidates for candidates in RESCORED if candidates >= MAX_SIZE)  # a page may show as many as MAX_SIZE
INVERTED_LISTS = 1_024  # of plain IVF-PQ
SCANN_DIMS_PER_CODE = 2  # these two are what ScaNN's own guide advises
SCANN_ANISOTROPY = 0.2
SEED = 7
_BATCH = 16_384  # vectors added between two steps of progress
_BUILT_FILE = "built.json"  # written last: without it an index is unfinished


class Effort(NamedTuple):
    """How hard to search: one setting of an index's own knobs."""

    reach: int  # ef, nprobe or leaves: how far to look
    candidates: int = K  # re-scored by better vectors than were scanned, where an index does that


Search = Callable[[np.ndarray, Effort], np.ndarray]
"""(d,) float32 and an effort to the rows of the ten nearest, best first, fewer or -1 where they ran out; one thread."""


class PeerIndex(Protocol):
    """A way to index vectors for inner products, by a library that may not be installed."""

    name: str
    parameters: str  # with the package, what is built
    package: str  # whose version may change what is built
    reach: str  # the library's word for `Effort.reach`
    reaches: range  # to choose from; one value: no choice
    candidates: tuple[int, ...]  # to choose from; one value: no choice

    def build(self, products: np.ndarray, path: Path, progress: Progress) -> None:
        """Index (count, d) float32 on all cores and write it to `path`; reports (done, total) steps."""
        ...

    def open(self, path: Path) -> Search:
        """Read what `build` wrote into memory."""
        ...


class BuiltIndex(NamedTuple):
    """An index on disk, and what it took to make."""

    path: Path
    build_s: float  # with all cores, writing included
    build_cores: int
    bytes_per_product: float  # of its files


def peer_indexes(*, count: int, dim: int) -> list[PeerIndex]:
    """All that are compared, ours first and exact search last.

    Raises:
        SpecError: `dim` is not divisible by 4, or there are too few vectors to train on.
    """
    ours = choose_spec(count=count, dim=dim)
    nlist = ours.nlist or 1
    compact = spec_from_factory(f"IVF{nlist},PQ{dim // 2}x4fsr,Refine(SQ8)", count=count, dim=dim)
    plain = f"IVF{min(nlist, INVERTED_LISTS)},PQ{dim // 4}"
    return [
        Ours("ours", ours, candidates=SERVED),
        Ours("ours, later pages", ours, candidates=(MAX_DEPTH,)),
        Ours("ours, compact", compact, candidates=SERVED),
        Ours("Faiss IVF-PQ", spec_from_factory(plain, count=count, dim=dim), candidates=(K,)),
        Hnswlib(dim=dim),
        Usearch(),
        FaissHnsw(),
        Scann(leaves=max(1, round(2 * count**0.5))),
        Exact(),
    ]


def is_installed(peer: PeerIndex) -> bool:
    """Whether the library is there; the extra `peers` brings all of them."""
    try:
        version(peer.package)
    except PackageNotFoundError:
        return False
    return True


def has_choice(peer: PeerIndex) -> bool:
    """Whether an effort can be chosen at all."""
    return len(peer.reaches) > 1 or len(peer.candidates) > 1


def shown(peer: PeerIndex, effort: Effort) -> str:
    """An effort in the library's own words, such as "ef 40" or "nprobe 8, candidates 50"."""
    words = [f"{peer.reach} {effort.reach}"] if len(peer.reaches) > 1 else []
    words += [f"candidates {effort.candidates}"] if len(peer.candidates) > 1 else []
    return ", ".join(words) or "all"


def built_index(peer: PeerIndex, vectors: VectorSet, *, cache: Path, progress: Progress) -> BuiltIndex:
    """The index of these vectors in `cache`; built where it is missing, unfinished or of another version."""
    folder = cache / vectors.products_key / f"{peer.package} {peer.parameters}".replace(" ", "_")
    made_by = f"{peer.package} {version(peer.package)}"
    record = _record(folder)
    if record is None or record["made_by"] != made_by:
        record = _build(peer, vectors, folder, made_by=made_by, progress=progress)
    return BuiltIndex(folder / "index", record["build_s"], record["build_cores"], record["bytes"] / vectors.count)


def _record(folder: Path) -> dict[str, Any] | None:
    path = folder / _BUILT_FILE
    record: dict[str, Any] | None = json.loads(path.read_bytes()) if path.exists() else None
    return record


def _build(peer: PeerIndex, vectors: VectorSet, folder: Path, *, made_by: str, progress: Progress) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.perf_counter()
    peer.build(vectors.products, folder / "index", progress)
    record = {
        "build_s": round(time.perf_counter() - started, 2),
        "build_cores": _cores(),
        "bytes": _size(folder / "index"),
        "made_by": made_by,
    }
    write_atomically(folder / _BUILT_FILE, json.dumps(record).encode())
    return record


class Ours:
    """An index that `que2search build` can make, searched as /search does."""

    package = "faiss-cpu"
    reach = "nprobe"

    def __init__(self, name: str, spec: IndexSpec, *, candidates: tuple[int, ...]) -> None:
        self.name = name
        self.parameters = spec.factory
        self.reaches = range(1, (spec.nlist or 1) + 1)
        self.candidates = candidates
        self._spec = spec

    def build(self, products: np.ndarray, path: Path, progress: Progress) -> None:
        """See `PeerIndex.build`."""
        whole = new_index(self._spec.factory, dim=self._spec.dim)
        steps = Steps(progress, total=len(products) + (0 if whole.is_trained else training_points(self._spec)))
        with all_cores():
            train(whole, self._spec, _batches(products), steps)
            fill(whole, _batches(products), steps)
        faiss.write_index(whole, str(path))

    def open(self, path: Path) -> Search:
        """See `PeerIndex.open`."""
        return partial(search_ours, self.read(path))

    def read(self, path: Path) -> FaissIndex:
        """The index itself; product numbers are rows."""
        whole = faiss.read_index(str(path))
        return FaissIndex(whole, numbers=np.arange(whole.ntotal, dtype=np.uint32))


def search_ours(ann: AnnIndex, query: np.ndarray, effort: Effort) -> np.ndarray:
    """A `Search` of anything that keeps the protocol of /search's index."""
    nprobe = None if ann.nlist is None else effort.reach
    return ann.search(query[None], nprobe=nprobe, candidates=effort.candidates).numbers[0, :K]


class Exact:
    """Every vector compared."""

    name = "exact"
    parameters = "vectors"
    package = "faiss-cpu"
    reach = ""
    reaches = range(1, 2)
    candidates: tuple[int, ...] = (K,)

    def build(self, products: np.ndarray, path: Path, progress: Progress) -> None:
        """See `PeerIndex.build`: the vectors are copied."""
        with path.open("wb") as file:
            np.save(file, products)
        progress(1, 1)

    def open(self, path: Path) -> Search:
        """See `PeerIndex.open`."""
        return partial(search_ours, ExactIndex(np.load(path)))


class FaissHnsw:
    """Faiss' graph, over whole vectors."""

    name = "Faiss HNSW"
    parameters = f"HNSW M{CONNECTIVITY} efConstruction{EF_CONSTRUCTION}"
    package = "faiss-cpu"
    reach = "efSearch"
    reaches = range(K, EF_LIMIT + 1)
    candidates: tuple[int, ...] = (K,)

    def build(self, products: np.ndarray, path: Path, progress: Progress) -> None:
        """See `PeerIndex.build`."""
        graph = faiss.IndexHNSWFlat(products.shape[1], CONNECTIVITY, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = EF_CONSTRUCTION
        steps = Steps(progress, total=len(products))
        with all_cores():
            fill(graph, _batches(products), steps)
        faiss.write_index(graph, str(path))

    def open(self, path: Path) -> Search:
        """See `PeerIndex.open`."""
        graph = faiss.read_index(str(path))

        def search(query: np.ndarray, effort: Effort) -> np.ndarray:
            faiss.omp_set_num_threads(1)
            rows: np.ndarray = graph.search(query[None], K, params=_hnsw(effort.reach))[1][0]
            return rows

        return search


@cache
def _hnsw(ef: int) -> Any:
    """Parameters travel with each call; making them would take a part of it."""
    return faiss.SearchParametersHNSW(efSearch=ef)  # type: ignore[attr-defined]  # not in its stubs


class Hnswlib:
    """The graph by its authors, which others are compared with.

    Args:
        dim: of the vectors; its files do not say.
    """

    name = "hnswlib"
    parameters = f"M{CONNECTIVITY} ef_construction{EF_CONSTRUCTION}"
    package = "hnswlib"
    reach = "ef"
    reaches = range(K, EF_LIMIT + 1)
    candidates: tuple[int, ...] = (K,)

    def __init__(self, *, dim: int) -> None:
        self._dim = dim

    def build(self, products: np.ndarray, path: Path, progress: Progress) -> None:
        """See `PeerIndex.build`."""
        graph = self._new()
        graph.init_index(len(products), M=CONNECTIVITY, ef_construction=EF_CONSTRUCTION, random_seed=SEED)
        steps = Steps(progress, total=len(products))
        for batch in _batches(products):
            graph.add_items(batch.vectors, batch.numbers, num_threads=_cores())
            steps.advance(len(batch.numbers))
        graph.save_index(str(path))

    def open(self, path: Path) -> Search:
        """See `PeerIndex.open`."""
        graph = self._new()
        graph.load_index(str(path))

        def search(query: np.ndarray, effort: Effort) -> np.ndarray:
            graph.set_ef(effort.reach)
            rows: np.ndarray = graph.knn_query(query, K, num_threads=1)[0][0]
            return rows

        return search

    def _new(self) -> Any:
        return import_module("hnswlib").Index(space="ip", dim=self._dim)


class Usearch:
    """A younger graph library, over whole vectors."""

    name = "usearch"
    parameters = f"connectivity{CONNECTIVITY} expansion_add{EF_CONSTRUCTION}"
    package = "usearch"
    reach = "expansion_search"
    reaches = range(K, EF_LIMIT + 1)
    candidates: tuple[int, ...] = (K,)

    def build(self, products: np.ndarray, path: Path, progress: Progress) -> None:
        """See `PeerIndex.build`."""
        count, dim = products.shape
        graph = import_module("usearch.index").Index(
            ndim=dim,
            metric="ip",
            dtype="f32",
            connectivity=CONNECTIVITY,
            expansion_add=EF_CONSTRUCTION,
        )
        steps = Steps(progress, total=count)
        for batch in _batches(products):
            graph.add(batch.numbers.astype(np.uint64), batch.vectors, threads=_cores())
            steps.advance(len(batch.numbers))
        graph.save(str(path))

    def open(self, path: Path) -> Search:
        """See `PeerIndex.open`."""
        graph = import_module("usearch.index").Index.restore(str(path))

        def search(query: np.ndarray, effort: Effort) -> np.ndarray:
            graph.expansion_search = effort.reach
            rows: np.ndarray = graph.search(query, K, threads=1).keys
            return rows

        return search


class Scann:
    """Google's lists and anisotropic 4-bit codes, with exact re-scoring.

    Args:
        leaves: lists; its guide advises about the square root of the number of vectors.
    """

    name = "ScaNN"
    package = "scann"
    reach = "leaves"
    candidates: tuple[int, ...] = RESCORED

    def __init__(self, *, leaves: int) -> None:
        self.parameters = f"leaves{leaves} dims{SCANN_DIMS_PER_CODE} anisotropy{SCANN_ANISOTROPY}"
        self.reaches = range(1, leaves + 1)

    def build(self, products: np.ndarray, path: Path, progress: Progress) -> None:
        """See `PeerIndex.build`: it reports nothing on its way."""
        scann = import_module("scann").scann_ops_pybind
        builder = scann.builder(products, K, "dot_product").set_n_training_threads(_cores())
        lists = builder.tree(
            num_leaves=len(self.reaches), num_leaves_to_search=1, training_sample_size=min(len(products), 250_000)
        )
        codes = lists.score_ah(SCANN_DIMS_PER_CODE, anisotropic_quantization_threshold=SCANN_ANISOTROPY)
        path.mkdir()
        codes.reorder(max(RESCORED)).build().serialize(str(path))
        progress(1, 1)

    def open(self, path: Path) -> Search:
        """See `PeerIndex.open`."""
        index = import_module("scann").scann_ops_pybind.load_searcher(str(path))

        def search(query: np.ndarray, effort: Effort) -> np.ndarray:
            rows: np.ndarray = index.search(query, K, effort.candidates, effort.reach)[0]
            return rows

        return search


def _batches(products: np.ndarray) -> Iterator[VectorBatch]:
    """The vectors in order; their numbers are their rows."""
    for start in range(0, len(products), _BATCH):
        vectors = np.ascontiguousarray(products[start : start + _BATCH])
        yield VectorBatch(np.arange(start, start + len(vectors), dtype=np.uint32), vectors)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _size(path: Path) -> int:
    """Bytes of a file, or of a folder's files."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
