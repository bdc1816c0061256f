"""Build an index over a release's vectors and make it the catalogue's current generation."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from index.ann import FaissIndex
from index.catalogue import Catalogue
from index.columns import Columns
from index.errors import SpecError
from index.generations import (
    COLUMNS_FOLDER,
    INDEX_FILE,
    LEXICAL_FOLDER,
    NUMBERS_FILE,
    OPERATING_POINTS_FILE,
    VECTORS_FILE,
    Generation,
    GenerationManifest,
    checksums,
    new_generation,
    write_manifest,
)
from index.lexical import LexicalIndex, LexicalProduct
from index.operating_points import OperatingPoints
from index.reuse import emptied, spec_like
from index.spec import IndexSpec, choose_spec, layers_of, new_index, spec_from_factory
from index.vector_tables import VectorBatch

TRAINING_POINTS_PER_LIST = 64  # k-means asks for 39 at least; 256 gain little recall for four times the time
TRAINING_POINTS_AT_LEAST = 65_536  # 256 for each of the 256 codewords of an 8-bit sub-quantizer
SEED = 7
_RECORDS_AT_ONCE = 4_096

Progress = Callable[[int, int], None]


def build_generation(
    catalogue: Catalogue,
    *,
    release: str,
    factory: str | None = None,
    attributes: Sequence[str] = (),
    like: Generation | None = None,
    points: OperatingPoints | None = None,
    current: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Train and fill an index from a release's vectors, write it as the next generation, make it current.

    Beside the index lie the filter columns and the words of the same products, all as of one moment, whatever is
    written meanwhile. Memory: the index, the training sample and one batch, then the words. A crash leaves the previous
    generation in use.

    Args:
        catalogue: holds the vectors; products without one are left out.
        release: whose vectors.
        factory: a Faiss factory string; chosen by the number of vectors when None.
        attributes: names in the products' `attributes` that may be filtered by.
        like: a generation of the same release whose lists and codes are used again, instead of training new ones.
        points: the operating points; untuned ones when None.
        current: make it the current generation; else it only lies ready.
        threads: of Faiss; as many as there are cores when None.
        progress: called with (done, total) products: those to train on, then all of them to add, to put into the
            columns, and to read the words of.

    Returns:
        The generation's number.

    Raises:
        SpecError: the release has no vectors here, `factory` does not fit them, or an attribute bears a field's name.
    """
    with catalogue.snapshot():
        if like is None:
            spec = spec_for(catalogue, release=release, factory=factory)
            whole = new_index(spec.factory, dim=spec.dim)
        else:
            spec, whole = spec_like(like, count=catalogue.vector_count(release)), emptied(like)
        with new_generation(catalogue.path, current=current) as folder, cores(threads):
            steps = Steps(progress, total=3 * spec.count + (0 if whole.is_trained else training_points(spec)))
            train(whole, spec, catalogue.vectors(release), steps)
            numbers = fill(whole, catalogue.vectors(release), steps)
            _write_files(folder, whole, numbers, catalogue.vectors(release))
            Columns.write(folder / COLUMNS_FOLDER, _records(catalogue, numbers, steps), attributes=attributes)
            LexicalIndex.build(
                map(_words, enumerate(_records(catalogue, numbers, steps))), path=folder / LEXICAL_FOLDER
            )
            (points or OperatingPoints.default(nlist=spec.nlist)).save(folder / OPERATING_POINTS_FILE)
            manifest = GenerationManifest(
                generation=int(folder.stem),
                release=release,
                sequence=catalogue.sequence,
                factory=spec.factory,
                dim=spec.dim,
                count=len(numbers),
                nlist=spec.nlist,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                faiss_version=faiss.__version__,
                files=checksums(folder),
            )
            write_manifest(folder, manifest)
    return manifest.generation


def spec_for(catalogue: Catalogue, *, release: str, factory: str | None = None) -> IndexSpec:
    """The index to build over a release's vectors, checked. Raises SpecError, before any work."""
    first = next(catalogue.vectors(release, batch=1), None)
    if first is None:
        raise SpecError(f"{catalogue.path} holds no vectors of release {release!r}; embed the products first")
    count, dim = catalogue.vector_count(release), first.vectors.shape[1]
    if factory is None:
        return choose_spec(count=count, dim=dim)
    return spec_from_factory(factory, count=count, dim=dim)


class Steps:
    """Counts vectors done and tells whoever draws the progress."""

    def __init__(self, progress: Progress | None, *, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def advance(self, by: int) -> None:
        self._done += by
        if self._progress is not None:
            self._progress(self._done, self._total)


def train(whole: Any, spec: IndexSpec, batches: Iterable[VectorBatch], steps: Steps) -> None:
    """Learn the lists and codebooks from a seeded sample of the vectors. A flat index has nothing to learn."""
    if whole.is_trained:
        return
    _prepare_training(whole)
    points = sample(batches, count=spec.count, size=training_points(spec))
    whole.train(points)
    steps.advance(len(points))


def _prepare_training(whole: Any) -> None:
    """Leave out what Faiss does for nobody here."""
    base = layers_of(whole).base
    if hasattr(base, "do_polysemous_training"):
        base.do_polysemous_training = False  # orders codewords for a Hamming filter that is not used; most of the time
    for trained in (base, getattr(base, "pq", base)):
        if hasattr(trained, "cp"):
            # Below 39 points per centroid Faiss prints a warning; the spec has judged that there are enough.
            trained.cp.min_points_per_centroid = 1


def training_points(spec: IndexSpec) -> int:
    """How many vectors to train on."""
    return min(spec.count, max(TRAINING_POINTS_AT_LEAST, TRAINING_POINTS_PER_LIST * (spec.nlist or 0)))


def sample(batches: Iterable[VectorBatch], *, count: int, size: int, seed: int = SEED) -> np.ndarray:
    """`size` of `count` vectors, (size, d) float32, drawn evenly without replacement, in number order."""
    rows = np.sort(np.random.default_rng(seed).choice(count, size=size, replace=False))
    chosen = []
    start = 0
    for batch in batches:
        end = start + len(batch.numbers)
        here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)]
        chosen.append(batch.vectors[here - start])
        start = end
    return np.concatenate(chosen)


def fill(whole: Any, batches: Iterable[VectorBatch], steps: Steps) -> np.ndarray:
    """Add vectors to a trained index; returns the product number of each row, (count,) uint32."""
    numbers = []
    for batch in batches:
        whole.add(batch.vectors)
        numbers.append(batch.numbers)
        steps.advance(len(batch.numbers))
    return np.concatenate(numbers)


def _records(catalogue: Catalogue, numbers: np.ndarray, steps: Steps) -> Iterator[dict[str, Any]]:
    """The products of the rows, in order."""
    for start in range(0, len(numbers), _RECORDS_AT_ONCE):
        here = numbers[start : start + _RECORDS_AT_ONCE].tolist()
        yield from catalogue.records(here)
        steps.advance(len(here))


def _words(numbered: tuple[int, dict[str, Any]]) -> LexicalProduct:
    return LexicalProduct.of(*numbered)


def _write_files(folder: Path, whole: Any, numbers: np.ndarray, batches: Iterable[VectorBatch]) -> None:
    faiss.write_index(whole, str(folder / INDEX_FILE))
    np.save(folder / NUMBERS_FILE, numbers)
    if FaissIndex(whole, numbers=numbers).stored_vectors() is None:
        with (folder / VECTORS_FILE).open("wb") as file:
            for batch in batches:
                file.write(batch.vectors.tobytes())


def all_cores() -> AbstractContextManager[None]:
    """Let Faiss use every core this process may run on, for work that is done alone."""
    return cores(None)


@contextmanager
def cores(threads: int | None) -> Iterator[None]:
    """Let Faiss use so many threads while the block runs; as many as there are cores when None."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads or len(os.sched_getaffinity(0)))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
