"""A release, opened and verified: what turns a query or a product into a vector when serving. No torch on import.

releases/NAME/
    query_tower.onnx  query_tower.pt  document_tower.onnx
    features.json  tokenizer.model
    golden_queries.jsonl  judgements.jsonl
    manifest.json            written last: it seals the others by their SHA-256
"""

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import msgspec
import numpy as np

from models.errors import ReleaseError
from models.features import DocumentFeatures, Featurizer, QueryFeatures

# From 1.29 on it reports its use to its makers, with a device id in the home directory, unless it finds this on import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

FORMAT = "que2search-release/1"
MANIFEST_FILE = "manifest.json"
QUERY_ONNX_FILE = "query_tower.onnx"
QUERY_TORCHSCRIPT_FILE = "query_tower.pt"
DOCUMENT_ONNX_FILE = "document_tower.onnx"
GOLDEN_QUERIES_FILE = "golden_queries.jsonl"
JUDGEMENTS_FILE = "judgements.jsonl"

VECTOR, CHANNEL_WEIGHTS = "vector", "channel_weights"  # what a tower's outputs are called

Engine = Literal["onnx", "torchscript"]
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
    query_channels: list[str] = []  # whose weights the query tower gives, in order; none where it has no attention


class QueryTower(Protocol):
    """Query features to vectors."""

    def embed(self, features: QueryFeatures) -> np.ndarray:
        """(n, d) float32, rows of norm 1."""
        ...

    def channel_weights(self, features: QueryFeatures) -> np.ndarray:
        """(n, c) float32, rows of sum 1: the attention of a tower that was exported with it."""
        ...


class OnnxTower:
    """A tower run by ONNX Runtime on one thread: requests, not operators, run in parallel."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A pool that spins between requests takes the core from whoever serves the next one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # onnxruntime raises classes of its own that share no base
            raise ReleaseError(f"cannot load {path}: {exc}; export the release again") from exc
        self._inputs = [node.name for node in self._session.get_inputs()]

    def embed(self, features: QueryFeatures | DocumentFeatures) -> np.ndarray:
        """(n, d) float32, rows of norm 1."""
        return self._run(VECTOR, features)

    def channel_weights(self, features: QueryFeatures) -> np.ndarray:
        """See `QueryTower.channel_weights`."""
        return self._run(CHANNEL_WEIGHTS, features)

    def _run(self, output: str, features: QueryFeatures | DocumentFeatures) -> np.ndarray:
        values: np.ndarray = self._session.run([output], {name: getattr(features, name) for name in self._inputs})[0]
        return values


class TorchScriptQueryTower:
    """The query tower as TorchScript: the measured alternative. Loads torch when made."""

    def __init__(self, path: Path) -> None:
        try:
            import torch  # noqa: PLC0415 - the default engine must not need torch
        except ImportError as exc:
            raise ReleaseError("the torchscript engine needs torch; install the `train` extra or use onnx") from exc
        torch.set_num_threads(1)
        self._from_numpy = torch.from_numpy
        self._inference_mode = torch.inference_mode
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # known: it is the alternative, not the default
                self._tower = torch.jit.freeze(torch.jit.load(str(path)).eval())  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as exc:
            raise ReleaseError(f"cannot load {path}: {exc}; export the release again") from exc

    def embed(self, features: QueryFeatures) -> np.ndarray:
        """(n, d) float32, rows of norm 1."""
        return self._run(features)[0]

    def channel_weights(self, features: QueryFeatures) -> np.ndarray:
        """See `QueryTower.channel_weights`."""
        return self._run(features)[1]

    def _run(self, features: QueryFeatures) -> list[np.ndarray]:
        """Vectors, then weights where the tower has them; without, it gives no tuple."""
        inputs = (features.token_ids, features.trigram_ids, features.country_ids)
        with self._inference_mode():
            found = self._tower(*map(self._from_numpy, inputs))
            return [output.numpy() for output in (found if isinstance(found, tuple) else (found,))]


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


def onnx_providers() -> list[str]:
    """What this installation of ONNX Runtime can run on."""
    providers: list[str] = onnxruntime.get_available_providers()
    return providers


def open_release(path: Path, *, engine: Engine = "onnx") -> Release:
    """Verify every file against the manifest, then load the featuriser and the query tower.

    Raises:
        ReleaseError: missing, incomplete, altered (names the file) or of another format.
    """
    manifest = read_manifest(path)
    for name, expected in manifest.files.items():
        _verify(path / name, expected)
    featurizer = Featurizer.load(path)
    if featurizer.hash != manifest.feature_hash:
        raise ReleaseError(f"{path}: the featuriser is not the one the towers were trained with; export again")
    if engine == "torchscript":
        return Release(path, manifest, featurizer, TorchScriptQueryTower(path / QUERY_TORCHSCRIPT_FILE))
    return Release(path, manifest, featurizer, OnnxTower(path / QUERY_ONNX_FILE))


def read_manifest(path: Path) -> ReleaseManifest:
    """The manifest of a sealed release; raises ReleaseError as `open_release` does."""
    file = path / MANIFEST_FILE
    try:
        manifest = msgspec.json.decode(file.read_bytes(), type=ReleaseManifest)
    except FileNotFoundError as exc:
        found = "no such directory" if not path.is_dir() else f"it has no {MANIFEST_FILE}, so it was never sealed"
        raise ReleaseError(f"{path} is not a release: {found}; make one with `que2search export`") from exc
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ReleaseError(f"{file} is damaged: {exc}; export the release again") from exc
    if manifest.format != FORMAT:
        raise ReleaseError(f"{path} has format {manifest.format!r}, this version reads {FORMAT!r}; export it again")
    if escaping := [name for name in manifest.files if Path(name).name != name]:
        raise ReleaseError(f"{file} names files outside the release: {escaping}")
    return manifest


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(path: Path, expected: str) -> None:
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
    except (OSError, msgspec.DecodeError) as exc:
        raise ReleaseError(f"cannot read {path}: {exc}; export the release again") from exc
