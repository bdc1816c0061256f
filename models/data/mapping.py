"""From a foreign row to ours: which column is which, and what counts as a bad value."""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa

from models.data.schema import EVENT_KINDS, TABLES
from models.errors import DataError

MOST_IMAGES = 5
BEST_RATING = 3


class BadValueError(ValueError):
    """A row that cannot be used; the text says why."""


@dataclass(frozen=True, kw_only=True)
class TableMap:
    """How one of our tables is read from one file.

    columns: our column -> theirs; ours are looked for under their own names where not named here.
    attributes: their columns (or patterns such as "attr_*") that are kept as attributes.
    defaults: our column -> value where theirs is missing or empty.
    scale: our column -> factor, for prices in cents.
    """

    table: str
    file: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)

    def source_of(self, column: str) -> str:
        return self.columns.get(column, column)

    def required(self) -> list[str]:
        """Their columns without which no row can be used."""
        ours = [column.name for column in TABLES[self.table] if not column.nullable]
        return [self.source_of(name) for name in ours if name not in self.defaults]

    def convert(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A row of our table. Raises BadValueError where a required value is missing or any value is of no use."""
        row = {column.name: self._value(column, values) for column in TABLES[self.table]}
        _check_domain(row)
        return row

    def _value(self, column: pa.Field, values: Mapping[str, Any]) -> Any:
        if column.name == "attributes" and self.attributes:
            return self._attributes(values)
        value = values.get(self.source_of(column.name))
        if value is None or value == "":
            value = self.defaults.get(column.name)
        try:
            value = None if value is None else _cast(value, column.type)
        except (ValueError, TypeError, OverflowError) as exc:
            raise BadValueError(f"{self.source_of(column.name)}={_shown(value)}: {exc}") from exc
        if value is None and not column.nullable:
            raise BadValueError(f"{self.source_of(column.name)} is empty")
        return value * self.scale[column.name] if value is not None and column.name in self.scale else value

    def _attributes(self, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        kept = (name for name in values if any(fnmatchcase(name, pattern) for pattern in self.attributes))
        texts = ((name, _text(values[name])) for name in kept)
        return [(name, text) for name, text in texts if text is not None]


def load_maps(path: Path) -> tuple[dict[str, TableMap], dict[str, str]]:
    """The tables of a column map (TOML), and what it says of the whole: source, licence, notes.

    Raises DataError for an unknown key, naming the known ones.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise DataError(f"cannot read the column map {path}: {exc}") from exc
    about: dict[str, str] = {key: str(values.pop(key)) for key in ("source", "licence", "notes") if key in values}
    _refuse_unknown(path, "", values, TABLES)
    maps = {table: _table_map(path, table, entry) for table, entry in values.items()}
    if "products" not in maps:
        raise DataError(f"{path}: expected a table [products]; found {sorted(values) or 'none'}")
    return maps, about


def _table_map(path: Path, table: str, entry: dict[str, Any]) -> TableMap:
    _refuse_unknown(path, f"{table}.", entry, ("file", "columns", "attributes", "defaults", "scale"))
    for part in ("columns", "defaults", "scale"):
        _refuse_unknown(path, f"{table}.{part}.", entry.get(part, {}), TABLES[table].names)
    return TableMap(table=table, **entry | {"attributes": tuple(entry.get("attributes", ()))})


def _refuse_unknown(path: Path, prefix: str, entry: Any, known: Any) -> None:
    if not isinstance(entry, dict):
        raise DataError(f"{path}: {prefix[:-1]} must be a table, found {entry!r}")
    if unknown := [prefix + key for key in entry if key not in known]:
        raise DataError(f"{path}: unknown keys {unknown}; known are {list(known)}")


def _cast(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_string(kind):
        return _text(value)
    if pa.types.is_floating(kind):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError("expected a finite number")
        return number
    if pa.types.is_integer(kind):
        if float(value) != int(float(value)):
            raise ValueError("expected a whole number")
        return int(float(value))
    if pa.types.is_timestamp(kind):
        return _time(value)
    if pa.types.is_map(kind):
        pairs = [(str(key), _text(item)) for key, item in dict(value).items()]
        return [(key, text) for key, text in pairs if text is not None]
    return _vectors(value)


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() or None


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, int | float) or re.fullmatch(r"\d{9,}(\.\d+)?", value.strip()):
        moment = datetime.fromtimestamp(float(value), UTC)  # seconds since 1970
    else:
        moment = datetime.fromisoformat(value.strip())
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _vectors(value: Any) -> list[list[float]]:
    vectors = [[float(number) for number in vector] for vector in value]
    if len(vectors) > MOST_IMAGES:
        raise ValueError(f"expected at most {MOST_IMAGES} vectors")
    if len({len(vector) for vector in vectors}) > 1:
        raise ValueError("expected vectors of one length")
    if not all(math.isfinite(number) for vector in vectors for number in vector):
        raise ValueError("expected finite numbers")
    return vectors


def _check_domain(row: Mapping[str, Any]) -> None:
    if "rating" in row and not 0 <= row["rating"] <= BEST_RATING:
        raise BadValueError(f"rating={row['rating']}: expected 0 to {BEST_RATING}")
    if "kind" in row and row["kind"] not in EVENT_KINDS:
        raise BadValueError(f"kind={row['kind']!r}: expected one of {', '.join(EVENT_KINDS)}")
    if row.get("kind", "search") != "search" and row["product_id"] is None:
        raise BadValueError(f"product_id is empty in a {row['kind']}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
