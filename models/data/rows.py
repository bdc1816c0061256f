"""Rows of CSV, JSON lines and Parquet files, one by one, with their numbers; broken rows are handed on as such."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import DataError

KNOWN = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")  # all but the last also with .gz

csv.field_size_limit(2**24)  # the default of 128 kB is too small for long descriptions


class Row(NamedTuple):
    """One row; `number` counts from 1 without a header. `values` is None where it could not be read: see `problem`."""

    number: int
    values: dict[str, Any] | None
    problem: str = ""


def read_rows(path: Path, *, delimiter: str | None = None) -> Iterator[Row]:
    """Every row of the file; `delimiter` where a CSV file has another than its name says.

    Raises DataError where there is no such file or it is not what its name says.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    readers: dict[str, Callable[[Path], Iterator[Row]]] = {
        ".csv": partial(_csv, delimiter=delimiter or ","),
        ".tsv": partial(_csv, delimiter=delimiter or "\t"),
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".parquet": _parquet,
    }
    if kind not in readers or (kind == ".parquet" and path.suffix == ".gz"):
        raise DataError(f"{path}: expected a name that ends in one of {', '.join(KNOWN)}; found {path.name!r}")
    try:
        yield from readers[kind](path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise DataError(f"{path} is not a whole gzip file: {exc}") from exc
    except UnicodeDecodeError as exc:
        raise DataError(f"{path}: expected UTF-8 text; {exc}") from exc
    except (csv.Error, pa.ArrowInvalid) as exc:
        raise DataError(f"{path} is not a {kind[1:]} file: {exc}") from exc


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _csv(path: Path, *, delimiter: str) -> Iterator[Row]:
    with _open(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, delimiter=delimiter, strict=True)
        for number, values in enumerate(reader, start=1):
            if None in values or None in values.values():
                yield Row(number, None, f"expected {len(reader.fieldnames or ())} fields, as in the header")
            else:
                yield Row(number, values)


def _json_lines(path: Path) -> Iterator[Row]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _json_row(number, line)


def _json_row(number: int, line: bytes) -> Row:
    try:
        values = json.loads(line)
    except ValueError as exc:  # broken JSON or broken UTF-8
        return Row(number, None, f"not JSON: {exc}")
    if not isinstance(values, dict):
        return Row(number, None, f"expected a JSON object, found {type(values).__name__}")
    return Row(number, values)


def _parquet(path: Path) -> Iterator[Row]:
    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=4096):
            for values in batch.to_pylist(maps_as_pydicts="lossy"):
                number += 1
                yield Row(number, values)
