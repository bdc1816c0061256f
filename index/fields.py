"""The fields that a filter may name, and how their values compare.

Values sort by a key: folded text, the tuple of a path's folded parts, a number, microseconds since 1970.
"""

import math
import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, NamedTuple

from index.errors import FilterError, SpecError

Kind = Literal["path", "text", "number", "time"]
Key = Any

MAX_NAME = 64  # characters of an attribute's name
_RECORD_NAMES = {"seller": "seller_id"}  # where it is not the field's own
_AFTER_ALL = "\U0010ffff"  # no character, so that no part of a path sorts behind it
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1)


class Bounds(NamedTuple):
    """What equals a value: the keys from first to last. They are one key, or a category with all below it, or a day."""

    first: Key
    last: Key


class Field(NamedTuple):
    """A name for filters. A path is a category from the root, as in `A > B > C`."""

    name: str
    kind: Kind
    is_attribute: bool = False

    @property
    def record_name(self) -> str:
        """What a record, or its attributes, call it."""
        return _RECORD_NAMES.get(self.name, self.name)

    @property
    def is_ordered(self) -> bool:
        """Whether < and > mean something."""
        return self.kind in {"number", "time"}

    def key(self, text: str) -> Key:
        """What a text or a path sorts by; empty where there is nothing but blanks."""
        return path_key(text) if self.kind == "path" else fold(text)

    def bounds(self, value: str | float) -> Bounds:
        """What equals a filter's value.

        Raises:
            FilterError: a value of another kind, or an empty one.
        """
        if self.kind == "number":
            if isinstance(value, str) or not math.isfinite(value):
                raise FilterError(
                    self.name, value, f"{self.name} takes a number, as in 49.9 without quotes, not {value!r}"
                )
            return Bounds(value, value)
        if self.kind == "time":
            return self._span_of_time(value)
        if not isinstance(value, str):
            text = repr(value).removesuffix(".0")
            raise FilterError(self.name, value, f'{self.name} takes text; write "{text}" in quotes')
        key = self.key(value)
        if not key:
            raise FilterError(self.name, value, f"{self.name} was given an empty value; name one or leave it out")
        return Bounds(key, (*key, _AFTER_ALL) if self.kind == "path" else key)

    def _span_of_time(self, value: str | float) -> Bounds:
        """A day is all its moments, in UTC; a time is one."""
        first = moment(value)
        if first is None:
            example = "2024-12-31 or 2024-12-31T18:00:00Z"
            raise FilterError(self.name, value, f"{self.name} takes a date or a time, as in {example}, not {value!r}")
        return Bounds(first, first + _DAY // _MICROSECOND - 1 if _is_day(str(value)) else first)


BUILT_IN = (
    Field("category", "path"),
    Field("country", "text"),
    Field("language", "text"),
    Field("brand", "text"),
    Field("currency", "text"),
    Field("seller", "text"),
    Field("price", "number"),
    Field("created_at", "time"),
)


def all_fields(attributes: Sequence[str]) -> tuple[Field, ...]:
    """The built-in fields and those of declared attributes.

    Raises:
        SpecError: an attribute's name is a field's, comes twice, is empty or too long.
    """
    fields = list(BUILT_IN)
    for name in attributes:
        if name != name.strip() or not 1 <= len(name) <= MAX_NAME:
            raise SpecError(f"attribute {name!r} must have 1 to {MAX_NAME} characters, the first and last not blank")
        if name in {field.name for field in fields}:
            raise SpecError(f"attribute {name!r} is a field already; declare another, or this one once")
        fields.append(Field(name, "text", is_attribute=True))
    return tuple(fields)


def fold(text: str) -> str:
    """Text as it is compared: without regard to case, width and number of blanks."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def path_key(path: str) -> tuple[str, ...]:
    """The folded parts of `A > B > C`."""
    return tuple(part for part in map(fold, path.split(">")) if part)


def path_parts(path: str) -> tuple[str, ...]:
    """The same parts as they are spelt."""
    return tuple(part.strip() for part in path.split(">") if part.strip())


def moment(value: object) -> int | None:
    """A time or its ISO text in microseconds since 1970; None for anything else. Without a zone it is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
