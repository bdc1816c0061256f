"""The second of the two transactions: what was embedded becomes searchable, or is set aside with its error."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import lmdb
import msgspec
import numpy as np

from index.errors import CatalogueError
from index.records import decode_record, encode_fragment
from index.store import Store
from index.tables import PUBLISHED, VECTORS, Tables, Waiting, append_log, forget_pending, leave_queue, number_key, rows
from index.vector_tables import check_dimension


class Published(NamedTuple):
    """A pending product with its vectors."""

    number: int
    sequence: int  # of the write that was embedded: a later one makes these vectors worthless
    vectors: Mapping[str, np.ndarray]  # release -> (d,) float32


class Failed(NamedTuple):
    """A product that could not be embedded: not searchable, or with its old fields, until it is written again."""

    number: int
    sequence: int
    product_id: str
    error: str
    time: float  # seconds since 1970


def publish(store: Store, tables: Tables, published: Sequence[Published]) -> int:
    """See `Catalogue.publish`."""
    ready = [(one, {release: _row(one, vector) for release, vector in one.vectors.items()}) for one in published]
    for release in {release for one in published for release in one.vectors}:
        store.make_table(VECTORS + release)

    def apply(txn: lmdb.Transaction) -> int:
        vector_tables = store.tables_in(txn, VECTORS)
        return sum(_published(txn, tables, vector_tables, one, vectors) for one, vectors in ready)

    return store.write(apply)


def set_aside(store: Store, tables: Tables, number: int, sequence: int, error: str) -> bool:
    """See `Catalogue.set_aside`."""
    note = msgspec.msgpack.encode({"sequence": sequence, "error": error, "time": time.time()})

    def apply(txn: lmdb.Transaction) -> bool:
        key = number_key(number)
        pending = Waiting.read(txn, tables, key)
        if pending is None or pending.sequence != sequence:
            return False
        leave_queue(txn, tables, sequence)
        txn.put(key, note, db=tables.failed)
        return True

    return store.write(apply)


def failed(store: Store, tables: Tables) -> list[Failed]:
    """See `Catalogue.failed`."""
    with store.read() as txn:
        found = [(key, note, Waiting.read(txn, tables, key)) for key, note in rows(txn, tables.failed)]
    return [
        Failed(
            number=int.from_bytes(key, "big"),
            product_id=decode_record(pending.record)["product_id"],
            **msgspec.msgpack.decode(note),
        )
        for key, note, pending in found
        if pending is not None
    ]


def error_of(note: bytes) -> str:
    """The error in a value of `failed`."""
    return str(msgspec.msgpack.decode(note)["error"])


def _row(one: Published, vector: np.ndarray) -> np.ndarray:
    row = np.ascontiguousarray(vector, dtype="<f4")
    if row.ndim != 1 or not np.isfinite(row).all():
        raise CatalogueError(f"product number {one.number} needs finite vectors of one row; got shape {row.shape}")
    return row


def _published(
    txn: lmdb.Transaction,
    tables: Tables,
    vector_tables: Mapping[str, Any],
    one: Published,
    vectors: Mapping[str, np.ndarray],
) -> bool:
    key = number_key(one.number)
    pending = Waiting.read(txn, tables, key)
    if pending is None or pending.sequence != one.sequence:
        return False
    forget_pending(txn, tables, key)
    txn.put(key, pending.record, db=tables.products)
    txn.put(key, encode_fragment(decode_record(pending.record)), db=tables.fragments)
    for release, table in vector_tables.items():
        vector = vectors.get(release)
        if vector is None:
            txn.delete(key, db=table)  # it described what the product was
        else:
            check_dimension(txn, table, release, len(vector))
            txn.put(key, vector.tobytes(), db=table)
    append_log(txn, tables, PUBLISHED, key)
    return True
