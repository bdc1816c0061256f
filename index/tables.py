"""The tables of a catalogue: what they are called, and how their keys and heads are written.

Keys are product numbers as four big-endian bytes, unless said otherwise:

    meta               name -> number: format, next_number, sequence, log_start
    ids                product id -> product number, for ever: a deleted product that comes back has its number again
    products           -> record, see `index.records`       what is searchable
    fragments          -> a hit's JSON members, ready to send
    vectors:RELEASE    -> float32 vector of that record
    pending            -> head (sequence, time) and record: acknowledged, not searchable yet
    queue              turn -> product number: what of `pending` is to be embedded, in the order of `turn_key`
    failed             -> the error that setting it aside noted; it stays in `pending`
    versions           -> sequence and kind of the product's last write
    log                sequence -> kind and product number
    requests           idempotency key -> lines done, time
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import lmdb

from index.errors import CatalogueError
from index.store import Store

VECTORS = "vectors:"
MAX_NUMBER = 2**32 - 1
_AFTER_OTHERS = 1 << 63  # added to a sequence number, it comes after all that are without

WRITTEN = 1  # to be embedded
DELETED = 2  # gone at once
PUBLISHED = 3  # searchable: its fields, its words, and its vector of every release
KINDS = (WRITTEN, DELETED, PUBLISHED)

number_key = struct.Struct(">I").pack
sequence_key = struct.Struct(">Q").pack
log_entry = struct.Struct(">B4s")  # kind, number key
version_entry = struct.Struct(">QB")  # sequence, WRITTEN or DELETED
pending_head = struct.Struct(">Qd")  # sequence, seconds since 1970
_counter = struct.Struct("<Q")


class Tables(NamedTuple):
    """The handles of all tables but the vectors'."""

    meta: Any
    ids: Any
    products: Any
    fragments: Any
    pending: Any
    queue: Any
    failed: Any
    versions: Any
    log: Any
    requests: Any

    @classmethod
    def make(cls, store: Store) -> Self:
        """Make what is not there yet; for a store that is open for writing."""
        return cls._make(store.make_table(name) for name in cls._fields)

    @classmethod
    def open(cls, store: Store) -> Self:
        """Raises CatalogueError when one is missing."""
        return cls._make(store.table(name) for name in cls._fields)


class Waiting(NamedTuple):
    """A value of `pending`."""

    sequence: int
    time: float
    record: bytes

    @classmethod
    def read(cls, txn: lmdb.Transaction, tables: Tables, key: bytes) -> Self | None:
        """What waits under a number's key; None: nothing."""
        value = get(txn, tables.pending, key)
        if value is None:
            return None
        sequence, written_at = pending_head.unpack_from(value)
        return cls(sequence, written_at, value[pending_head.size :])


def get(txn: lmdb.Transaction, table: Any, key: bytes) -> bytes | None:
    """A row's value; None: there is none."""
    value = txn.get(key, db=table)
    return None if value is None else bytes(value)


def rows(txn: lmdb.Transaction, table: Any, *, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """A table's keys from `start` on, in order, with their values."""
    cursor = txn.cursor(db=table)
    if cursor.set_range(start):
        for key, value in cursor.iternext():
            yield bytes(key), bytes(value)


def get_counter(txn: lmdb.Transaction, meta: Any, name: bytes) -> int:
    """A number of `meta`; 0 when it was never set."""
    value = get(txn, meta, name)
    return 0 if value is None else int(_counter.unpack(value)[0])


def put_counter(txn: lmdb.Transaction, meta: Any, name: bytes, value: int) -> None:
    """Set a number of `meta`."""
    txn.put(name, _counter.pack(value), db=meta)


def append_log(txn: lmdb.Transaction, tables: Tables, kind: int, key: bytes) -> int:
    """Write a log entry about a number's key; returns its sequence number, one more than the last."""
    sequence = get_counter(txn, tables.meta, b"sequence") + 1
    if not txn.put(sequence_key(sequence), log_entry.pack(kind, key), db=tables.log, append=True):
        raise CatalogueError(f"the log goes beyond {sequence}, its next entry; run `que2search catalogue check`")
    put_counter(txn, tables.meta, b"sequence", sequence)
    return sequence


def turn_key(sequence: int, *, after_others: bool) -> bytes:
    """When a write is embedded: in the order of sequence numbers, but after all others what can wait for them."""
    return sequence_key(sequence | _AFTER_OTHERS if after_others else sequence)


def possible_turns(sequence: int) -> tuple[bytes, bytes]:
    """The turns that a write with this sequence number may have: its own, and the one after all others."""
    return turn_key(sequence, after_others=False), turn_key(sequence, after_others=True)


def sequence_of_turn(turn: bytes) -> int:
    """The sequence number of the write that has this turn."""
    return int.from_bytes(turn, "big") & ~_AFTER_OTHERS


def leave_queue(txn: lmdb.Transaction, tables: Tables, sequence: int) -> None:
    """What was written so is not to be embedded any more."""
    for turn in possible_turns(sequence):
        txn.delete(turn, db=tables.queue)


def first_turns(txn: lmdb.Transaction, tables: Tables) -> Iterator[tuple[bytes, bytes]]:
    """The next entry of the queue, and the next of those that come after all others, where there are such."""
    for start in possible_turns(0):
        first = next(rows(txn, tables.queue, start=start), None)
        if first is not None:
            yield first


def version_of(txn: lmdb.Transaction, tables: Tables, key: bytes) -> int:
    """Sequence number of a product's last write; 0 for one that a catalogue of format 1 held."""
    value = get(txn, tables.versions, key)
    return 0 if value is None else int(version_entry.unpack(value)[0])


def newest_record(txn: lmdb.Transaction, tables: Tables, key: bytes) -> bytes | None:
    """The record as last written, searchable or not; None: there is no such product."""
    pending = Waiting.read(txn, tables, key)
    record: bytes | None = get(txn, tables.products, key) if pending is None else pending.record
    return record


def forget_pending(txn: lmdb.Transaction, tables: Tables, key: bytes) -> None:
    """What waited under a number's key waits no longer, set aside or not."""
    pending = Waiting.read(txn, tables, key)
    if pending is not None:
        txn.delete(key, db=tables.pending)
        leave_queue(txn, tables, pending.sequence)
        txn.delete(key, db=tables.failed)


def number_for(txn: lmdb.Transaction, tables: Tables, product_id: bytes) -> bytes:
    """The key of a product id's number, given now if it has none. Raises CatalogueError when all are given."""
    key: bytes | None = get(txn, tables.ids, product_id)
    if key is None:
        number = get_counter(txn, tables.meta, b"next_number")
        if number > MAX_NUMBER:
            raise CatalogueError(f"all {MAX_NUMBER + 1} product numbers are given; start a new catalogue")
        key = number_key(number)
        txn.put(product_id, key, db=tables.ids)
        put_counter(txn, tables.meta, b"next_number", number + 1)
    return key
