"""The first of the two transactions: products written or deleted. Durable before anybody is told; searchable later."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import lmdb
import msgspec

from index.errors import CatalogueError, RequestConflictError
from index.records import encode_record, product_key
from index.store import Store
from index.tables import (
    DELETED,
    VECTORS,
    WRITTEN,
    Tables,
    append_log,
    forget_pending,
    get,
    newest_record,
    number_for,
    pending_head,
    rows,
    turn_key,
    version_entry,
    version_of,
)

ABSENT = -1  # as an expected version: there must be no such product
INVALID = "invalid"
NOT_FOUND = "not_found"
OTHER_VERSION = "other_version"
MAX_REQUEST_KEY_BYTES = 255


class Put(NamedTuple):
    """Store a product: a mapping with `product_id` and any columns of the `products` table."""

    product: Mapping[str, Any]
    expected: int | None = None  # the version it replaces, or ABSENT; None: whatever is there


class Delete(NamedTuple):
    """Delete a product at once: no search begun later finds it."""

    product_id: str
    expected: int | None = None  # the version it deletes; None: whatever is there


class Write(NamedTuple):
    """A change that is on disk."""

    number: int
    sequence: int  # the product's version from now on
    changed: bool  # False: the product was like that already, and nothing was written


class WriteProblem(NamedTuple):
    """A change that was refused, alone of its group."""

    kind: str  # INVALID, NOT_FOUND or OTHER_VERSION
    message: str


class Prepared(NamedTuple):
    """A change in bytes, as it is stored."""

    product_id: bytes
    record: bytes | None  # None: a deletion
    expected: int | None


Change = Put | Delete | Prepared | WriteProblem  # a problem stays one


class RequestProgress(NamedTuple):
    """How far a request of many lines gets with this group: committed with it, so that it can be resumed exactly."""

    key: str  # the client's idempotency key
    first: int  # lines done before this group
    done: int  # and with it


class _Turn(NamedTuple):
    """When what is put now is embedded."""

    time: float  # of the write, seconds since 1970
    after_others: bool


def prepare(change: Change) -> Prepared | WriteProblem:
    """Do what of a write needs no store; a change that cannot be stored becomes its problem."""
    try:
        match change:
            case Put(product, expected):
                return Prepared(product_key(product.get("product_id")), encode_record(product), expected)
            case Delete(product_id, expected):
                return Prepared(product_key(product_id), None, expected)
            case _:
                return change
    except CatalogueError as exc:
        return WriteProblem(INVALID, str(exc))


def write(
    store: Store,
    tables: Tables,
    changes: Sequence[Change],
    request: RequestProgress | None,
    *,
    after_others: bool,
) -> list[Write | WriteProblem]:
    """See `Catalogue.write`."""
    prepared = [prepare(change) for change in changes]  # here, not while other writers wait
    request_key = None if request is None else _request_key(request.key)
    deletes = any(isinstance(change, Prepared) and change.record is None for change in prepared)
    turn = _Turn(time.time(), after_others)

    def apply(txn: lmdb.Transaction) -> list[Write | WriteProblem]:
        vectors = store.tables_in(txn, VECTORS) if deletes else {}  # a put leaves them alone
        if request is not None and request_key is not None:
            _note_progress(txn, tables, request_key, request, turn.time)
        return [
            change if isinstance(change, WriteProblem) else _applied(txn, tables, change, vectors, turn)
            for change in prepared
        ]

    return store.write(apply)


def request_progress(store: Store, tables: Tables, key: str) -> int:
    """See `Catalogue.request_progress`."""
    with store.read() as txn:
        return _lines_done(txn, tables, _request_key(key))


def forget_requests(store: Store, tables: Tables, before: float) -> int:
    """See `Catalogue.forget_requests`."""

    def forget(txn: lmdb.Transaction) -> int:
        old = [key for key, value in rows(txn, tables.requests) if msgspec.msgpack.decode(value)["time"] < before]
        for key in old:
            txn.delete(key, db=tables.requests)
        return len(old)

    return store.write(forget)


def _applied(
    txn: lmdb.Transaction, tables: Tables, change: Prepared, vectors: Mapping[str, Any], turn: _Turn
) -> Write | WriteProblem:
    name = change.product_id.decode()
    key: bytes | None = get(txn, tables.ids, change.product_id)
    present = None if key is None else newest_record(txn, tables, key)
    version = ABSENT if key is None or present is None else version_of(txn, tables, key)
    if change.record is None and version == ABSENT:
        return WriteProblem(NOT_FOUND, f"there is no product {name!r}")
    if change.expected not in {None, version}:
        found = "there is no such product" if version == ABSENT else f"it has version {version}"
        wanted = "none was to be there" if change.expected == ABSENT else f"version {change.expected} was expected"
        return WriteProblem(OTHER_VERSION, f"product {name!r}: {wanted}, but {found}; read it again, then write")
    key = number_for(txn, tables, change.product_id)
    if change.record is None:
        return _delete(txn, tables, key, vectors)
    if change.record == present:
        return Write(int.from_bytes(key, "big"), version, changed=False)
    return _put(txn, tables, key, change.record, turn)


def _put(txn: lmdb.Transaction, tables: Tables, key: bytes, record: bytes, turn: _Turn) -> Write:
    forget_pending(txn, tables, key)
    sequence = append_log(txn, tables, WRITTEN, key)
    txn.put(key, pending_head.pack(sequence, turn.time) + record, db=tables.pending)
    txn.put(turn_key(sequence, after_others=turn.after_others), key, db=tables.queue)
    txn.put(key, version_entry.pack(sequence, WRITTEN), db=tables.versions)
    return Write(int.from_bytes(key, "big"), sequence, changed=True)


def _delete(txn: lmdb.Transaction, tables: Tables, key: bytes, vectors: Mapping[str, Any]) -> Write:
    forget_pending(txn, tables, key)
    for table in (tables.products, tables.fragments, *vectors.values()):
        txn.delete(key, db=table)
    sequence = append_log(txn, tables, DELETED, key)
    txn.put(key, version_entry.pack(sequence, DELETED), db=tables.versions)
    return Write(int.from_bytes(key, "big"), sequence, changed=True)


def _note_progress(txn: lmdb.Transaction, tables: Tables, key: bytes, request: RequestProgress, now: float) -> None:
    done = _lines_done(txn, tables, key)
    if done != request.first:
        raise RequestConflictError(
            f"request {request.key!r} has {done} lines done, not {request.first}: "
            "it goes on over another connection; ask again how far it is"
        )
    txn.put(key, msgspec.msgpack.encode({"done": request.done, "time": now}), db=tables.requests)


def _lines_done(txn: lmdb.Transaction, tables: Tables, key: bytes) -> int:
    value = get(txn, tables.requests, key)
    return 0 if value is None else int(msgspec.msgpack.decode(value)["done"])


def _request_key(key: str) -> bytes:
    encoded = key.encode("utf-8", "replace")
    if not 1 <= len(encoded) <= MAX_REQUEST_KEY_BYTES:
        raise CatalogueError(f"idempotency key {key!r} must have 1 to {MAX_REQUEST_KEY_BYTES} UTF-8 bytes")
    return encoded
