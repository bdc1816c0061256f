"""The filter columns of a generation: what each row holds in every field, mapped into memory.

    N.ranks.npy          of the field at place N: (count,) unsigned, row -> rank of its value among the distinct ones,
                         sorted; a row without a value has the rank after the last
    N.values.npy | json  the distinct values in that order
    fields.json          format, rows and fields; written last

So every comparison allows one range of ranks, which bisection finds. That holds for a category with all below it, too,
since paths sort by their parts.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import msgspec
import numpy as np

from index.conditions import Op
from index.errors import IndexFileError
from index.fields import Bounds, Field, Key, Kind, all_fields, moment
from index.files import mapped_array, read_sealed_json, write_sealed_json

FORMAT = 1
FIELDS_FILE = "fields.json"
_REMEDY = "run `que2search build`"
_Key = TypeVar("_Key")


class Ranks(NamedTuple):
    """Neighbouring distinct values of a column, by their ranks."""

    low: int
    high: int  # exclusive


class Column:
    """One field of all rows.

    Args:
        field: its name and kind.
        ranks: (count,) unsigned, the rank of each row's value; `len(keys)` where it has none.
        keys: the distinct values, ascending.
        shown: of text and paths, each value as it was first spelt.
    """

    def __init__(
        self, field: Field, ranks: np.ndarray, keys: Sequence[Key] | np.ndarray, shown: Sequence[str] = ()
    ) -> None:
        self.field = field
        self.ranks = ranks
        self.keys = keys
        self.shown = shown

    def allowed(self, op: Op, bounds: Bounds) -> Ranks:
        """The values that a comparison allows; != allows all others than these, and what has no value."""
        below, upto = bisect_left(self.keys, bounds.first), bisect_right(self.keys, bounds.last)
        match op:
            case "<":
                return Ranks(0, below)
            case "<=":
                return Ranks(0, upto)
            case ">":
                return Ranks(upto, len(self.keys))
            case ">=":
                return Ranks(below, len(self.keys))
            case _:
                return Ranks(below, upto)


class Columns:
    """All filter columns of a generation. Nothing changes them, so threads share them and processes their pages.

    Args:
        columns: by the field's name, all of `count` rows.
        count: rows.
    """

    def __init__(self, columns: Mapping[str, Column], *, count: int) -> None:
        self.columns = columns
        self.count = count

    @classmethod
    def open(cls, folder: Path, *, count: int) -> Self:
        """Map what `write` wrote for an index of `count` rows.

        Raises:
            IndexFileError: a file is missing, damaged, of another format or of another index.
        """
        content = read_sealed_json(folder / FIELDS_FILE, remedy=_REMEDY)
        if content.get("format") != FORMAT:
            raise IndexFileError(f"{folder} has format {content.get('format')}, this version reads {FORMAT}; {_REMEDY}")
        try:
            told = msgspec.convert(content, _Told)
        except msgspec.ValidationError as exc:
            raise IndexFileError(f"{folder / FIELDS_FILE} names no fields: {exc}; {_REMEDY}") from exc
        if told.count != count:
            raise IndexFileError(f"{folder} is over {told.count} rows, the index has {count}; {_REMEDY}")
        columns = {}
        for place, (name, kind, is_attribute, n_values) in enumerate(told.fields):
            column = _read_column(folder, place, Field(name, kind, is_attribute))
            _check(folder, column, count=count, n_values=n_values)
            columns[column.field.name] = column
        return cls(columns, count=count)

    @property
    def attributes(self) -> list[str]:
        """The products' attributes among the fields, as they were declared."""
        return [column.field.name for column in self.columns.values() if column.field.is_attribute]

    @staticmethod
    def write(folder: Path, records: Iterable[Mapping[str, Any]], *, attributes: Sequence[str] = ()) -> None:
        """Write the columns of products, given as `Catalogue.records` does, in the order of the rows.

        What is of another kind than its field counts as missing, and so does a price that is not finite. Memory: 4 or
        8 bytes per row and field, and the distinct values.

        Args:
            folder: made if it is not there.
            records: all fields of each product.
            attributes: names of the products' attributes that become fields, as text.

        Raises:
            SpecError: an attribute's name is a field's, comes twice, is empty or too long.
        """
        collectors = [_COLLECTORS[field.kind](field) for field in all_fields(attributes)]
        built_in = [(c.field.record_name, c.add) for c in collectors if not c.field.is_attribute]
        declared = [(c.field.record_name, c.add) for c in collectors if c.field.is_attribute]
        count = 0
        for record in records:
            count += 1
            for name, add in built_in:
                add(record.get(name))
            attributes_of = record.get("attributes")
            for name, add in declared:
                add(attributes_of.get(name) if isinstance(attributes_of, dict) else None)
        folder.mkdir(parents=True, exist_ok=True)
        fields = [[*collector.field, collector.write(folder, place)] for place, collector in enumerate(collectors)]
        write_sealed_json(folder / FIELDS_FILE, {"format": FORMAT, "count": count, "fields": fields})


class _Told(msgspec.Struct):
    """What `fields.json` says beside its format."""

    count: int
    fields: list[tuple[str, Kind, bool, int]]  # name, kind, whether it is an attribute, distinct values


class _Values(msgspec.Struct, Generic[_Key]):
    """The distinct texts or paths of a column, as its file has them."""

    keys: list[_Key]
    shown: list[str]


_TEXTS = msgspec.json.Decoder(_Values[str])
_PATHS = msgspec.json.Decoder(_Values[tuple[str, ...]])


class _Collector(Protocol):
    """Takes one field of all records, row by row, and writes its two files."""

    field: Field

    def __init__(self, field: Field) -> None: ...

    def add(self, value: object) -> None:
        """What the next record holds; None where it holds nothing."""
        ...

    def write(self, folder: Path, place: int) -> int:
        """Writes the files of the field at `place`; returns the number of distinct values."""
        ...


class _Numbers:
    missing: float = math.inf  # sorts behind all values, none of which it can be

    def __init__(self, field: Field) -> None:
        self.field = field
        self._rows: array[Any] = array("d")

    def add(self, value: object) -> None:
        is_number = isinstance(value, int | float) and math.isfinite(value)
        self._rows.append(value if is_number else self.missing)

    def write(self, folder: Path, place: int) -> int:
        values, ranks = np.unique(np.array(self._rows), return_inverse=True)
        values = values[: np.searchsorted(values, self.missing)]
        np.save(_numbers_path(folder, place), values)
        _save_ranks(folder, place, ranks, len(values))
        return len(values)


class _Times(_Numbers):
    missing = 2**63 - 1

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._rows = array("q")

    def add(self, value: object) -> None:
        key = moment(value)
        self._rows.append(self.missing if key is None else key)


class _Texts:
    def __init__(self, field: Field) -> None:
        self.field = field
        self._places: dict[str | None, int] = {}  # by spelling, in the order of the first rows
        self._rows = array("I")

    def add(self, value: object) -> None:
        text = value if isinstance(value, str) else None
        self._rows.append(self._places.setdefault(text, len(self._places)))

    def write(self, folder: Path, place: int) -> int:
        spelt = {text: self.field.key(text or "") for text in self._places}
        shown: dict[Key, str] = {}
        for text, key in spelt.items():
            if text and key:
                shown.setdefault(key, text)
        keys = sorted(shown)
        rank_of = {key: rank for rank, key in enumerate(keys)}
        ranks = np.array([rank_of.get(key, len(keys)) for key in spelt.values()], dtype=np.uint32)
        values = _Values(keys=keys, shown=[shown[key] for key in keys])
        _texts_path(folder, place).write_bytes(msgspec.json.encode(values))
        _save_ranks(folder, place, ranks[np.array(self._rows)], len(keys))
        return len(keys)


_COLLECTORS: Mapping[Kind, type[_Collector]] = {"path": _Texts, "text": _Texts, "number": _Numbers, "time": _Times}


def _save_ranks(folder: Path, place: int, ranks: np.ndarray, n_values: int) -> None:
    np.save(_ranks_path(folder, place), ranks.astype(np.min_scalar_type(n_values)))


def _read_column(folder: Path, place: int, field: Field) -> Column:
    ranks = mapped_array(_ranks_path(folder, place), remedy=_REMEDY)
    if field.is_ordered:
        return Column(field, ranks, mapped_array(_numbers_path(folder, place), remedy=_REMEDY))
    path = _texts_path(folder, place)
    try:
        values = (_PATHS if field.kind == "path" else _TEXTS).decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise IndexFileError(f"cannot read {path}: {exc}; {_REMEDY}") from exc
    return Column(field, ranks, values.keys, values.shown)


def _check(folder: Path, column: Column, *, count: int, n_values: int) -> None:
    """Raises IndexFileError where the files of a column do not belong together."""
    found = (column.ranks.shape, column.ranks.dtype, len(column.keys))
    expected = ((count,), np.min_scalar_type(n_values), n_values)
    if found != expected or len(column.shown) not in {0, n_values}:
        raise IndexFileError(
            f"{folder}: field {column.field.name!r} has ranks and values {found}, not {expected}; {_REMEDY}"
        )


def _ranks_path(folder: Path, place: int) -> Path:
    return folder / f"{place}.ranks.npy"


def _numbers_path(folder: Path, place: int) -> Path:
    return folder / f"{place}.values.npy"


def _texts_path(folder: Path, place: int) -> Path:
    return folder / f"{place}.values.json"
