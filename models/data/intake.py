"""Taking the rows of foreign files into a dataset: what is good, what is bad, what is passed over.

A bad row is left out, counted and listed; too many of them mean that the file is not what it was taken for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from models.data.mapping import BadValueError, TableMap
from models.data.rows import Row, read_rows
from models.data.schema import TABLES, DatasetWriter, Manifest
from models.errors import DataError

MAX_BAD_SHARE = 0.05
LISTED = 100  # bad rows that a report names; all are counted
_BATCH = 4096
_PEEK = 20  # rows; JSON lines may leave out empty columns

Progress = Callable[[int, int], None]
Values = Mapping[str, Any]
# What an importer does to a row before its map is applied; None passes over a row that is not asked for.
Prepare = Callable[[Values], Values | None]


class BadRow(NamedTuple):
    file: str
    row: int  # from 1, without the header
    reason: str


@dataclass(frozen=True)
class ImportReport:
    """What was taken in (`manifest.counts`) and what was left out."""

    manifest: Manifest
    bad_count: int
    bad_rows: tuple[BadRow, ...]  # the first LISTED
    passed_over: int = 0  # good rows that were not asked for, and repeats of a product


@dataclass
class Intake:
    """Takes file after file into the writer, and remembers what it left out."""

    writer: DatasetWriter
    progress: Progress | None = None
    max_bad_share: float = MAX_BAD_SHARE
    _products: set[str] = field(default_factory=set)
    _bad: list[BadRow] = field(default_factory=list)
    _bad_count: int = 0
    _passed_over: int = 0
    _done: int = 0

    def report(self) -> ImportReport:
        """Once the dataset stands in its place."""
        return ImportReport(self.writer.published(), self._bad_count, tuple(self._bad), self._passed_over)

    def take(self, mapping: TableMap, path: Path, *, prepare: Prepare = dict, needs: Iterable[str] = ()) -> None:
        """All good rows of the file. Raises DataError: wrong columns, no rows, or too many bad ones."""
        add = {
            "products": self.writer.add_products,
            "events": self.writer.add_events,
            "judgements": self.writer.add_judgements,
        }[mapping.table]
        needed = [*(mapping.required() if _is_sparse(path) else mapping.named()), *needs]
        rows = rows_with_columns(path, needed, delimiter=mapping.delimiter)
        good = (row for row in (self._convert(path, mapping, row, prepare) for row in rows) if row is not None)
        before, kept = self._bad_count, 0
        while batch := list(islice(good, _BATCH)):
            add(pa.Table.from_pylist(batch, schema=TABLES[mapping.table]))
            kept += len(batch)
            if self.progress:
                self.progress(self._done, self._done)  # how many follow is not known
        bad = self._bad_count - before
        self._check_share(path, bad, bad + kept)
        if not kept:
            raise DataError(f"{path}: none of its rows is asked for")

    def _convert(self, path: Path, mapping: TableMap, row: Row, prepare: Prepare) -> dict[str, Any] | None:
        self._done += 1
        try:
            prepared = prepare(_readable(row))
            values = None if prepared is None else mapping.convert(prepared)
            if values is not None and self._is_new(mapping, values["product_id"]):
                return values
        except BadValueError as exc:
            self._bad_count += 1
            if len(self._bad) < LISTED:
                self._bad.append(BadRow(path.name, row.number, str(exc)))
        else:
            self._passed_over += 1
        return None

    def _is_new(self, mapping: TableMap, product: str | None) -> bool:
        """False for a product that came before, where it may; any row but a product's is new.

        Raises BadValueError for an unexpected repeat, and for a row that refers to no product.
        """
        if product is None:
            return True
        known = product in self._products
        if mapping.table != "products":
            if not known:
                raise BadValueError(f"product_id={product!r} is not among the products")
            return True
        if known and not mapping.repeats:
            raise BadValueError(f"product_id={product!r} came before")
        self._products.add(product)
        return not known

    def _check_share(self, path: Path, bad: int, total: int) -> None:
        if bad > self.max_bad_share * total:
            examples = "; ".join(f"row {each.row}: {each.reason}" for each in self._bad if each.file == path.name)
            raise DataError(
                f"{path}: {bad} of {total} rows are bad, more than {self.max_bad_share:.0%}; {examples[:500]}"
            )


def rows_with_columns(path: Path, needed: Iterable[str], *, delimiter: str | None = None) -> Iterator[Row]:
    """The rows, once the first of them show every column that is needed. Raises DataError where one is missing."""
    needed = list(dict.fromkeys(needed))
    rows = read_rows(path, delimiter=delimiter)
    first = list(islice(rows, _PEEK))
    found = dict.fromkeys(name for row in first for name in row.values or {})
    if not first:
        raise DataError(f"{path}: expected rows with {', '.join(needed)}; found an empty file")
    if found and (missing := [name for name in needed if name not in found]):
        raise DataError(
            f"{path}: expected columns {', '.join(needed)}; found {', '.join(found)}; missing {', '.join(missing)}"
        )
    return chain(first, rows)


def one_of(src: Path, names: Iterable[str]) -> Path:
    """The first of these files that the folder holds. Raises DataError, with what is there, where it holds none."""
    names = list(names)
    for name in names:
        if (src / name).is_file():
            return src / name
    raise DataError(f"{src}: expected {' or '.join(names)}; found {listing(src)}")


def listing(src: Path) -> str:
    """What a folder holds, for an error."""
    if not src.is_dir():
        return "no such folder"
    names = sorted(path.name for path in src.iterdir())
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") or "nothing"


def _is_sparse(path: Path) -> bool:
    """JSON lines: a row may leave out the columns it has nothing for."""
    return not {".jsonl", ".ndjson"}.isdisjoint(path.suffixes)


def _readable(row: Row) -> dict[str, Any]:
    if row.values is None:
        raise BadValueError(row.problem)
    return row.values
