"""The durable catalogue: products, their vectors per release, and the secret that signs cursors.

Tables (keys are product numbers as four big-endian bytes, unless said otherwise):

    meta               name -> number: format, next_number, sequence
    ids                product id -> product number
    products           -> record, see `index.records`
    fragments          -> a hit's JSON members, ready to send
    vectors:RELEASE    -> float32 vector of the record as it is now
"""

import os
import secrets
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import lmdb
import numpy as np

from index.errors import CatalogueError
from index.records import decode_record, encode_fragment, encode_record, product_key
from index.store import MAP_SIZE, Store

FORMAT = 1
STORE_FILE = "products.lmdb"
KEY_FILE = "cursor.key"
_KEY_BYTES = 32
_MAX_NUMBER = 2**32 - 1
_VECTORS = "vectors:"

_number_key = struct.Struct(">I").pack
_counter = struct.Struct("<Q")


class VectorBatch(NamedTuple):
    """Vectors in ascending order of their product numbers."""

    numbers: np.ndarray  # (n,) uint32
    vectors: np.ndarray  # (n, d) float32


class Catalogue:
    """Products by number. Open it once per process, after any fork; reads are safe from all threads."""

    def __init__(self, path: Path, store: Store) -> None:
        self.path = path
        self._store = store

    @classmethod
    def create(cls, path: Path, *, map_size: int = MAP_SIZE) -> Self:
        """Open for writing; what is not there yet is made, so an interrupted creation is finished.

        Raises:
            CatalogueError: the folder cannot be written, or holds a catalogue that is damaged or of another format.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            _create_cursor_key(path / KEY_FILE)
        except OSError as exc:
            raise CatalogueError(f"cannot write to {path}: {exc}") from exc
        store = Store.open(path / STORE_FILE, create=True, readonly=False, map_size=map_size)
        for table in ("meta", "ids", "products", "fragments"):
            store.make_table(table)
        if store.entries("meta") == 0:
            store.write(lambda txn: _put_counter(txn, store.table("meta"), b"format", FORMAT))
        return cls._checked(path, store)

    @classmethod
    def open(cls, path: Path, *, readonly: bool = True) -> Self:
        """Open an existing catalogue.

        Raises:
            CatalogueError: not there, cut short, no catalogue at all, or of another format.
        """
        return cls._checked(path, Store.open(path / STORE_FILE, readonly=readonly))

    @classmethod
    def _checked(cls, path: Path, store: Store) -> Self:
        catalogue = cls(path, store)
        found = catalogue._number_in_meta(b"format")
        if found != FORMAT:
            store.close()
            raise CatalogueError(
                f"{path} has catalogue format {found}, this version reads {FORMAT}; build it anew elsewhere"
            )
        return catalogue

    def close(self) -> None:
        """Release the file; a process can then open it again."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def count(self) -> int:
        """Products stored."""
        return self._store.entries("products")

    @property
    def sequence(self) -> int:
        """How many product writes there have been; a generation notes the one it was built at."""
        return self._number_in_meta(b"sequence")

    def cursor_key(self) -> bytes:
        """The secret that signs cursors. Raises CatalogueError when its file is missing or cut short."""
        try:
            key = (self.path / KEY_FILE).read_bytes()
        except OSError as exc:
            raise CatalogueError(f"cannot read {self.path / KEY_FILE}: {exc}; restore it or build anew") from exc
        if len(key) != _KEY_BYTES:
            raise CatalogueError(f"{self.path / KEY_FILE} has {len(key)} bytes, not {_KEY_BYTES}; delete it and build")
        return key

    # Products

    def put_products(self, products: Iterable[Mapping[str, Any]]) -> np.ndarray:
        """Store products in one transaction; returns their numbers, (n,) uint32, in the order given.

        Each is a mapping with `product_id` and any of the columns of the `products` table. An id keeps its number for
        ever. An unchanged product costs no write; a changed one loses its vectors, which described what it was.

        Raises:
            CatalogueError: an id or a value that cannot be stored; then none of the batch is.
        """
        rows = [(product_key(p.get("product_id")), encode_record(p), encode_fragment(p)) for p in products]
        names = [name for name in self._store.table_names() if name.startswith(_VECTORS)]
        vector_tables = [self._store.table(name) for name in names]
        return self._store.write(lambda txn: self._put_rows(txn, rows, vector_tables))

    def number_of(self, product_id: str) -> int | None:
        """The product number of an id; None when the catalogue has no such product."""
        table = self._store.table("ids")
        with self._store.read() as txn:
            key = txn.get(product_key(product_id), db=table)
        return None if key is None else int.from_bytes(key, "big")

    def product(self, product_id: str) -> dict[str, Any] | None:
        """All stored fields of a product, without the null ones; None when there is no such product."""
        number = self.number_of(product_id)
        return None if number is None else self.records([number])[0]

    def records(self, numbers: Iterable[int]) -> list[dict[str, Any]]:
        """All stored fields of products, in the order given. Raises CatalogueError for an unknown number."""
        return [decode_record(record) for record in self._values("products", numbers)]

    def fragments(self, numbers: Iterable[int]) -> list[bytes]:
        """A hit's JSON members (`"id":"...","title":"..."`, no braces) in the order given. The hot path of a search.

        Raises:
            CatalogueError: a number has no product.
        """
        return self._values("fragments", numbers)

    # Vectors

    def put_vectors(self, release: str, numbers: Sequence[int] | np.ndarray, vectors: np.ndarray) -> None:
        """Store the vectors of products as one release embeds them, (n, d) float32, in one transaction.

        Raises:
            CatalogueError: sizes disagree, a value is not finite, or the release has vectors of another dimension.
        """
        rows = np.ascontiguousarray(vectors, dtype="<f4")
        if rows.ndim != 2 or len(rows) != len(numbers) or not np.isfinite(rows).all():
            raise CatalogueError(f"{len(numbers)} products need as many finite vectors; got shape {rows.shape}")
        table = self._store.make_table(_VECTORS + release)
        pairs = [(_number_key(int(number)), row.tobytes()) for number, row in zip(numbers, rows, strict=True)]

        def put(txn: lmdb.Transaction) -> None:
            first = next(iter(txn.cursor(db=table).iternext(keys=False)), None)
            if first is not None and len(first) != 4 * rows.shape[1]:
                raise CatalogueError(
                    f"release {release!r} has {len(first) // 4}-d vectors here; {rows.shape[1]}-d ones do not fit"
                )
            txn.cursor(db=table).putmulti(pairs)

        self._store.write(put)

    def vector_count(self, release: str) -> int:
        """Products that have a vector of this release."""
        return self._store.entries(_VECTORS + release)

    def missing_vectors(self, release: str, numbers: np.ndarray | None = None) -> np.ndarray:
        """Which products (all of them, or of `numbers`) lack a vector of this release: (n,) uint32, ascending.

        What an interrupted build still has to embed.
        """
        table = self._store.table_if_any(_VECTORS + release)
        wanted = np.unique(self._keys("products") if numbers is None else np.asarray(numbers, dtype=np.uint32))
        if table is None:
            return wanted
        with self._store.read() as txn:
            present = [txn.get(_number_key(number), db=table) is not None for number in wanted.tolist()]
        missing: np.ndarray = wanted[~np.array(present, dtype=bool)]
        return missing

    def vectors(self, release: str, *, batch: int = 16_384) -> Iterator[VectorBatch]:
        """All vectors of a release in number order, as of the moment the iteration starts."""
        table = self._store.table_if_any(_VECTORS + release)
        if table is None:
            return
        with self._store.read() as txn:
            rows = txn.cursor(db=table).iternext()
            while pairs := list(islice(rows, batch)):
                numbers = np.frombuffer(b"".join(key for key, _ in pairs), dtype=">u4").astype(np.uint32)
                floats = np.frombuffer(b"".join(value for _, value in pairs), dtype="<f4")
                yield VectorBatch(numbers, floats.reshape(len(pairs), -1))

    # Inside

    def _values(self, name: str, numbers: Iterable[int]) -> list[bytes]:
        table = self._store.table(name)
        with self._store.read() as txn:
            values: list[Any] = [txn.get(_number_key(number), db=table) for number in numbers]
        if None in values:
            raise CatalogueError(
                f"{self.path} lacks a product that its index lists; run `que2search build` to make them agree"
            )
        return values

    def _keys(self, name: str) -> np.ndarray:
        table = self._store.table(name)
        with self._store.read() as txn:
            keys = b"".join(txn.cursor(db=table).iternext(values=False))
        return np.frombuffer(keys, dtype=">u4").astype(np.uint32)

    def _number_in_meta(self, name: bytes) -> int:
        table = self._store.table("meta")
        with self._store.read() as txn:
            return _get_counter(txn, table, name)

    def _put_rows(
        self, txn: lmdb.Transaction, rows: list[tuple[bytes, bytes, bytes]], vector_tables: list[Any]
    ) -> np.ndarray:
        meta, ids = self._store.table("meta"), self._store.table("ids")
        records, fragments = self._store.table("products"), self._store.table("fragments")
        next_number = _get_counter(txn, meta, b"next_number")
        written = 0
        keys = []
        for product_id, record, fragment in rows:
            key = txn.get(product_id, db=ids)
            if key is None:
                if next_number > _MAX_NUMBER:
                    raise CatalogueError(f"all {_MAX_NUMBER + 1} product numbers are given; start a new catalogue")
                key = _number_key(next_number)
                txn.put(product_id, key, db=ids)
                next_number += 1
            elif txn.get(key, db=records) == record:
                keys.append(key)
                continue
            else:
                for table in vector_tables:
                    txn.delete(key, db=table)
            txn.put(key, record, db=records)
            txn.put(key, fragment, db=fragments)
            keys.append(key)
            written += 1
        _put_counter(txn, meta, b"next_number", next_number)
        _put_counter(txn, meta, b"sequence", _get_counter(txn, meta, b"sequence") + written)
        return np.frombuffer(b"".join(keys), dtype=">u4").astype(np.uint32)


def _get_counter(txn: lmdb.Transaction, table: Any, name: bytes) -> int:
    value = txn.get(name, db=table)
    return 0 if value is None else int(_counter.unpack(value)[0])


def _put_counter(txn: lmdb.Transaction, table: Any, name: bytes, value: int) -> None:
    txn.put(name, _counter.pack(value), db=table)


def _create_cursor_key(path: Path) -> None:
    """32 random bytes that only the owner may read, written once."""
    if path.exists():
        return
    beside = path.with_name(f"{path.name}.tmp")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
