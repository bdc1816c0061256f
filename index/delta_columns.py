"""The filter fields of the products that came after a generation, in columns that grow.

Text and paths are coded as in the generation's column: the rank of a value that it has, its number of values for none;
what only newer products have gets the codes above. So one code is one seller, on either side.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from index.columns import Column
from index.conditions import Compare, OneOf, Op
from index.fields import Bounds, Field, Key, moment
from index.growing import Growing

_FOLDED = 16_384  # texts that are kept as they are compared: most products share theirs


class DeltaColumns:
    """All filter columns of the delta.

    Args:
        columns: of the generation.
    """

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns: dict[str, _Column] = {name: _column(column) for name, column in columns.items()}
        self._fields = [column.field for column in columns.values()]

    def keys(self, product: Mapping[str, Any]) -> list[Key | None]:
        """What a product has in every field; None where it has nothing of the field's kind."""
        return [_key(field, _value(field, product)) for field in self._fields]

    def append(self, keys: Iterable[Key | None]) -> None:
        """Add a product's row, given by its keys."""
        for column, key in zip(self._columns.values(), keys, strict=True):
            column.append(key)

    def met_by(self, condition: Compare | OneOf) -> np.ndarray:
        """(rows,) bool: which rows meet a comparison, as `index.filters.Filters` has it; it was checked there."""
        column = self._columns[condition.field]
        if isinstance(condition, Compare):
            return column.met_by(condition.op, column.field.bounds(condition.value))
        masks = [column.met_by("=", column.field.bounds(value)) for value in condition.values]
        met: np.ndarray = np.logical_or.reduce(masks)
        return met

    def hold(self, field: str, bounds: Bounds) -> bool:
        """Whether a product of the delta has, or had, a text or a path that its generation lacks."""
        column = self._columns[field]
        return isinstance(column, _Coded) and bool(column.newer(bounds))

    def codes(self, field: str) -> np.ndarray:
        """(rows,) uint32: the codes of a text or a path."""
        column = self._columns[field]
        if not isinstance(column, _Coded):
            raise TypeError(f"field {field!r} is a {column.field.kind}: it has values, not codes")
        return column.rows.rows


class _Column(Protocol):
    field: Field

    def append(self, key: Key | None) -> None: ...

    def met_by(self, op: Op, bounds: Bounds) -> np.ndarray: ...


class _Ordered:
    """Numbers or times. What is missing sorts behind all of them."""

    def __init__(self, field: Field) -> None:
        self.field = field
        is_number = field.kind == "number"
        self._missing = math.inf if is_number else np.iinfo(np.int64).max
        self._rows = Growing(np.float64 if is_number else np.int64)

    def append(self, key: Key | None) -> None:
        self._rows.append(self._missing if key is None else key)

    def met_by(self, op: Op, bounds: Bounds) -> np.ndarray:
        rows = self._rows.rows
        met: np.ndarray
        match op:
            case "<":
                met = rows < bounds.first
            case "<=":
                met = rows <= bounds.last
            case ">":
                met = (rows > bounds.last) & (rows != self._missing)
            case ">=":
                met = (rows >= bounds.first) & (rows != self._missing)
            case _:
                met = (rows >= bounds.first) & (rows <= bounds.last)
        return met


class _Coded:
    """Text or paths.

    Args:
        column: of the generation, which knows most values.
    """

    def __init__(self, column: Column) -> None:
        self.field = column.field
        self.rows = Growing(np.uint32)
        self._known = column
        self._codes: dict[Key, int] = {}  # of newer values
        self._newer: defaultdict[Key, list[int]] = defaultdict(list)  # ... that equal a value, those below a path too

    def append(self, key: Key | None) -> None:
        self.rows.append(len(self._known.keys) if key is None else self._code(key))

    def met_by(self, _op: Op, bounds: Bounds) -> np.ndarray:
        low, high = self._known.allowed("=", bounds)
        rows = self.rows.rows
        met: np.ndarray = (rows >= low) & (rows < high)
        newer = self.newer(bounds)
        return met | np.isin(rows, newer) if newer else met

    def newer(self, bounds: Bounds) -> list[int]:
        """The codes of newer values that equal a filter's."""
        return self._newer.get(bounds.first, [])

    def _code(self, key: Key) -> int:
        known = self._known.keys
        at = bisect_left(known, key)
        if at < len(known) and known[at] == key:
            return at
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = len(known) + 1 + len(self._codes)
            for above in _with_all_above(key):
                self._newer[above].append(code)
        return code


def _column(column: Column) -> _Column:
    return _Ordered(column.field) if column.field.is_ordered else _Coded(column)


def _with_all_above(key: Key) -> list[Key]:
    return [key[:depth] for depth in range(1, len(key) + 1)] if isinstance(key, tuple) else [key]


def _value(field: Field, product: Mapping[str, Any]) -> object:
    if not field.is_attribute:
        return product.get(field.record_name)
    attributes = product.get("attributes")
    return attributes.get(field.record_name) if isinstance(attributes, dict) else None


def _key(field: Field, value: object) -> Key | None:
    """What a value sorts by; None for one of another kind than the field's."""
    match field.kind:
        case "number":
            return value if isinstance(value, int | float) and math.isfinite(value) else None
        case "time":
            return moment(value)
        case _:
            return _folded(field, value) if isinstance(value, str) else None


@lru_cache(_FOLDED)
def _folded(field: Field, text: str) -> Key | None:
    return field.key(text) or None
