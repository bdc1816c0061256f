"""Looks through a whole catalogue for what cannot be: its tables against each other, its generations by checksum."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from index.catalogue import STORE_FILE
from index.cursor_key import read_cursor_key
from index.errors import CatalogueError, SearchIndexError
from index.formats import WITHOUT_LOG, check_format, format_of, live_tables
from index.generations import CURRENT_FILE, current_number, generation_path, open_generation
from index.log_check import live_problems
from index.records import decode_record, encode_fragment
from index.store import Store
from index.tables import VECTORS, get, get_counter, rows

SHOWN = 100  # problems told in words; the rest are counted

Progress = Callable[[int, int], None]  # rows looked at, all rows


@dataclass(kw_only=True)
class CheckReport:
    """What a catalogue holds, and what is wrong with it."""

    products: int
    pending: int
    failed: int
    log_entries: int
    vectors: dict[str, int]  # by release
    problems: list[str] = field(default_factory=list)  # the first ones
    problem_count: int = 0

    def add(self, problem: str) -> None:
        """Note a problem."""
        self.problem_count += 1
        if len(self.problems) < SHOWN:
            self.problems.append(problem)


def check_catalogue(path: Path, *, progress: Progress | None = None) -> CheckReport:
    """Check every row of every table in one snapshot, then the generations' files; a server may be running.

    Raises:
        CatalogueError: there is no catalogue, or one that cannot be opened.
    """
    store = Store.open(path / STORE_FILE)
    try:
        check_format(store)
        entries = {name: store.entries(name) for name in store.table_names()}
        report = CheckReport(
            products=entries.get("products", 0),
            pending=entries.get("pending", 0),
            failed=entries.get("failed", 0),
            log_entries=entries.get("log", 0),
            vectors={name.removeprefix(VECTORS): n for name, n in entries.items() if name.startswith(VECTORS)},
        )
        highest = _numbers(store)
        _check_tables(store, report, _Rows(progress, total=sum(entries.values()) - entries["meta"]))
    except lmdb.Error as exc:
        raise CatalogueError(f"{path / STORE_FILE} is damaged: {exc}; restore a backup") from exc
    finally:
        store.close()
    for problem in _file_problems(path, highest):
        report.add(problem)
    return report


def _numbers(store: Store) -> tuple[int, int]:
    """Product numbers given, and the last sequence number."""
    meta = store.table("meta")
    with store.read() as txn:
        return get_counter(txn, meta, b"next_number"), get_counter(txn, meta, b"sequence")


class _Rows:
    """Counts the rows looked at and tells whoever draws the progress."""

    def __init__(self, progress: Progress | None, *, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def of(self, txn: lmdb.Transaction, table: Any) -> Iterator[tuple[bytes, bytes]]:
        for row in rows(txn, table):
            self._done += 1
            if self._progress is not None and (self._done % 1_000 == 0 or self._done == self._total):
                self._progress(min(self._done, self._total), self._total)
            yield row


def _check_tables(store: Store, report: CheckReport, looked: _Rows) -> None:
    handles = {name: store.table(name) for name in ("meta", "ids", "products", "fragments")}
    vector_tables = {release: store.table(VECTORS + release) for release in report.vectors}
    live = None if format_of(store) == WITHOUT_LOG else live_tables(store)
    with store.read() as txn:
        for problem in _id_problems(txn, handles, looked):
            report.add(problem)
        for problem in _product_problems(txn, handles, looked):
            report.add(problem)
        for release, table in vector_tables.items():
            for problem in _vector_problems(txn, release, table, handles["products"], looked):
                report.add(problem)
        if live is not None:
            for problem in live_problems(txn, live, looked.of):
                report.add(problem)


def _id_problems(txn: lmdb.Transaction, handles: dict[str, Any], looked: _Rows) -> Iterator[str]:
    given = get_counter(txn, handles["meta"], b"next_number")
    seen = np.zeros(given, dtype=bool)
    for product_id, key in looked.of(txn, handles["ids"]):
        number = int.from_bytes(key, "big")
        if number >= given:
            yield f"product {product_id.decode(errors='replace')!r} has number {number}, but only {given} were given"
        elif seen[number]:
            yield f"product {product_id.decode(errors='replace')!r} shares number {number} with another"
        else:
            seen[number] = True
    for number in np.flatnonzero(~seen).tolist():
        yield f"number {number} was given, but no product id has it"


def _product_problems(txn: lmdb.Transaction, handles: dict[str, Any], looked: _Rows) -> Iterator[str]:
    for key, record in looked.of(txn, handles["products"]):
        number = int.from_bytes(key, "big")
        product = readable(record)
        if product is None:
            yield f"product number {number}: its record cannot be read"
        elif get(txn, handles["ids"], product["product_id"].encode()) != key:
            yield f"product number {number} says it is {product['product_id']!r}, which has another number"
        elif get(txn, handles["fragments"], key) != encode_fragment(product):
            yield f"product number {number}: its hit fragment is missing, or not what its record says"
    for key, _ in looked.of(txn, handles["fragments"]):
        if get(txn, handles["products"], key) is None:
            yield f"number {int.from_bytes(key, 'big')} has a hit fragment, but no product"


def readable(record: bytes) -> dict[str, Any] | None:
    """The product of a record; None when it is none."""
    try:
        product = decode_record(record)
        product["product_id"].encode()
    except (CatalogueError, KeyError, AttributeError):
        return None
    return product


def _vector_problems(txn: lmdb.Transaction, release: str, table: Any, products: Any, looked: _Rows) -> Iterator[str]:
    size = None
    for key, vector in looked.of(txn, table):
        number = int.from_bytes(key, "big")
        size = len(vector) if size is None else size
        if get(txn, products, key) is None:
            yield f"number {number} has a vector of release {release!r}, but no product"
        if len(vector) != size or size % 4:
            yield f"product number {number}: its vector of {release!r} has {len(vector)} bytes, the first one {size}"
        elif not math.isfinite(float(np.frombuffer(vector, dtype="<f4").sum(dtype=np.float64))):
            yield f"product number {number}: its vector of {release!r} is not finite"


def _file_problems(path: Path, highest: tuple[int, int]) -> Iterator[str]:
    given, last = highest
    try:
        read_cursor_key(path)
    except CatalogueError as exc:
        yield str(exc)
    folders = [folder for folder in (path / "generations").glob("*") if folder.name.isdecimal()]
    for folder in sorted(folders, key=lambda folder: int(folder.name)):
        try:
            generation = open_generation(folder)
        except SearchIndexError as exc:
            yield str(exc)
            continue
        if len(generation.numbers) and int(generation.numbers.max()) >= given:
            yield f"{folder} lists product number {int(generation.numbers.max())}, but only {given} were given"
        if generation.manifest.sequence > last:
            yield f"{folder} was built at sequence {generation.manifest.sequence}, the catalogue is at {last}"
    if (path / CURRENT_FILE).exists():
        try:
            if not (current := generation_path(path, current_number(path))).is_dir():
                yield f"{CURRENT_FILE} names {current}, which is not there"
        except SearchIndexError as exc:
            yield str(exc)
