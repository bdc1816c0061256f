"""Vectors of the searchable products, a table per release."""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice, takewhile
from typing import Any, NamedTuple

import lmdb
import numpy as np

from index.errors import CatalogueError
from index.store import Store
from index.tables import VECTORS, get, number_key


class VectorBatch(NamedTuple):
    """Vectors in ascending order of their product numbers."""

    numbers: np.ndarray  # (n,) uint32
    vectors: np.ndarray  # (n, d) float32


class Unembedded(NamedTuple):
    """A searchable product as it was read, to be embedded."""

    number: int
    record: bytes  # see `index.records`


def put_vectors(store: Store, release: str, numbers: Sequence[int] | np.ndarray, vectors: np.ndarray) -> None:
    """See `Catalogue.put_vectors`."""
    rows = _checked_rows(vectors, count=len(numbers))
    table, products = store.make_table(VECTORS + release), store.table("products")
    pairs = [(number_key(int(number)), row.tobytes()) for number, row in zip(numbers, rows, strict=True)]

    def put(txn: lmdb.Transaction) -> None:
        check_dimension(txn, table, release, rows.shape[1])
        txn.cursor(db=table).putmulti([pair for pair in pairs if get(txn, products, pair[0]) is not None])

    store.write(put)


def fill_vectors(store: Store, release: str, products: Sequence[Unembedded], vectors: np.ndarray) -> int:
    """See `Catalogue.fill_vectors`."""
    rows = _checked_rows(vectors, count=len(products))
    table, records = store.make_table(VECTORS + release), store.table("products")
    found = [
        (number_key(product.number), product.record, row.tobytes()) for product, row in zip(products, rows, strict=True)
    ]

    def fill(txn: lmdb.Transaction) -> int:
        check_dimension(txn, table, release, rows.shape[1])
        current = [(key, row) for key, record, row in found if get(txn, records, key) == record]
        return sum(txn.put(key, row, db=table, overwrite=False) for key, row in current)

    return store.write(fill)


def _checked_rows(vectors: np.ndarray, *, count: int) -> np.ndarray:
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    if rows.ndim != 2 or len(rows) != count or not np.isfinite(rows).all():
        raise CatalogueError(f"{count} products need as many finite vectors; got shape {rows.shape}")
    return rows


def check_dimension(txn: lmdb.Transaction, table: Any, release: str, dim: int) -> None:
    """Raises CatalogueError when a release's vectors have another dimension."""
    first = next(iter(txn.cursor(db=table).iternext(keys=False)), None)
    if first is not None and len(first) != 4 * dim:
        raise CatalogueError(f"release {release!r} has {len(first) // 4}-d vectors here; {dim}-d ones do not fit")


def forget_vectors(store: Store, kept: Collection[str]) -> list[str]:
    """See `SearchableProducts.forget_vectors`."""
    releases = (name.removeprefix(VECTORS) for name in store.table_names() if name.startswith(VECTORS))
    forgotten = sorted(set(releases).difference(kept))
    for release in forgotten:
        store.drop_table(VECTORS + release)
    return forgotten


def missing_vectors(store: Store, release: str, wanted: np.ndarray) -> np.ndarray:
    """Which of (n,) uint32 product numbers lack a vector of this release, in the same order."""
    table = store.table_if_any(VECTORS + release)
    if table is None:
        return wanted
    with store.read() as txn:
        present = [get(txn, table, number_key(number)) is not None for number in wanted.tolist()]
    missing: np.ndarray = wanted[~np.array(present, dtype=bool)]
    return missing


def newest_vectors(store: Store, release: str, *, above: int, limit: int) -> np.ndarray:
    """See `SearchableProducts.newest_vectors`."""
    table = store.table_if_any(VECTORS + release)
    if table is None:
        return np.empty((0, 0), dtype=np.float32)
    lowest = number_key(above + 1)
    with store.read() as txn:
        newer = takewhile(lambda pair: bytes(pair[0]) >= lowest, txn.cursor(db=table).iterprev())
        values = [value for _, value in islice(newer, limit)]
    return np.frombuffer(b"".join(reversed(values)), dtype="<f4").reshape(len(values), -1 if values else 0)


def vectors(store: Store, release: str, *, batch: int) -> Iterator[VectorBatch]:
    """See `Catalogue.vectors`."""
    table = store.table_if_any(VECTORS + release)
    if table is None:
        return
    with store.read() as txn:
        rows = txn.cursor(db=table).iternext()
        while pairs := list(islice(rows, batch)):
            numbers = np.frombuffer(b"".join(key for key, _ in pairs), dtype=">u4").astype(np.uint32)
            floats = np.frombuffer(b"".join(value for _, value in pairs), dtype="<f4")
            yield VectorBatch(numbers, floats.reshape(len(pairs), -1))
