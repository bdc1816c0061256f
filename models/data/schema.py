"""The dataset directory: its tables, its manifest, and how it is opened and written.

datasets/NAME/
    products.parquet     always
    events.parquet       where the source has them
    judgements.parquet   where the source has them
    manifest.json        written last: a directory without it is not a dataset
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import DataError

FORMAT = "que2search-dataset/1"
RELEVANT = 2  # the lowest rating, of 0 to 3, of a product that answers the query
EVENT_KINDS = ("search", "click", "message", "reply")

_time = pa.timestamp("us", tz="UTC")

PRODUCTS = pa.schema(
    [
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        ("description", pa.string()),
        ("brand", pa.string()),
        ("category", pa.string()),  # path from the root, joined with " > "
        ("country", pa.string()),  # ISO 3166, where the product is sold
        ("language", pa.string()),  # ISO 639, of the title
        ("price", pa.float64()),  # in units of the currency
        ("currency", pa.string()),  # ISO 4217
        ("seller_id", pa.string()),
        ("created_at", _time),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("image_vectors", pa.list_(pa.list_(pa.float32()))),  # 0-5 of one length per dataset
    ]
)
EVENTS = pa.schema(
    [
        pa.field("user", pa.string(), nullable=False),
        ("session", pa.string()),  # the visit that began with the search; later steps keep it
        pa.field("query", pa.string(), nullable=False),
        ("country", pa.string()),  # of the searcher
        ("product_id", pa.string()),  # null for a search
        pa.field("kind", pa.string(), nullable=False),  # one of EVENT_KINDS
        pa.field("time", _time, nullable=False),
        ("language", pa.string()),  # of the query, where the source knows it
    ]
)
JUDGEMENTS = pa.schema(
    [
        pa.field("query", pa.string(), nullable=False),
        ("country", pa.string()),
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("rating", pa.int64(), nullable=False),  # 0-3, see RELEVANT
        ("language", pa.string()),
    ]
)
TABLES: Mapping[str, pa.Schema] = {"products": PRODUCTS, "events": EVENTS, "judgements": JUDGEMENTS}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Where a dataset comes from and how much it holds (`counts`: rows per table)."""

    source: str
    licence: str
    counts: dict[str, int]
    created: str  # ISO 8601, UTC
    seed: int | None = None
    notes: str = ""
    format: str = field(default=FORMAT)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Raises DataError where `directory` has no manifest of this format."""
        path = directory / "manifest.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.get("format") != FORMAT:
                raise DataError(f"{path}: expected format {FORMAT!r}, found {values.get('format')!r}")
            return cls(**values)
        except FileNotFoundError as exc:
            raise DataError(
                f"{directory} is not a dataset: expected manifest.json in it; make one with "
                "`que2search data sample` or `que2search data import`"
            ) from exc
        except (ValueError, TypeError, AttributeError) as exc:
            raise DataError(f"{path} is not a dataset manifest: {exc}") from exc

    def save(self, directory: Path) -> None:
        path = directory / "manifest.json"
        with path.with_suffix(".tmp").open("w", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=2, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        path.with_suffix(".tmp").replace(path)


@dataclass(frozen=True)
class Dataset:
    """An opened dataset directory; tables are read when asked for."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises DataError where the directory, its manifest or a table is missing or of other columns."""
        if not path.is_dir():
            raise DataError(f"{path}: no such dataset directory")
        manifest = Manifest.load(path)
        for table in manifest.counts:
            _check_table(path / f"{table}.parquet", table)
        return cls(path, manifest)

    @property
    def product_count(self) -> int:
        return self.manifest.counts["products"]

    def products(self, columns: list[str] | None = None) -> pl.DataFrame:
        """The whole table, or some columns of it."""
        return pl.read_parquet(self.path / "products.parquet", columns=columns)

    def product_batches(self, rows: int = 4096) -> Iterator[pa.RecordBatch]:
        """The products in file order, `rows` at a time, without holding the table."""
        with pq.ParquetFile(self.path / "products.parquet") as file:
            yield from file.iter_batches(batch_size=rows)

    def events(self) -> pl.DataFrame:
        return self._optional("events")

    def judgements(self) -> pl.DataFrame:
        return self._optional("judgements")

    def _optional(self, table: str) -> pl.DataFrame:
        if table in self.manifest.counts:
            return pl.read_parquet(self.path / f"{table}.parquet")
        empty = pl.from_arrow(TABLES[table].empty_table())
        assert isinstance(empty, pl.DataFrame)  # noqa: S101 - a table is always a frame; for the type checker
        return empty


def _check_table(path: Path, table: str) -> None:
    expected = TABLES[table]
    try:
        found = pq.read_schema(path)
    except FileNotFoundError as exc:
        raise DataError(f"{path} is missing, though the manifest counts {table}") from exc
    except pa.ArrowInvalid as exc:
        raise DataError(f"{path} is not a Parquet file: {exc}") from exc
    if {name: found.field(name).type for name in found.names} != {
        name: expected.field(name).type for name in expected.names
    }:
        raise DataError(f"{path}: expected columns {_columns(expected)}; found {_columns(found)}")


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{column.name}: {column.type}" for column in schema)


class DatasetWriter:
    """Writes a dataset beside its place and moves it there whole, or not at all.

    An earlier dataset of that name is replaced; any other non-empty directory is refused (DataError).
    """

    def __init__(self, out: Path, *, source: str, licence: str, seed: int | None = None, notes: str = "") -> None:
        self._out = out
        self.staging = out.with_name(f".{out.name}.tmp")  # what else belongs to the dataset is written here
        self._about = {"source": source, "licence": licence, "seed": seed, "notes": notes}
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._counts = {"products": 0}
        self._manifest: Manifest | None = None

    def __enter__(self) -> Self:
        _refuse_foreign(self._out)
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir(parents=True)
        self.add_products(PRODUCTS.empty_table())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.close()
        if kind is None:
            self._publish()
        else:
            shutil.rmtree(self.staging, ignore_errors=True)

    def add_products(self, rows: pa.Table | pa.RecordBatch) -> None:
        self._add("products", rows)

    def add_events(self, rows: pa.Table | pa.RecordBatch) -> None:
        self._add("events", rows)

    def add_judgements(self, rows: pa.Table | pa.RecordBatch) -> None:
        self._add("judgements", rows)

    def published(self) -> Manifest:
        """The manifest, once the dataset stands in its place."""
        if self._manifest is None:
            raise DataError(f"{self._out} is not finished; ask after the `with` block")
        return self._manifest

    def _add(self, table: str, rows: pa.Table | pa.RecordBatch) -> None:
        if table not in self._writers:
            # Dictionary pages would only hold every float of an image vector twice.
            encoded = [name for name in TABLES[table].names if name != "image_vectors"]
            self._writers[table] = pq.ParquetWriter(
                self.staging / f"{table}.parquet",
                TABLES[table],
                compression="zstd",
                use_dictionary=encoded,
            )
        whole = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        if whole.num_rows:
            self._writers[table].write_table(whole.cast(TABLES[table]))
        self._counts[table] = self._counts.get(table, 0) + whole.num_rows

    def _publish(self) -> None:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        self._manifest = Manifest(counts=self._counts, created=created, **self._about)  # type: ignore[arg-type]
        self._manifest.save(self.staging)
        _refuse_foreign(self._out)
        # A reader sees the old dataset or the new one; never files of both.
        retired = self._out.with_name(f".{self._out.name}.old")
        shutil.rmtree(retired, ignore_errors=True)
        if self._out.exists():
            self._out.rename(retired)
        self.staging.rename(self._out)
        shutil.rmtree(retired, ignore_errors=True)


def _refuse_foreign(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / "manifest.json").exists()):
        raise DataError(f"{out} exists and is not a dataset; choose another place or remove it yourself")
    if (out / "manifest.json").exists():
        Manifest.load(out)
