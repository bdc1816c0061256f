"""The check of what live writes keep: what waits, what failed, versions, requests, and the log itself."""

import struct
from collections.abc import Callable, Iterator
from typing import Any

import lmdb
import msgspec

from index.errors import CatalogueError
from index.records import decode_record
from index.tables import (
    DELETED,
    KINDS,
    WRITTEN,
    Tables,
    Waiting,
    get,
    get_counter,
    log_entry,
    number_key,
    possible_turns,
    sequence_of_turn,
    version_entry,
    version_of,
)

Rows = Callable[[lmdb.Transaction, Any], Iterator[tuple[bytes, bytes]]]


def live_problems(txn: lmdb.Transaction, tables: Tables, rows: Rows) -> Iterator[str]:
    """What is wrong, in words.

    Args:
        txn: one snapshot.
        tables: all of them.
        rows: reads a table, and counts.
    """
    yield from _pending_problems(txn, tables, rows)
    yield from _version_problems(txn, tables, rows)
    yield from _log_problems(txn, tables, rows)
    for key, value in rows(txn, tables.requests):
        if "done" not in _note(value):
            yield f"request {key.decode(errors='replace')!r}: what is known of it cannot be read"


def _pending_problems(txn: lmdb.Transaction, tables: Tables, rows: Rows) -> Iterator[str]:
    for key, _ in rows(txn, tables.pending):
        number = int.from_bytes(key, "big")
        waiting = _waiting(txn, tables, key)
        product_id = b"" if waiting is None else _id_of(waiting.record)
        if waiting is None or not product_id:
            yield f"product number {number}: what is pending cannot be read"
            continue
        if get(txn, tables.ids, product_id) != key:
            yield f"pending product number {number} says it is {product_id.decode()!r}, which has another number"
        if version_of(txn, tables, key) != waiting.sequence:
            version = version_of(txn, tables, key)
            yield f"product number {number} waits as of {waiting.sequence}, but has version {version}"
        places = [get(txn, tables.queue, turn) for turn in possible_turns(waiting.sequence)].count(key)
        places += get(txn, tables.failed, key) is not None
        if places != 1:
            yield f"product number {number} waits, {'both queued and' if places else 'neither queued nor'} set aside"
    for turn, number_bytes in rows(txn, tables.queue):
        sequence = sequence_of_turn(turn)
        waiting = _waiting(txn, tables, number_bytes)
        if waiting is None or waiting.sequence != sequence:
            yield f"entry {sequence} is queued, but product number {int.from_bytes(number_bytes, 'big')} does not wait"
    for key, note in rows(txn, tables.failed):
        waiting = _waiting(txn, tables, key)
        if waiting is None or _note(note).get("sequence") != waiting.sequence:
            yield f"product number {int.from_bytes(key, 'big')} is set aside, but that version does not wait"


def _version_problems(txn: lmdb.Transaction, tables: Tables, rows: Rows) -> Iterator[str]:
    given, last = get_counter(txn, tables.meta, b"next_number"), get_counter(txn, tables.meta, b"sequence")
    deleted = set()
    for key, value in rows(txn, tables.versions):
        number = int.from_bytes(key, "big")
        if len(value) != version_entry.size:
            yield f"product number {number}: its version cannot be read"
            continue
        sequence, kind = version_entry.unpack(value)
        if number >= given or not 1 <= sequence <= last or kind not in {WRITTEN, DELETED}:
            yield f"product number {number} has version {sequence} of kind {kind}; the log ends at {last}"
        if kind == DELETED:
            deleted.add(number)
    for number in range(given):
        key = number_key(number)
        is_there = get(txn, tables.products, key) is not None or get(txn, tables.pending, key) is not None
        if is_there == (number in deleted):
            yield f"number {number} was {'deleted, but is there' if is_there else 'never deleted, but is gone'}"


def _log_problems(txn: lmdb.Transaction, tables: Tables, rows: Rows) -> Iterator[str]:
    given, last = get_counter(txn, tables.meta, b"next_number"), get_counter(txn, tables.meta, b"sequence")
    start = get_counter(txn, tables.meta, b"log_start")
    expected = start + 1
    for key, value in rows(txn, tables.log):
        sequence = int.from_bytes(key, "big")
        kind, number_bytes = log_entry.unpack(value) if len(value) == log_entry.size else (0, b"\xff" * 4)
        if kind not in KINDS or int.from_bytes(number_bytes, "big") >= given:
            yield f"log entry {sequence} cannot be read"
        if sequence > start:
            if sequence != expected:
                yield f"the log lacks entries {expected} to {sequence - 1}"
            expected = sequence + 1
    if expected != last + 1:
        yield f"the log ends at {expected - 1}, but {last} is the last sequence number"


def _waiting(txn: lmdb.Transaction, tables: Tables, key: bytes) -> Waiting | None:
    try:
        return Waiting.read(txn, tables, key)
    except struct.error:
        return None


def _id_of(record: bytes) -> bytes:
    try:
        return str(decode_record(record)["product_id"]).encode()
    except (CatalogueError, KeyError):
        return b""


def _note(value: bytes) -> dict[str, Any]:
    try:
        note = msgspec.msgpack.decode(value)
    except (msgspec.DecodeError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
