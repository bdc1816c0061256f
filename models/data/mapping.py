"""From a foreign row to ours: which column is which, and what counts as a bad value."""

import html
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from models.data.schema import EVENT_KINDS, TABLES
from models.errors import DataError

MOST_IMAGES = 5
BEST_RATING = 3
_LEVELS = " > "  # between the levels of a category, see PRODUCTS
_LISTED = 10  # known values that an error names
_PART = re.compile(r"\{([^{}]+)\}")
_MARKUP = re.compile(r"<!--.*?-->|</?[a-z][^<>]*>", re.IGNORECASE | re.DOTALL)  # not the sign of "< 5 mm"


class BadValueError(ValueError):
    """A row that cannot be used; the text says why."""


@dataclass(frozen=True, kw_only=True)
class TableMap:
    """How one of our tables is read from one file.

    delimiter: of a CSV file, where its name does not say it.
    repeats: whether a product may come in several rows; the first one counts.
    columns: our column -> theirs, or a template of theirs such as "{locale}:{id}"; ours are looked for under their own
        names where not named here. An empty part of a template leaves nothing; a required column needs every part.
    values: our column -> their value -> ours; any other value is bad.
    lists: their column -> what separates the items in its text.
    html: our columns whose markup is removed.
    attributes: their columns (or patterns such as "attr_*") that are kept as attributes.
    defaults: our column -> value where theirs is missing or empty.
    scale: our column -> factor, for prices in cents.
    """

    table: str
    file: str | None = None
    delimiter: str | None = None
    repeats: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lists: Mapping[str, str] = field(default_factory=dict)
    html: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)

    def source_of(self, column: str) -> str:
        return self.columns.get(column, column)

    def required(self) -> list[str]:
        """Their columns without which no row can be used."""
        ours = [column.name for column in TABLES[self.table] if not column.nullable]
        return self._theirs(name for name in ours if name not in self.defaults)

    def named(self) -> list[str]:
        """Their columns that the map relies on, the required ones first."""
        return list(dict.fromkeys([*self.required(), *self._theirs(self.columns), *self.lists]))

    def convert(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A row of our table. Raises BadValueError where a required value is missing or any value is of no use."""
        row = {column.name: self._value(column, values) for column in TABLES[self.table]}
        _check_domain(row)
        return row

    def _theirs(self, ours: Iterable[str]) -> list[str]:
        sources = [self.source_of(name) for name in ours]
        return list(dict.fromkeys(name for source in sources for name in _PART.findall(source) or [source]))

    def _value(self, column: pa.Field, values: Mapping[str, Any]) -> Any:
        if column.name == "attributes" and self.attributes:
            return self._attributes(values)
        value = self._found(column, values)
        if value is None or value == "":
            value = self.defaults.get(column.name)
        try:
            value = None if value is None else _cast(value, column.type)
        except (ValueError, TypeError, OverflowError) as exc:
            raise BadValueError(f"{self.source_of(column.name)}={_shown(value)}: {exc}") from exc
        if value is None and not column.nullable:
            raise BadValueError(f"{self.source_of(column.name)} is empty")
        return value * self.scale[column.name] if value is not None and column.name in self.scale else value

    def _found(self, column: pa.Field, values: Mapping[str, Any]) -> Any:
        """What the row says of our column: put together, split, cleaned and translated as the map has it."""
        source = self.source_of(column.name)
        value = self._filled(source, column, values) if "{" in source else self._read(source, values)
        if column.name == "category" and isinstance(value, list):
            value = _LEVELS.join(map(str, value))
        if column.name in self.html and isinstance(value, str):
            value = _without_markup(value)
        if column.name in self.values and value not in (None, ""):
            return self._translated(column.name, value)
        return value

    def _filled(self, template: str, column: pa.Field, values: Mapping[str, Any]) -> str:
        parts = {name: _text(self._read(name, values)) for name in _PART.findall(template)}
        if not column.nullable and not all(parts.values()):
            raise BadValueError(f"{next(name for name, part in parts.items() if not part)} is empty")
        return _PART.sub(lambda part: parts[part[1]] or "", template).strip()

    def _read(self, name: str, values: Mapping[str, Any]) -> Any:
        value = values.get(name)
        if name in self.lists and isinstance(value, str):
            return [item for item in map(str.strip, value.split(self.lists[name])) if item]
        return value

    def _translated(self, column: str, value: Any) -> Any:
        known, text = self.values[column], _text(value)
        if text is None or text not in known:
            first = ", ".join(islice(known, _LISTED)) + (", ..." if len(known) > _LISTED else "")
            raise BadValueError(f"{self.source_of(column)}={_shown(value)}: expected one of {first}")
        return known[text]

    def _attributes(self, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        kept = (name for name in values if any(fnmatchcase(name, pattern) for pattern in self.attributes))
        texts = ((name, _text(self._read(name, values))) for name in kept)
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


def _table_map(path: Path, table: str, entry: Any) -> TableMap:
    _refuse_unknown(path, f"{table}.", entry, _KINDS)
    for key, kind in _KINDS.items():
        _refuse_other(path, f"{table}.{key}", entry.get(key, kind()), kind)
    for part in ("columns", "values", "defaults", "scale"):
        _refuse_unknown(path, f"{table}.{part}.", entry.get(part, {}), TABLES[table].names)
    _refuse_unknown(path, f"{table}.html.", dict.fromkeys(entry.get("html", ())), TABLES[table].names)
    for part, kind in (("columns", str), ("values", dict), ("lists", str), ("scale", float)):
        for name, value in entry.get(part, {}).items():
            _refuse_other(path, f"{table}.{part}.{name}", value, kind)
    if len(entry.get("delimiter", ",")) != 1:
        raise DataError(f"{path}: {table}.delimiter must be one character, found {entry['delimiter']!r}")
    if "" in entry.get("lists", {}).values():
        raise DataError(f"{path}: {table}.lists names a separator of no characters")
    if entry.get("repeats") and table != "products":
        raise DataError(f"{path}: {table}.repeats is set; only [products] are kept once")
    return TableMap(table=table, **entry | {part: tuple(entry.get(part, ())) for part in ("attributes", "html")})


_KINDS: Mapping[str, type] = {
    "file": str,
    "delimiter": str,
    "repeats": bool,
    "columns": dict,
    "values": dict,
    "lists": dict,
    "html": list,
    "attributes": list,
    "defaults": dict,
    "scale": dict,
}
_NAMED: Mapping[type, str] = {str: "a text", bool: "true or false", dict: "a table", list: "a list", float: "a number"}


def _refuse_other(path: Path, key: str, value: Any, kind: type) -> None:
    if not isinstance(value, (int, float) if kind is float else kind):
        raise DataError(f"{path}: {key} must be {_NAMED[kind]}, found {value!r}")


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
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value if item is not None) or None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() or None


def _without_markup(text: str) -> str:
    """Without tags and entities: "<b>Red</b> &amp; soft" becomes "Red & soft". Line breaks of the text itself stay."""
    bare = _MARKUP.sub(" ", html.unescape(text))  # in this order: some shops escape their tags as well
    return "\n".join(" ".join(line.split()) for line in bare.splitlines()).strip()


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
