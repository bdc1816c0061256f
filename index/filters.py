"""Conditions to row filters: what a search may find, as bitmaps over the rows of a generation's index."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from functools import cached_property, lru_cache, partial, reduce
from weakref import proxy

import numpy as np

from index.ann import RowFilter
from index.columns import Column, Columns, Ranks
from index.conditions import And, Compare, Condition, Not, OneOf, Op, Or, Value, Words
from index.errors import FilterError
from index.fields import Bounds
from index.suggestions import KnownPaths

CACHED = 256  # bitmaps of comparisons, and of whole conditions; each is a bit per row

Holds = Callable[[str, Bounds], bool]  # field, what equals a value -> whether any product has it
Leaf = Compare | OneOf | Words

_End = tuple[float, int]  # a key, and whether the range ends before it (-1), with it (0) or begins after it (1)


class Filters:
    """The filters of one generation. Safe to share between threads.

    A product that lacks a field is found by none of the comparisons with it but `!=`, and by the NOT of the others.

    Args:
        columns: of the generation.
        words: text -> (n,) the rows that hold all its words; None where no words are indexed.
    """

    def __init__(self, columns: Columns, *, words: Callable[[str], np.ndarray] | None = None) -> None:
        self._columns = columns
        self._words = words
        self._all = np.packbits(np.ones(columns.count, dtype=bool), bitorder="little")
        weakly = proxy(self)  # a cycle would keep the mapped columns of a replaced generation until some collection
        self._cached_leaf = lru_cache(CACHED)(partial(Filters._leaf, weakly))
        self._cached_rows = lru_cache(CACHED)(partial(Filters._rows, weakly))
        self._cached_checked = lru_cache(CACHED)(partial(Filters._checked, weakly))

    def rows(self, condition: Condition) -> RowFilter:
        """The rows that meet a condition. Raises FilterError as `check`."""
        return self._cached_checked(condition)

    def rows_of_checked(self, condition: Condition) -> RowFilter:
        """The rows that meet a condition that `check` has passed."""
        return self._cached_rows(condition)

    def check(self, condition: Condition, *, elsewhere: Holds | None = None) -> None:
        """Refuse what cannot be meant. A country, brand or seller that no product has is no error: nothing is found.

        Args:
            condition: any.
            elsewhere: whether a product beside these rows has a category.

        Raises:
            FilterError: an unknown field or category (names the nearest), a comparison or a value that does not suit
                the field, or a range that is empty as it is written.
        """
        for part in _parts_of(condition):
            match part:
                case Compare(field, op, value):
                    self._check_value(field, op, value, elsewhere)
                case OneOf(field, values):
                    for value in values:
                        self._check_value(field, "=", value, elsewhere)
                case Words(text):
                    self._check_words(text)
                case And(parts):
                    self._check_ranges([part for part in parts if isinstance(part, Compare)])

    def _checked(self, condition: Condition) -> RowFilter:
        self.check(condition)
        return self._cached_rows(condition)

    def _rows(self, condition: Condition) -> RowFilter:
        bits = combined(condition, self._cached_leaf, everything=self._all)
        return RowFilter(bits, count=self._columns.count)

    def _leaf(self, condition: Leaf) -> np.ndarray:
        """(ceil(count / 8),) uint8; bits past the last row stay 0."""
        match condition:
            case Compare(field, op, value):
                column = self._columns.columns[field]
                return _bits_of(column, [column.allowed(op, column.field.bounds(value))])
            case OneOf(field, values):
                column = self._columns.columns[field]
                return _bits_of(column, [column.allowed("=", column.field.bounds(value)) for value in values])
            case Words(text):
                holds = np.zeros(self._columns.count, dtype=bool)
                holds[self._check_words(text)(text)] = True
                return np.packbits(holds, bitorder="little")

    def _check_value(self, field: str, op: Op, value: Value, elsewhere: Holds | None) -> None:
        column = self._column(field, value)
        if op not in {"=", "!="} and not column.field.is_ordered:
            raise FilterError(field, value, f"{field} can be compared by =, != and IN, not by {op}")
        bounds = column.field.bounds(value)
        if column.field.kind != "path" or (elsewhere is not None and elsewhere(field, bounds)):
            return
        allowed = column.allowed("=", bounds)
        if allowed.low == allowed.high:
            nearest = self._known_paths[field].nearest(str(value))
            hint = f"; the nearest are {', '.join(map(repr, nearest))}" if nearest else ""
            raise FilterError(field, value, f"there is no {field} {value!r}{hint}")

    def _column(self, field: str, value: Value) -> Column:
        known = self._columns.columns
        if field not in known:
            nearest = get_close_matches(field.casefold(), known, n=1)
            hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            raise FilterError(field, value, f"there is no field {field!r}{hint}; there are {', '.join(known)}")
        return known[field]

    @cached_property
    def _known_paths(self) -> dict[str, KnownPaths]:
        columns = self._columns.columns.items()
        return {name: KnownPaths(column.shown) for name, column in columns if column.field.kind == "path"}

    def _check_words(self, text: str) -> Callable[[str], np.ndarray]:
        """What finds the rows of these words."""
        if not text.strip():
            raise FilterError("tokens", text, "tokens was given no words; name some or leave it out")
        if self._words is None:
            raise FilterError("tokens", text, "this index holds no words; run `que2search build` to add them")
        return self._words

    def _check_ranges(self, comparisons: Sequence[Compare]) -> None:
        """Refuse what no number or time can be, as in price >= 50 AND price < 20."""
        by_field: defaultdict[str, list[Compare]] = defaultdict(list)
        for comparison in comparisons:
            if self._column(comparison.field, comparison.value).field.is_ordered:
                by_field[comparison.field].append(comparison)
        for field, same in by_field.items():
            bounds = self._columns.columns[field].field.bounds
            ends = [_ends(comparison.op, bounds(comparison.value)) for comparison in same]
            if max(low for low, _ in ends) > min(high for _, high in ends):
                text = " AND ".join(map(str, same))
                raise FilterError(field, text, f"{text} is an empty range, no {field} lies in it; widen it")


def combined(condition: Condition, leaf: Callable[[Leaf], np.ndarray], *, everything: np.ndarray) -> np.ndarray:
    """The rows that meet a condition, as a mask or packed bits.

    Args:
        condition: passed by `Filters.check`.
        leaf: what meets a part that holds no other; never asked for `!=`.
        everything: all rows.
    """
    met: np.ndarray
    match condition:
        case And(parts):
            met = reduce(np.bitwise_and, (combined(part, leaf, everything=everything) for part in parts))
        case Or(parts):
            met = reduce(np.bitwise_or, (combined(part, leaf, everything=everything) for part in parts))
        case Not(part):
            met = everything ^ combined(part, leaf, everything=everything)
        case Compare(field, "!=", value):
            met = everything ^ leaf(Compare(field, "=", value))
        case _:
            met = leaf(condition)
    return met


def _parts_of(condition: Condition) -> Iterator[Condition]:
    """The condition and all in it."""
    yield condition
    match condition:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _parts_of(part)
        case Not(part):
            yield from _parts_of(part)


def _ends(op: Op, bounds: Bounds) -> tuple[_End, _End]:
    """Where the keys that a comparison allows begin and end; without limit for !=."""
    first, last = bounds
    ends: dict[Op, tuple[_End, _End]] = {
        "=": ((first, 0), (last, 0)),
        "<": ((-math.inf, 0), (first, -1)),
        "<=": ((-math.inf, 0), (last, 0)),
        ">": ((last, 1), (math.inf, 0)),
        ">=": ((first, 0), (math.inf, 0)),
    }
    return ends.get(op, ((-math.inf, 0), (math.inf, 0)))


def _bits_of(column: Column, allowed: Sequence[Ranks]) -> np.ndarray:
    """(ceil(count / 8),) uint8: the rows whose values have allowed ranks."""
    if len(allowed) == 1:  # most comparisons; several times faster than by a table
        ((low, high),) = allowed
        return np.packbits((column.ranks >= low) & (column.ranks < high), bitorder="little")
    by_rank = np.zeros(len(column.keys) + 1, dtype=bool)  # the last one is no value
    for low, high in allowed:
        by_rank[low:high] = True
    return np.packbits(by_rank.take(column.ranks), bitorder="little")
