"""Generations: one immutable index over the catalogue each, checksummed, and `CURRENT` that names the one in use.

catalogue/CURRENT                  the number of the generation in use; see `index.succession` for the next one
catalogue/generations/N/           index.faiss  numbers.npy  [vectors.f32]  columns/  lexical/
                                   operating_points.json  manifest.json
catalogue/generations/N.tmp/       one being written, or left by a crash: removed by the next build or server
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from index.ann import FaissIndex, Hits, Ranked, load_faiss_index, ranked
from index.columns import Columns
from index.errors import IndexFileError
from index.exact import ExactIndex
from index.files import mapped_array, read_sealed_json, sha256_of_file, sync_file, write_atomically, write_sealed_json
from index.filtered import FilteredSearch
from index.filters import Filters
from index.hybrid import joined
from index.lexical import LexicalIndex
from index.operating_points import OperatingPoint, OperatingPoints

FORMAT = 3
CURRENT_FILE = "CURRENT"
INDEX_FILE = "index.faiss"
NUMBERS_FILE = "numbers.npy"
VECTORS_FILE = "vectors.f32"  # only where the index itself keeps no exact vectors
COLUMNS_FOLDER = "columns"
LEXICAL_FOLDER = "lexical"
OPERATING_POINTS_FILE = "operating_points.json"
MANIFEST_FILE = "manifest.json"
_REMEDY = "run `que2search build`"


@dataclass(frozen=True, kw_only=True)
class GenerationManifest:
    """What a generation is, and the SHA-256 of every file that never changes."""

    generation: int
    release: str
    sequence: int  # of the catalogue, when the vectors were read
    factory: str
    dim: int
    count: int
    nlist: int | None
    created: str  # ISO 8601, UTC
    faiss_version: str
    files: dict[str, str]
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class Generation:
    """An opened generation: mapped, checked, ready to search from any thread."""

    path: Path
    manifest: GenerationManifest
    ann: FaissIndex
    exact: ExactIndex
    numbers: np.ndarray = field(repr=False)  # (count,) uint32: row -> product number
    operating_points: OperatingPoints = field(repr=False)
    columns: Columns = field(repr=False)
    lexical: LexicalIndex = field(repr=False)
    filters: Filters = field(repr=False)
    filtered: FilteredSearch = field(repr=False)

    @property
    def number(self) -> int:
        """N of generations/N."""
        return self.manifest.generation

    def search(self, queries: np.ndarray, point: OperatingPoint) -> Hits:
        """The lists of an operating point: its index is the exact one for `exact`. See `AnnIndex.search`."""
        ann = self.exact if point.effort == "exact" else self.ann
        return ann.search(queries, nprobe=point.nprobe, candidates=point.candidates)

    def joined_by_words(
        self, query: np.ndarray, vector: Ranked, lexical: np.ndarray, *, min_score: float | None
    ) -> Ranked:
        """The vectors' list, joined by what words have found within the radius: what hybrid search fuses.

        Args:
            query: (1, d) float32.
            vector: found by it, at any effort.
            lexical: (w,) the product numbers that words have found.
            min_score: the radius; None: all of them.
        """
        near = self.exact.rescore(query, self.ann.rows_of(lexical))
        return joined(vector, ranked(near, min_score=min_score))

    def save_operating_points(self, points: OperatingPoints) -> None:
        """Replace the operating points on disk; whoever opens the generation next uses them."""
        points.save(self.path / OPERATING_POINTS_FILE)


def open_current(catalogue_path: Path, *, verify: bool = True) -> Generation:
    """Open the generation that `CURRENT` names.

    Args:
        catalogue_path: the catalogue's folder.
        verify: compare every file with its checksum first; further processes on the same files may skip it.

    Raises:
        IndexFileError: none was built, or a file is missing, altered or of another format; names it and the remedy.
    """
    return open_generation(generation_path(catalogue_path, current_number(catalogue_path)), verify=verify)


def open_generation(path: Path, *, verify: bool = True) -> Generation:
    """Open one generation's folder; see `open_current`."""
    if not path.is_dir():
        raise IndexFileError(f"there is no generation at {path}; {_REMEDY}")
    manifest = read_manifest(path)
    for name, checksum in manifest.files.items():
        _check_file(path / name, checksum if verify else None)
    numbers = _numbers(path / NUMBERS_FILE, count=manifest.count)
    ann = load_faiss_index(path / INDEX_FILE, numbers=numbers)
    vectors = ann.stored_vectors()
    if vectors is None:
        vectors = np.memmap(path / VECTORS_FILE, dtype="<f4", mode="r", shape=(manifest.count, manifest.dim))
    exact = ExactIndex(vectors, numbers=numbers)
    columns = Columns.open(path / COLUMNS_FOLDER, count=manifest.count)
    lexical = LexicalIndex.open(path / LEXICAL_FOLDER, numbers=numbers)
    return Generation(
        path=path,
        manifest=manifest,
        ann=ann,
        exact=exact,
        numbers=numbers,
        operating_points=OperatingPoints.load(path / OPERATING_POINTS_FILE),
        columns=columns,
        lexical=lexical,
        filters=Filters(columns, words=lexical.rows_with),
        filtered=FilteredSearch(ann, exact),
    )


def current_number(catalogue_path: Path) -> int:
    """The number in `CURRENT`. Raises IndexFileError when nothing was built yet or the file is no number."""
    path = catalogue_path / CURRENT_FILE
    try:
        return int(path.read_text())
    except FileNotFoundError as exc:
        raise IndexFileError(f"no index was built at {catalogue_path} yet; {_REMEDY}") from exc
    except ValueError as exc:
        raise IndexFileError(f"{path} does not hold a generation's number; {_REMEDY}") from exc


def generation_path(catalogue_path: Path, number: int) -> Path:
    """The folder of generation `number`."""
    return catalogue_path / "generations" / str(number)


def read_manifest(path: Path) -> GenerationManifest:
    """The manifest in a generation's folder. Raises IndexFileError: missing, altered or of another format."""
    content = read_sealed_json(path / MANIFEST_FILE, remedy=_REMEDY)
    if content.get("format") != FORMAT:
        path = path / MANIFEST_FILE
        raise IndexFileError(f"{path} has format {content.get('format')}, this version reads {FORMAT}; {_REMEDY}")
    try:
        manifest = msgspec.convert(content, GenerationManifest)
    except msgspec.ValidationError as exc:
        raise IndexFileError(f"{path / MANIFEST_FILE} is no manifest: {exc}; {_REMEDY}") from exc
    if leading := [name for name in manifest.files if not _is_inside(path, path / name)]:
        raise IndexFileError(f"{path / MANIFEST_FILE} names files outside the generation: {leading}; {_REMEDY}")
    return manifest


def _is_inside(folder: Path, file: Path) -> bool:
    try:
        return file.resolve().is_relative_to(folder.resolve())
    except ValueError:  # a name with a NUL in it
        return False


def manifests(catalogue_path: Path) -> list[GenerationManifest]:
    """Of all generations that this version reads, by number."""
    found = []
    for path in (catalogue_path / "generations").glob(f"*/{MANIFEST_FILE}"):
        if path.parent.name.isdecimal():
            with suppress(IndexFileError):  # of an older format
                found.append(read_manifest(path.parent))
    return sorted(found, key=lambda manifest: manifest.generation)


@contextmanager
def new_generation(catalogue_path: Path, *, current: bool = True) -> Iterator[Path]:
    """A folder to write the next generation in: sealed when the block ends well, removed otherwise.

    The block must leave a manifest. A folder's number is its name without `.tmp`; no number is ever used again.

    Args:
        catalogue_path: the catalogue's folder.
        current: make it the current generation, too.
    """
    remove_unfinished(catalogue_path)
    root = catalogue_path / "generations"
    root.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(path.name) for path in root.iterdir() if path.name.isdecimal()), default=0)
    beside = root / f"{number}.tmp"
    beside.mkdir()
    try:
        yield beside
        for path in (*beside.rglob("*"), beside):
            sync_file(path)
    except BaseException:
        shutil.rmtree(beside)
        raise
    beside.rename(root / str(number))
    sync_file(root)
    if current:
        write_atomically(catalogue_path / CURRENT_FILE, f"{number}\n".encode())


def remove_unfinished(catalogue_path: Path) -> None:
    """Remove what a build or a removal that was cut off has left; only while no other process builds."""
    for leftover in (catalogue_path / "generations").glob("*.tmp"):
        shutil.rmtree(leftover)


def write_manifest(path: Path, manifest: GenerationManifest) -> None:
    """Write a generation's manifest, the last of its files."""
    write_sealed_json(path / MANIFEST_FILE, asdict(manifest))


def checksums(path: Path) -> dict[str, str]:
    """SHA-256 of the files in a generation's folder that never change, by their path in it."""
    names = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    return {name: sha256_of_file(path / name) for name in names if name not in {OPERATING_POINTS_FILE, MANIFEST_FILE}}


def _numbers(path: Path, *, count: int) -> np.ndarray:
    numbers = mapped_array(path, remedy=_REMEDY)
    if numbers.shape != (count,) or numbers.dtype != np.uint32:
        raise IndexFileError(f"{path} holds {numbers.dtype} {numbers.shape}, not {count} product numbers; {_REMEDY}")
    return numbers


def _check_file(path: Path, checksum: str | None) -> None:
    if not path.is_file():
        raise IndexFileError(f"{path} is missing; {_REMEDY}")
    if checksum is not None and sha256_of_file(path) != checksum:
        raise IndexFileError(f"{path} was altered: its checksum is not the one in {MANIFEST_FILE}; {_REMEDY}")
