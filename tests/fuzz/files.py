"""What is read from disk: releases, generations, backups, exported products, stored records."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from index.backup import back_up, restore
from index.build import build_generation
from index.catalogue import Catalogue
from index.errors import CatalogueError, SearchIndexError
from index.files import sha256_of_file, write_sealed_json
from index.generations import generation_path, open_current, open_generation
from index.records import decode_record, encode_fragment, encode_record, product_key
from index.transfer import export_products, import_products
from models.errors import ReleaseError
from models.features import Featurizer
from models.runtime import open_release
from tests.fuzz.target import Target
from tests.helpers import product_vectors, small_featurizer
from tests.market import products
from tests.small_release import small_release

MANIFEST = "manifest.json"
SEALED_ANEW = 1  # in an input's second byte: whoever altered the file also wrote its new checksum


class Altered:
    """A folder of which one file is replaced for a while.

    Args:
        folder: as it is sealed.
        files: that are replaced; an input's first byte picks one, its third and later ones are the new content.
        seal: makes the checksums fit a replaced file.
        binary: files whose bytes go to a library's own reader, so that only their checksum stands before it: these
            are never sealed anew.
    """

    def __init__(
        self, folder: Path, files: Sequence[str], *, seal: Callable[[Path, str], None], binary: Sequence[str] = ()
    ) -> None:
        self._folder = folder
        self._files = (*files, *binary)
        self._sealable = frozenset(files)
        self._seal = seal

    def seeds(self) -> list[bytes]:
        return [
            bytes([at, sealed]) + (self._folder / name).read_bytes()
            for at, name in enumerate(self._files)
            for sealed in (0, SEALED_ANEW)
        ]

    @contextmanager
    def by(self, data: bytes) -> Iterator[None]:
        """Replaced as an input says while the block runs."""
        at, sealed, content = data[0] % len(self._files), data[1] & SEALED_ANEW, data[2:]
        name = self._files[at]
        before = {one: (self._folder / one).read_bytes() for one in {name, MANIFEST} if (self._folder / one).exists()}
        _replace(self._folder / name, content)
        if sealed and name in self._sealable:
            self._seal(self._folder, name)
        try:
            yield
        finally:
            for one, original in before.items():
                _replace(self._folder / one, original)


def release(folder: Path) -> Target:
    """A release opens, or ReleaseError says what is wrong with it."""
    featurizer = small_featurizer(trigram_rows=20, countries=("GB",), image_dim=0)
    path = small_release(folder, featurizer=featurizer, dim=2)
    altered = Altered(
        path,
        [MANIFEST, "features.json", "tokenizer.model", "golden_queries.jsonl", "judgements.jsonl"],
        seal=_seal_release,
        binary=["query_tower.onnx", "document_tower.onnx"],
    )

    def entry(data: bytes) -> None:
        if len(data) < 2:
            return
        with altered.by(data), suppress(ReleaseError):
            opened = open_release(path)
            opened.golden_queries()
            opened.judgements()

    return Target(entry, altered.seeds())


def generation(folder: Path) -> Target:
    """A generation opens, or IndexFileError says what is wrong with it."""
    path = generation_path(_catalogue(folder), 1)
    altered = Altered(
        path,
        [MANIFEST, "operating_points.json", "columns/fields.json", "columns/0.values.json", "numbers.npy"],
        seal=_seal_generation,
        binary=["index.faiss", "columns/0.ranks.npy", "lexical/starts.npy"],
    )

    def entry(data: bytes) -> None:
        if len(data) < 2:
            return
        with altered.by(data), suppress(SearchIndexError):
            open_generation(path)

    return Target(entry, altered.seeds())


def backup(folder: Path) -> Target:
    """A backup is restored or refused, and what was restored opens or is refused."""
    path, out = folder / "backup", folder / "restored"
    back_up(_catalogue(folder), path)
    altered = Altered(path, ["CURRENT", "cursor.key"], seal=lambda _folder, _name: None)

    def entry(data: bytes) -> None:
        if len(data) < 2:
            return
        with altered.by(data), suppress(SearchIndexError):
            restore(path, out)
            open_current(out)
        shutil.rmtree(out, ignore_errors=True)

    return Target(entry, altered.seeds())


def exported(folder: Path) -> Target:
    """Lines of an exported catalogue are stored, or CatalogueError names the one that is no product."""
    path = folder / "products.jsonl"
    with Catalogue.open(_catalogue(folder)) as catalogue:
        export_products(catalogue, path)
    seed = path.read_bytes()

    def entry(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(CatalogueError):
            import_products(cast("Any", Rows()), path)

    return Target(entry, [seed, b'{"product_id": "a", "image_vectors": [[1], "b"]}', b"[" * 2_000])


def record(_folder: Path) -> Target:
    """A record is read, or CatalogueError says that it is damaged."""
    whole = [encode_record(product | {"image_vectors": [[0.5, -1.0]]}) for product in products(3)]

    def entry(data: bytes) -> None:
        with suppress(CatalogueError):
            decode_record(data)

    return Target(entry, whole)


class Rows:
    """A catalogue that makes what it would store, and keeps nothing."""

    def put_products(self, records: Iterable[Mapping[str, Any]]) -> None:
        for product in records:
            product_key(product.get("product_id"))
            decode_record(encode_record(product))
            encode_fragment(product)


def _catalogue(folder: Path) -> Path:
    """Six products and one generation."""
    vectors = product_vectors(6, dim=4)
    with Catalogue.create(folder / "catalogue") as catalogue:
        catalogue.put_vectors("r1", catalogue.put_products(products(6)), vectors)
        build_generation(catalogue, release="r1", factory="Flat")
    return folder / "catalogue"


def _seal_release(folder: Path, name: str) -> None:
    if name == MANIFEST:  # no checksum stands before it
        return
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][name] = sha256_of_file(folder / name)
    with suppress(ReleaseError):
        manifest["feature_hash"] = Featurizer.load(folder).hash
    _replace(folder / MANIFEST, json.dumps(manifest).encode())


def _seal_generation(folder: Path, name: str) -> None:
    """JSON files carry a checksum themselves, and the manifest has those of all files that never change."""
    with suppress(ValueError, RecursionError):
        content = json.loads((folder / name).read_bytes())
        if isinstance(content, dict):
            write_sealed_json(folder / name, {key: value for key, value in content.items() if key != "checksum"})
    if name != MANIFEST:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        del manifest["checksum"]
        if name in manifest["files"]:
            manifest["files"][name] = sha256_of_file(folder / name)
        write_sealed_json(folder / MANIFEST, manifest)


def _replace(path: Path, content: bytes) -> None:
    """In one step: what has the old file mapped keeps it."""
    beside = path.with_name("beside")
    beside.write_bytes(content)
    beside.replace(path)


TARGETS = {
    "release": release,
    "generation": generation,
    "backup": backup,
    "exported": exported,
    "record": record,
}
