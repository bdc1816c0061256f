"""Real data into a dataset directory: the Chorus folder, or any table with a column map.

A bad row is left out, counted and listed; too many of them mean that the file is not what it was taken for.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from models.data.mapping import BadValueError, TableMap, load_maps
from models.data.rows import KNOWN, Row, read_rows
from models.data.schema import TABLES, DatasetWriter, Manifest
from models.errors import DataError

MAX_BAD_SHARE = 0.05
LISTED = 100  # bad rows that a report names; all are counted
_BATCH = 4096
_PEEK = 20  # rows; JSON lines may leave out empty columns

Progress = Callable[[int, int], None]


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


def import_chorus(src: Path, out: Path, *, progress: Progress | None = None) -> ImportReport:
    """The Chorus electronics catalogue: products.jsonl(.gz) and any judgements*.csv in the folder `src`.

    Prices are in cents there. Raises DataError where a file is missing or not of that layout.
    """
    products = _one_of(src, ("products.jsonl.gz", "products.jsonl"))
    judgements = sorted(src.glob("judgements*.csv"))
    if not judgements:
        raise DataError(f"{src}: expected judgements*.csv; found {_listing(src)}")
    importer = _Importer(progress)
    writer = DatasetWriter(
        out,
        source="Chorus electronics (Icecat via querqy/chorus)",
        licence="Apache-2.0; product data Icecat Open Content License",
    )
    with writer:
        importer.take(writer, _CHORUS_PRODUCTS, products, prepare=_chorus_product)
        for path in judgements:
            importer.take(writer, _CHORUS_JUDGEMENTS, path)
    return importer.report(writer.published())


def import_table(
    src: Path,
    out: Path,
    *,
    column_map: Path | None = None,
    max_bad_share: float = MAX_BAD_SHARE,
    progress: Progress | None = None,
) -> ImportReport:
    """CSV, JSON lines or Parquet: `src` is the products file, or a folder that holds the files of the map.

    Without a map, or where it names no file, a folder is searched for products.*, events.* and judgements.*.
    Raises DataError where a file or a needed column is missing, or more than `max_bad_share` of a file is bad.
    """
    maps, about = load_maps(column_map) if column_map else ({"products": TableMap(table="products")}, {})
    if src.is_dir() and column_map is None:
        maps = {table: TableMap(table=table) for table in TABLES if _named(src, table)}
    importer = _Importer(progress, max_bad_share)
    writer = DatasetWriter(
        out,
        source=about.get("source", src.name),
        licence=about.get("licence", "unknown"),
        notes=about.get("notes", ""),
    )
    with writer:
        for table in TABLES:  # products first: the others refer to them
            if table in maps or table == "products":
                mapping = maps.get(table, TableMap(table=table))
                importer.take(writer, mapping, _file_of(src, mapping))
    return importer.report(writer.published())


_CHORUS_PRODUCTS = TableMap(
    table="products",
    columns={
        "product_id": "id",
        "description": "short_description",
        "brand": "supplier",
        "created_at": "date_released",
    },
    defaults={"language": "en"},
    scale={"price": 0.01},
)
_CHORUS_JUDGEMENTS = TableMap(table="judgements", defaults={"language": "en"})
_CHORUS_ATTRIBUTE = re.compile(r"attr_[a-z]_(.+)")


def _chorus_product(values: Mapping[str, Any]) -> dict[str, Any]:
    """attr_t_product_type and its like become attributes; the product type is also the category."""
    named = ((_CHORUS_ATTRIBUTE.fullmatch(name), value) for name, value in values.items())
    attributes = {match[1]: value for match, value in named if match}
    kind = str(attributes.get("product_type", ""))
    return {
        **values,
        "attributes": attributes | {"model": values.get("name", ""), "ean": values.get("ean", [])},
        "category": None if kind.isdigit() else kind,  # "1" stands for unknown there
    }


@dataclass
class _Importer:
    """Takes file after file into the writer, and remembers what it left out."""

    progress: Progress | None = None
    max_bad_share: float = MAX_BAD_SHARE
    _products: set[str] = field(default_factory=set)
    _bad: list[BadRow] = field(default_factory=list)
    _bad_count: int = 0
    _done: int = 0

    def report(self, manifest: Manifest) -> ImportReport:
        return ImportReport(manifest, self._bad_count, tuple(self._bad))

    def take(
        self,
        writer: DatasetWriter,
        mapping: TableMap,
        path: Path,
        *,
        prepare: Callable[[Mapping[str, Any]], dict[str, Any]] = dict,
    ) -> None:
        """All good rows of the file. Raises DataError: wrong columns, no rows, or too many bad ones."""
        add = {
            "products": writer.add_products,
            "events": writer.add_events,
            "judgements": writer.add_judgements,
        }[mapping.table]
        rows = _with_columns(path, mapping)
        good = (row for row in (self._convert(path, mapping, row, prepare) for row in rows) if row is not None)
        before, seen, kept = self._bad_count, self._done, 0
        while batch := list(islice(good, _BATCH)):
            add(pa.Table.from_pylist(batch, schema=TABLES[mapping.table]))
            kept += len(batch)
            if self.progress:
                self.progress(self._done, self._done)  # how many follow is not known
        self._check_share(path, self._bad_count - before, self._done - seen)

    def _convert(
        self,
        path: Path,
        mapping: TableMap,
        row: Row,
        prepare: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> dict[str, Any] | None:
        self._done += 1
        try:
            values = mapping.convert(prepare(_readable(row)))
            self._check_reference(mapping.table, values["product_id"])
        except BadValueError as exc:
            self._bad_count += 1
            if len(self._bad) < LISTED:
                self._bad.append(BadRow(path.name, row.number, str(exc)))
            return None
        return values

    def _check_reference(self, table: str, product: str | None) -> None:
        if table == "products" and product is not None:
            if product in self._products:
                raise BadValueError(f"product_id={product!r} came before")
            self._products.add(product)
        elif product is not None and product not in self._products:
            raise BadValueError(f"product_id={product!r} is not among the products")

    def _check_share(self, path: Path, bad: int, total: int) -> None:
        if bad > self.max_bad_share * total:
            examples = "; ".join(f"row {each.row}: {each.reason}" for each in self._bad if each.file == path.name)
            raise DataError(
                f"{path}: {bad} of {total} rows are bad, more than {self.max_bad_share:.0%}; {examples[:500]}"
            )


def _readable(row: Row) -> dict[str, Any]:
    if row.values is None:
        raise BadValueError(row.problem)
    return row.values


def _with_columns(path: Path, mapping: TableMap) -> Iterator[Row]:
    """The rows, once the first of them show every column that is needed."""
    rows = read_rows(path)
    first = list(islice(rows, _PEEK))
    found = dict.fromkeys(name for row in first for name in row.values or {})
    needed = mapping.required()
    if not first:
        raise DataError(f"{path}: expected rows with {', '.join(needed)}; found an empty file")
    if found and not found.keys() >= set(needed):
        raise DataError(f"{path}: expected columns {', '.join(needed)}; found {', '.join(found)}")
    return chain(first, rows)


def _file_of(src: Path, mapping: TableMap) -> Path:
    if mapping.file is not None:
        return (src if src.is_dir() else src.parent) / mapping.file
    if not src.is_dir():
        if mapping.table != "products":
            raise DataError(f"the column map names no file for [{mapping.table}]; add `file = ...`")
        return src
    return _one_of(src, _named(src, mapping.table) or [f"{mapping.table}{end}" for end in KNOWN])


def _named(src: Path, table: str) -> list[str]:
    ends = (*KNOWN, *(f"{end}.gz" for end in KNOWN))
    return [table + end for end in ends if (src / (table + end)).is_file()]


def _one_of(src: Path, names: Iterable[str]) -> Path:
    names = list(names)
    for name in names:
        if (src / name).is_file():
            return src / name
    raise DataError(f"{src}: expected {' or '.join(names)}; found {_listing(src)}")


def _listing(src: Path) -> str:
    if not src.is_dir():
        return "no such folder"
    names = sorted(path.name for path in src.iterdir())
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") or "nothing"
