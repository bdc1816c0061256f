"""A release, opened and verified: what turns a query or a product into a vector when serving. No torch on import.

releases/NAME/
    query_tower.onnx  query_tower_int8.onnx  query_tower.pt  document_tower.onnx
    features.json  tokenizer.model
    golden_queries.jsonl  judgements.jsonl
    manifest.json            written last: it seals the others by their SHA-256
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np

from models.engines import OnnxTower, QueryTower, TorchScriptQueryTower
from models.errors import ReleaseError
from models.features import FEATURES_FILE, UNREADABLE, Featurizer, QueryFeatures
from models.int8_gate import Int8Check, check_here
from models.tokenizers import HUGGING_FACE_FILE, SENTENCEPIECE_FILE

FORMAT = "que2search-release/1"
MANIFEST_FILE = "manifest.json"
QUERY_ONNX_FILE = "query_tower.onnx"
QUERY_INT8_FILE = "query_tower_int8.onnx"  # there where int8 passed its gate
QUERY_TORCHSCRIPT_FILE = "query_tower.pt"
DOCUMENT_ONNX_FILE = "document_tower.onnx"
GOLDEN_QUERIES_FILE = "golden_queries.jsonl"
JUDGEMENTS_FILE = "judgements.jsonl"
NEEDED = frozenset({QUERY_ONNX_FILE, DOCUMENT_ONNX_FILE, FEATURES_FILE, GOLDEN_QUERIES_FILE, JUDGEMENTS_FILE})
TOKENIZERS = frozenset({SENTENCEPIECE_FILE, HUGGING_FACE_FILE})
ALLOWED = NEEDED | TOKENIZERS | {QUERY_INT8_FILE, QUERY_TORCHSCRIPT_FILE}  # nothing else is read, pickles least of all

Engine = Literal["onnx", "int8", "torchscript"]
Line = TypeVar("Line")


class GoldenQuery(msgspec.Struct, frozen=True, kw_only=True):
    """One of the stratified sample of queries that tuning looks at."""

    query: str
    country: str | None = None
    language: str | None = None
    stratum: str = "tail"  # head, torso or tail


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A rating, 0 to 3, of a product for a query."""

    query: str
    country: str | None = None
    product_id: str
    rating: int


class ReleaseManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a release is made of; `files` seals it."""

    format: str
    id: str
    created: str  # ISO 8601, UTC
    dim: int
    preset: str
    feature_hash: str
    dataset: str
    parity: dict[str, float]  # engine -> largest absolute difference from the trained tower
    files: dict[str, str]  # name -> SHA-256
    int8: Int8Check | None = None  # of the int8 query tower, whether or not it passed; None: never made
    query_channels: list[str] = []  # whose weights the query tower gives, in order; none where it has no attention


class Release:
    """A verified release: the featuriser, the query tower and, on demand, the document tower and the samples."""

    def __init__(self, path: Path, manifest: ReleaseManifest, featurizer: Featurizer, query_tower: QueryTower) -> None:
        self.path = path
        self.manifest = manifest
        self.featurizer = featurizer
        self.query_tower = query_tower
        self._document_tower: OnnxTower | None = None

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def dim(self) -> int:
        return self.manifest.dim

    def document_tower(self, *, threads: int = 1) -> OnnxTower:
        """Loaded on first use: a search never needs it."""
        if self._document_tower is None:
            self._document_tower = OnnxTower(self.path / DOCUMENT_ONNX_FILE, threads=threads)
        return self._document_tower

    def embed_query(self, text: str, country: str | None = None) -> np.ndarray:
        """(d,) float32 of norm 1."""
        vector: np.ndarray = self.query_tower.embed(self.featurizer.query(text, country))[0]
        return vector

    def channel_weights(self, features: QueryFeatures) -> dict[str, float] | None:
        """How much each channel has to say in one query's vector, by name; they sum to 1 (Que2Search Eq. 1).

        Runs the tower once more. None: the tower has no attention, or was exported before its weights were.
        """
        channels = self.manifest.query_channels
        if not channels:
            return None
        return dict(zip(channels, self.query_tower.channel_weights(features)[0].tolist(), strict=True))

    def embed_product(self, product: Mapping[str, Any]) -> np.ndarray:
        """(d,) float32 of norm 1, from the fields `title`, `description`, `image_vectors`, `language` and `country`."""
        vector: np.ndarray = self.embed_products([product])[0]
        return vector

    def embed_products(self, products: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """(n, d) float32, rows of norm 1.

        Raises:
            ValueError: an image vector is not of the release's size.
        """
        return self.document_tower().embed(self.featurizer.products(products))

    def golden_queries(self) -> list[GoldenQuery]:
        return _read_lines(self.path / GOLDEN_QUERIES_FILE, GoldenQuery)

    def golden_vectors(self) -> np.ndarray:
        """(n, d) float32: the golden queries, embedded; what tuning and measuring search with.

        Raises:
            ReleaseError: the release has none.
        """
        golden = self.golden_queries()
        if not golden:
            raise ReleaseError(f"{self.path} has no golden queries; export it from a dataset that has queries")
        return np.stack([self.embed_query(query.query, query.country) for query in golden])

    def judgements(self) -> list[Judgement]:
        return _read_lines(self.path / JUDGEMENTS_FILE, Judgement)


def open_release(path: Path, *, engine: Engine = "onnx") -> Release:
    """Verify every file against the manifest, then load the featuriser and the query tower.

    Raises:
        ReleaseError: missing, incomplete, altered (names the file) or of another format; or the int8 tower is not as
            good as it must be, when it was exported or here.
    """
    manifest = read_manifest(path)
    for name, expected in manifest.files.items():
        _verify(path / name, expected)
    featurizer = Featurizer.load(path)
    if featurizer.hash != manifest.feature_hash:
        raise ReleaseError(f"{path}: the featuriser is not the one the towers were trained with; export again")
    if engine == "torchscript":
        if QUERY_TORCHSCRIPT_FILE not in manifest.files:
            raise ReleaseError(f"{path} has no {QUERY_TORCHSCRIPT_FILE}; use engine onnx, or export it again")
        return Release(path, manifest, featurizer, TorchScriptQueryTower(path / QUERY_TORCHSCRIPT_FILE))
    if engine == "int8":
        return Release(path, manifest, featurizer, _int8_tower(path, manifest, featurizer))
    return Release(path, manifest, featurizer, OnnxTower(path / QUERY_ONNX_FILE))


def read_manifest(path: Path) -> ReleaseManifest:
    """The manifest of a sealed release; raises ReleaseError as `open_release` does."""
    file = path / MANIFEST_FILE
    try:
        manifest = msgspec.json.decode(file.read_bytes(), type=ReleaseManifest)
    except FileNotFoundError as exc:
        found = "no such directory" if not path.is_dir() else f"it has no {MANIFEST_FILE}, so it was never sealed"
        raise ReleaseError(f"{path} is not a release: {found}; make one with `que2search export`") from exc
    except UNREADABLE as exc:
        raise ReleaseError(f"{file} is damaged: {exc}; export the release again") from exc
    if manifest.format != FORMAT:
        raise ReleaseError(f"{path} has format {manifest.format!r}, this version reads {FORMAT!r}; export it again")
    _check_names(file, manifest.files.keys())
    return manifest


def _check_names(file: Path, sealed: Collection[str]) -> None:
    """Raises ReleaseError unless all that is read of a release is sealed, and nothing else is."""
    if foreign := set(sealed) - ALLOWED:
        raise ReleaseError(
            f"{file} names {', '.join(map(repr, sorted(foreign)))}, which are no part of a release; export it again"
        )
    if unsealed := NEEDED.difference(sealed):
        raise ReleaseError(f"{file} does not seal {', '.join(sorted(unsealed))}; export the release again")
    if TOKENIZERS.isdisjoint(sealed):
        raise ReleaseError(f"{file} seals no tokenizer ({' or '.join(sorted(TOKENIZERS))}); export the release again")


def _int8_tower(path: Path, manifest: ReleaseManifest, featurizer: Featurizer) -> OnnxTower:
    """Loaded where it passed its gate at export, and passes on this machine's instructions too."""
    if QUERY_INT8_FILE not in manifest.files:
        found = "it was exported before there was one" if manifest.int8 is None else manifest.int8.failure()
        raise ReleaseError(f"{path} has no int8 query tower: {found}; use engine onnx")
    tower = OnnxTower(path / QUERY_INT8_FILE)
    golden = _read_lines(path / GOLDEN_QUERIES_FILE, GoldenQuery)
    check_here(tower, OnnxTower(path / QUERY_ONNX_FILE), [featurizer.query(one.query, one.country) for one in golden])
    return tower


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(path: Path, expected: str) -> None:
    if not path.resolve().is_relative_to(path.parent.resolve()):
        raise ReleaseError(f"{path} is a link that leads out of the release; copy the file in its place")
    try:
        found = sha256(path)
    except OSError as exc:
        raise ReleaseError(f"{path} is missing from the release: {exc.strerror}; export it again") from exc
    if found != expected:
        raise ReleaseError(
            f"{path} was altered: SHA-256 {found[:12]}..., sealed as {expected[:12]}...; export it again"
        )


def _read_lines(path: Path, kind: type[Line]) -> list[Line]:
    decoder = msgspec.json.Decoder(kind)
    try:
        return [decoder.decode(line) for line in path.read_bytes().splitlines()]
    except UNREADABLE as exc:
        raise ReleaseError(f"cannot read {path}: {exc}; export the release again") from exc
