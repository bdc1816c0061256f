"""What a filter says about products, as frozen, hashable conditions.

`str` gives a condition's canonical text in the filter language: `index.expression.parse` reads it back to an equal one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Op = Literal["=", "!=", "<", "<=", ">", ">="]
Value = str | float

# Words that begin something else than a comparison, so that a field of this name is quoted.
KEYWORDS = frozenset({"AND", "OR", "NOT", "IN", "TOKENS", "NN"})
_PLAIN_FIELD = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Compare:
    """A field beside a value. A date is text here; the field's kind says how the value is read."""

    field: str
    op: Op
    value: Value

    def __str__(self) -> str:
        return f"{_field(self.field)} {self.op} {_value(self.value)}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """A field equal to any of some values."""

    field: str
    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{_field(self.field)} IN ({', '.join(map(_value, self.values))})"


@dataclass(frozen=True, slots=True)
class Words:
    """A product's text holds all of these words."""

    text: str

    def __str__(self) -> str:
        return f"tokens({_value(self.text)})"


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more parts, none of them an And. Made by `all_of`."""

    parts: tuple["Condition", ...]

    def __str__(self) -> str:
        return " AND ".join(f"({part})" if isinstance(part, Or) else str(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """Any of two or more parts, none of them an Or. Made by `any_of`."""

    parts: tuple["Condition", ...]

    def __str__(self) -> str:
        return " OR ".join(map(str, self.parts))


@dataclass(frozen=True, slots=True)
class Not:
    """All products but those of the part, which is no Not. Made by `negated`."""

    part: "Condition"

    def __str__(self) -> str:
        return f"NOT ({self.part})" if isinstance(self.part, And | Or) else f"NOT {self.part}"


Condition = Compare | OneOf | Words | And | Or | Not


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Where the hits come from: the products that share words with the query, its nearest neighbours, or the two."""

    tokens: bool
    nn: bool
    both: bool = False  # of the two: a hit must come from each, not from either
    radius: float | None = None  # the cosine from which neighbours count
    nprobe: int | None = None

    def __str__(self) -> str:
        knobs = {"radius": self.radius, "nprobe": self.nprobe}
        given = ", ".join(f"{name}={value}" for name, value in knobs.items() if value is not None)
        legs = ["tokens"] * self.tokens + [f"nn({given})" if given else "nn"] * self.nn
        return (" AND " if self.both else " OR ").join(legs)


def all_of(*conditions: Condition | None) -> Condition | None:
    """The conditions joined by AND; None where there is none."""
    parts = _flat(And, conditions)
    return And(parts) if len(parts) > 1 else next(iter(parts), None)


def any_of(*conditions: Condition) -> Condition:
    """One or more conditions joined by OR."""
    parts = _flat(Or, conditions)
    return Or(parts) if len(parts) > 1 else parts[0]


def negated(condition: Condition) -> Condition:
    """The other products; twice negated is not negated."""
    return condition.part if isinstance(condition, Not) else Not(condition)


def _flat(kind: type[And | Or], conditions: Iterable[Condition | None]) -> tuple[Condition, ...]:
    """Parts of parts where they are joined alike, so that parentheses that change nothing leave no trace."""
    parts: list[Condition] = []
    for condition in conditions:
        if isinstance(condition, And | Or) and isinstance(condition, kind):
            parts += condition.parts
        elif condition is not None:
            parts.append(condition)
    return tuple(parts)


def _field(name: str) -> str:
    return name if _PLAIN_FIELD.fullmatch(name) and name.upper() not in KEYWORDS else _quoted(name)


def _value(value: Value) -> str:
    return _quoted(value) if isinstance(value, str) else repr(value).removesuffix(".0")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
