"""Searchable products, as searches and builds read them: the tables that a published product lies in."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from index import vector_tables
from index.errors import CatalogueError
from index.records import decode_record, product_key
from index.store import Store
from index.tables import VECTORS, get, get_counter, number_key
from index.vector_tables import Unembedded, VectorBatch


class SearchableProducts:
    """What searches find, by number: fields, fragments, and vectors per release.

    Args:
        path: the catalogue's folder.
        store: open for reading or writing.
    """

    def __init__(self, path: Path, store: Store) -> None:
        self.path = path
        self._store = store

    @property
    def count(self) -> int:
        """Searchable products."""
        return self._store.entries("products")

    def number_of(self, product_id: str) -> int | None:
        """The product number of an id, also of a deleted product; None for one that never was."""
        table = self._store.table("ids")
        with self._store.read() as txn:
            key = get(txn, table, product_key(product_id))
        return None if key is None else int.from_bytes(key, "big")

    def product(self, product_id: str) -> dict[str, Any] | None:
        """All stored fields of a searchable product, without the null ones; None when there is none."""
        number = self.number_of(product_id)
        record = None if number is None else self._values("products", [number])[0]
        return None if record is None else decode_record(record)

    def records(self, numbers: Iterable[int]) -> list[dict[str, Any]]:
        """All stored fields of searchable products, in the order given. Raises CatalogueError for an unknown number."""
        return [decode_record(record) for record in self._known("products", numbers)]

    def fragments(self, numbers: Iterable[int]) -> list[bytes]:
        """A hit's JSON members (`"id":"...","title":"..."`, no braces) in the order given. The hot path of a search.

        Raises:
            CatalogueError: a number has no product.
        """
        return self._known("fragments", numbers)

    def fragments_if_any(self, numbers: Iterable[int]) -> list[bytes | None]:
        """As `fragments`, with None for a product that was deleted since it was found."""
        return self._values("fragments", numbers)

    def put_vectors(self, release: str, numbers: Sequence[int] | np.ndarray, vectors: np.ndarray) -> None:
        """Store the vectors of products as one release embeds them, (n, d) float32, in one transaction.

        Those of products that are not searchable, such as deleted ones, are left out.

        Raises:
            CatalogueError: sizes disagree, a value is not finite, or the release has vectors of another dimension.
        """
        vector_tables.put_vectors(self._store, release, numbers, vectors)

    def unembedded(self, numbers: Iterable[int]) -> list[Unembedded]:
        """The searchable products among these, to be embedded for `fill_vectors`."""
        numbers = list(numbers)
        rows = zip(numbers, self._values("products", numbers), strict=True)
        return [Unembedded(number, record) for number, record in rows if record is not None]

    def fill_vectors(self, release: str, products: Sequence[Unembedded], vectors: np.ndarray) -> int:
        """Store vectors, (n, d) float32, of products that still lack one and are what they were when they were read.

        Returns:
            How many were stored: the others were published again, or deleted, meanwhile.

        Raises:
            CatalogueError: as `put_vectors`.
        """
        return vector_tables.fill_vectors(self._store, release, products, vectors)

    def vector_count(self, release: str) -> int:
        """Products that have a vector of this release."""
        return self._store.entries(VECTORS + release)

    def missing_vectors(self, release: str, numbers: np.ndarray | None = None) -> np.ndarray:
        """Which products (all of them, or of `numbers`) lack a vector of this release: (n,) uint32, ascending.

        What an interrupted build still has to embed.
        """
        wanted = np.unique(self._keys("products") if numbers is None else np.asarray(numbers, dtype=np.uint32))
        return vector_tables.missing_vectors(self._store, release, wanted)

    def vectors(self, release: str, *, batch: int = 16_384) -> Iterator[VectorBatch]:
        """All vectors of a release in number order, as of the moment the iteration starts."""
        return vector_tables.vectors(self._store, release, batch=batch)

    def newest_vectors(self, release: str, *, above: int, limit: int) -> np.ndarray:
        """(n, d) float32, n up to `limit`: of the highest product numbers above one; (0, 0) where there are none."""
        return vector_tables.newest_vectors(self._store, release, above=above, limit=limit)

    def forget_vectors(self, *, kept: Collection[str]) -> list[str]:
        """Remove the vectors of all releases but these, and say whose they were.

        Other processes may go on: one that still holds such a table finds it empty.
        """
        return vector_tables.forget_vectors(self._store, kept)

    def _known(self, name: str, numbers: Iterable[int]) -> list[bytes]:
        values = self._values(name, numbers)
        if None in values:
            raise CatalogueError(
                f"{self.path} lacks a product that its index lists; run `que2search build` to make them agree"
            )
        return values  # type: ignore[return-value]  # no None is among them

    def _values(self, name: str, numbers: Iterable[int]) -> list[bytes | None]:
        table = self._store.table(name)
        with self._store.read() as txn:
            return [get(txn, table, number_key(number)) for number in numbers]

    def _keys(self, name: str) -> np.ndarray:
        table = self._store.table(name)
        with self._store.read() as txn:
            keys = b"".join(txn.cursor(db=table).iternext(values=False))
        return np.frombuffer(keys, dtype=">u4").astype(np.uint32)

    def _counter(self, name: bytes) -> int:
        table = self._store.table("meta")
        with self._store.read() as txn:
            return get_counter(txn, table, name)
