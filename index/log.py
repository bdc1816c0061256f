"""The change log, for those who follow it: the indexer reads what waits, search workers what became visible."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import lmdb
import numpy as np

from index.errors import LogTrimmedError
from index.records import decode_record
from index.store import Store
from index.tables import (
    VECTORS,
    WRITTEN,
    Tables,
    Waiting,
    first_turns,
    get,
    get_counter,
    log_entry,
    possible_turns,
    put_counter,
    rows,
    sequence_key,
)

_TRIM_AT_ONCE = 10_000  # entries in one transaction: writers wait for it
_SKIMMED = 64  # entries that change nothing visible yet, at most, for each that is asked for: a microsecond each


class LogEnd(NamedTuple):
    """Where the log ends, in one snapshot."""

    sequence: int  # of its last entry
    transaction: int  # the last one that the snapshot holds


class Pending(NamedTuple):
    """A product that waits to be embedded."""

    number: int
    sequence: int
    product: dict[str, Any]


class Change(NamedTuple):
    """What became of a product."""

    number: int
    sequence: int  # of its last entry among those read
    product: dict[str, Any] | None  # None: deleted
    vector: np.ndarray | None  # (d,) float32; None: deleted, or this release has none of it


class Changes(NamedTuple):
    """A piece of the log."""

    upto: int  # read on after this sequence number
    entries: list[Change]  # one per product, in the order of their last entries


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """What waits to be embedded; products set aside do not."""

    count: int
    oldest: int | None  # sequence number; None: nothing waits
    age_s: float  # of the oldest; 0: nothing waits


def log_end(store: Store) -> LogEnd:
    """See `Catalogue.log_end`."""
    meta = store.table("meta")  # also where an older format keeps no log
    with store.read() as txn:
        return LogEnd(get_counter(txn, meta, b"sequence"), int(txn.id()))


def pending(store: Store, tables: Tables, limit: int) -> list[Pending]:
    """See `Catalogue.pending`."""
    with store.read() as txn:
        waiting = [(key, Waiting.read(txn, tables, key)) for _, key in islice(rows(txn, tables.queue), limit)]
    return [
        Pending(int.from_bytes(key, "big"), value.sequence, decode_record(value.record))
        for key, value in waiting
        if value is not None
    ]


def waits(store: Store, tables: Tables, sequence: int) -> bool:
    """See `Catalogue.waits`."""
    with store.read() as txn:
        return any(txn.get(turn, db=tables.queue) is not None for turn in possible_turns(sequence))


def changes(store: Store, tables: Tables, after: int, limit: int, release: str) -> Changes:
    """See `Catalogue.changes`."""
    vectors = store.table_if_any(VECTORS + release)
    with store.read() as txn:
        start = get_counter(txn, tables.meta, b"log_start")
        if after < start:
            raise LogTrimmedError(
                f"{store.path.parent} keeps no log of changes {after + 1} to {start}: a bulk load without its index, "
                "or a trim; run `que2search build` again, which goes on where it was"
            )
        upto, last, visible = after, dict[bytes, int](), 0
        for sequence, value in islice(_entries_after(txn, tables.log, after), _SKIMMED * limit):
            upto = sequence
            kind, key = log_entry.unpack(value)
            if kind == WRITTEN:
                continue
            last.pop(key, None)
            last[key] = sequence
            visible += 1
            if visible == limit:
                break
        found = [
            (key, get(txn, tables.products, key), None if vectors is None else get(txn, vectors, key)) for key in last
        ]
    return Changes(upto, [_change(key, last[key], record, vector) for key, record, vector in found])


def trim(store: Store, tables: Tables, upto: int) -> int:
    """See `Catalogue.trim`."""

    def some(txn: lmdb.Transaction) -> int:
        keys = [sequence_key(s) for s, _ in islice(_entries_after(txn, tables.log, 0), _TRIM_AT_ONCE) if s <= upto]
        for key in keys:
            txn.delete(key, db=tables.log)
        last = get_counter(txn, tables.meta, b"sequence")
        reached = int.from_bytes(keys[-1], "big") if len(keys) == _TRIM_AT_ONCE else min(upto, last)
        start = get_counter(txn, tables.meta, b"log_start")
        put_counter(txn, tables.meta, b"log_start", max(start, reached))
        return len(keys)

    trimmed = dropped = store.write(some)
    while trimmed == _TRIM_AT_ONCE:
        trimmed = store.write(some)
        dropped += trimmed
    return dropped


def backlog(store: Store, tables: Tables) -> Backlog:
    """See `Catalogue.backlog`."""
    with store.read() as txn:
        count = int(txn.stat(tables.queue)["entries"])
        first = [Waiting.read(txn, tables, key) for _, key in first_turns(txn, tables)]
    oldest = min((each for each in first if each is not None), default=None)
    if oldest is None:
        return Backlog(count=0, oldest=None, age_s=0.0)
    return Backlog(count=count, oldest=oldest.sequence, age_s=max(0.0, time.time() - oldest.time))


def _entries_after(txn: lmdb.Transaction, table: Any, after: int) -> Iterator[tuple[int, bytes]]:
    for key, value in rows(txn, table, start=sequence_key(after + 1)):
        yield int.from_bytes(key, "big"), value


def _change(key: bytes, sequence: int, record: bytes | None, vector: bytes | None) -> Change:
    number = int.from_bytes(key, "big")
    if record is None:
        return Change(number, sequence, product=None, vector=None)
    return Change(
        number, sequence, decode_record(record), None if vector is None else np.frombuffer(vector, dtype="<f4")
    )
