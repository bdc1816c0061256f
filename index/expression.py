"""The filter language: the text of a search's `filter` parsed into conditions and where the hits shall come from.

    country = "GB" AND (price < 50 OR brand IN ("Adidas", "Nike")) AND NOT category = "Fashion > Shoes"
    country = GB AND tokens("adidas") AND (tokens OR nn(radius=0.24, nprobe=16))

    filter    = all {"OR" all}
    all       = one {"AND" one}
    one       = {"NOT"} ("(" filter ")" | predicate)
    predicate = field ("=" | "!=" | "<" | "<=" | ">" | ">=") value | field ["NOT"] "IN" "(" value {"," value} ")"
              | "tokens" ["(" value ")"] | "nn" ["(" [name "=" number {"," name "=" number}] ")"]

A value is quoted text, a bare word or a number; a backslash in quotes takes the next character as it is. Keywords are
written in any case. A field may be quoted too, which a name with a blank needs.
"""

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar, get_args

from index.conditions import (
    KEYWORDS,
    Compare,
    Condition,
    Not,
    OneOf,
    Op,
    Retrieval,
    Value,
    Words,
    all_of,
    any_of,
    negated,
)
from index.errors import ExpressionError

MAX_CHARS = 2_048
MAX_NESTING = 16  # parentheses within parentheses
MAX_PREDICATES = 64
MAX_VALUES = 100  # of one IN
MAX_NPROBE = 65_536

_Item = TypeVar("_Item")

_OPS: dict[str, Op] = {op: op for op in get_args(Op)}
# The alternatives share no first character, so nothing is tried twice.
_TOKEN = re.compile(
    r"""(?P<text> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' )
      | (?P<op>   [!<>]= | [=<>] )
      | (?P<mark> [(),] )
      | (?P<word> [^\s()"',=!<>\\]+ )""",
    re.VERBOSE | re.DOTALL,
)
_BLANKS = re.compile(r"\s*")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class Parsed(NamedTuple):
    """What a filter's text says."""

    condition: Condition | None
    retrieval: Retrieval | None


def parse(text: str) -> Parsed:
    """The condition and the retrieval of a filter's text; either may be absent.

    Raises:
        ExpressionError: the text is not in the language or beyond its limits; names the character.
    """
    if len(text) > MAX_CHARS:
        raise ExpressionError(f"the filter has {len(text)} characters, {MAX_CHARS} are allowed; shorten it")
    return _Parser(text).parse()


class _Token(NamedTuple):
    kind: str  # text, op, mark, word or end
    text: str  # without quotes
    at: int  # its first character, counted from 1

    def is_one_of(self, words: Collection[str]) -> bool:
        """Whether it is one of some keywords (in capitals) or marks; quoted text is none."""
        return self.kind != "text" and self.text.upper() in words

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text[:40])


def _tokens(text: str) -> list[_Token]:
    tokens = []
    at = _skip_blanks(text, 0)
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            expected = "a closing quote" if text[at] in "\"'" else "a field, a value or an operator"
            raise _expected(expected, _Token("word", text[at:], at + 1))
        kind, found = str(match.lastgroup), match.group()
        tokens.append(_Token(kind, _ESCAPED.sub(r"\1", found[1:-1]) if kind == "text" else found, at + 1))
        at = _skip_blanks(text, match.end())
    return [*tokens, _Token("end", "", at + 1)]


def _skip_blanks(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    return at if blanks is None else blanks.end()


def _expected(what: str, found: _Token) -> ExpressionError:
    return ExpressionError(f"filter: expected {what}, found {found} at character {found.at}")


def _misplaced(start: _Token) -> ExpressionError:
    return ExpressionError(
        "filter: tokens and nn may stand once, joined by AND with the conditions, as one of tokens, nn(...), "
        f"(tokens OR nn(...)), (tokens AND nn(...)); what begins at character {start.at} is something else"
    )


class _Parser:
    """Recursive descent. Every step gives a `Parsed`, since `tokens` and `nn` may stand among the conditions."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._position = 0
        self._nesting = 0
        self._predicates = 0

    def parse(self) -> Parsed:
        parsed = self._filter()
        if self._token.kind != "end":
            raise _expected("AND, OR or the end (a value of several words needs quotes)", self._token)
        return parsed

    def _filter(self) -> Parsed:
        start = self._token
        parts = [self._all()]
        while self._takes("OR"):
            parts.append(self._all())
        if len(parts) == 1:
            return parts[0]
        conditions = [part.condition for part in parts if part.condition is not None]
        retrieval = _one_retrieval(parts, start, both=False)
        if retrieval is None:
            return Parsed(any_of(*conditions), None)
        if conditions:
            raise _misplaced(start)
        return Parsed(None, retrieval)

    def _all(self) -> Parsed:
        start = self._token
        parts = [self._one()]
        while self._takes("AND"):
            parts.append(self._one())
        return Parsed(all_of(*(part.condition for part in parts)), _one_retrieval(parts, start, both=True))

    def _one(self) -> Parsed:
        start = self._token
        nots = 0
        while self._takes("NOT"):
            nots += 1
        parsed = self._group() if self._takes("(") else self._predicate()
        if nots == 0:
            return parsed
        if parsed.condition is None or parsed.retrieval is not None:
            raise _misplaced(start)
        return Parsed(negated(parsed.condition) if nots % 2 else parsed.condition, None)

    def _group(self) -> Parsed:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise _expected(f"at most {MAX_NESTING} parentheses within each other", self._token)
        parsed = self._filter()
        self._take(")", "AND, OR or )")
        self._nesting -= 1
        return parsed

    def _predicate(self) -> Parsed:
        first = self._token
        self._predicates += 1
        if self._predicates > MAX_PREDICATES:
            raise _expected(f"at most {MAX_PREDICATES} conditions", first)
        if self._takes("TOKENS"):
            return self._words() if self._takes("(") else Parsed(None, Retrieval(tokens=True, nn=False))
        if self._takes("NN"):
            return Parsed(None, self._neighbours())
        if first.kind not in {"word", "text"} or first.is_one_of(KEYWORDS):
            raise _expected("a condition such as price < 50", first)
        self._position += 1
        return Parsed(self._comparison(first.text), None)

    def _comparison(self, field: str) -> Condition:
        if self._takes("IN"):
            return self._one_of(field)
        if self._takes("NOT"):
            self._take("IN", "IN")
            return Not(self._one_of(field))
        op = _OPS.get(self._token.text) if self._token.kind == "op" else None
        if op is None:
            raise _expected(f"{', '.join(_OPS)} or IN after the field {field[:40]!r}", self._token)
        self._position += 1
        return Compare(field, op, self._value())

    def _one_of(self, field: str) -> OneOf:
        self._take("(", "( and the values of IN")
        start = self._token
        values = self._list(self._value)
        if len(values) > MAX_VALUES:
            raise _expected(f"at most {MAX_VALUES} values, not the {len(values)} that begin here", start)
        return OneOf(field, tuple(values))

    def _words(self) -> Parsed:
        token = self._token
        if token.kind not in {"word", "text"}:
            raise _expected("the words that a product must hold", token)
        self._position += 1
        self._take(")", ") (several words need quotes)")
        return Parsed(Words(token.text), None)

    def _neighbours(self) -> Retrieval:
        given: dict[str, float] = {}
        if self._takes("(") and not self._takes(")"):
            self._list(lambda: self._knob(given))
        nprobe = given.get("nprobe")
        return Retrieval(
            tokens=False, nn=True, radius=given.get("radius"), nprobe=None if nprobe is None else int(nprobe)
        )

    def _knob(self, given: dict[str, float]) -> None:
        """One of `radius=R` and `nprobe=N`, noted in `given`."""
        name = self._token
        if name.text not in {"radius", "nprobe"} or name.text in given:
            raise _expected("radius or nprobe, each at most once", name)
        self._position += 1
        self._take("=", f"= and a number after {name.text}")
        found = self._token
        value = self._value()
        if name.text == "radius" and not (isinstance(value, float) and -1 <= value <= 1):
            raise _expected("a radius, a cosine from -1 to 1", found)
        if name.text == "nprobe" and not (isinstance(value, float) and value in range(1, MAX_NPROBE + 1)):
            raise _expected(f"nprobe, a whole number from 1 to {MAX_NPROBE}", found)
        given[name.text] = float(value)

    def _list(self, item: Callable[[], _Item]) -> list[_Item]:
        """Items with commas between them, and the parenthesis that closes them."""
        items = [item()]
        while self._takes(","):
            items.append(item())
        self._take(")", ", or )")
        return items

    def _value(self) -> Value:
        token = self._token
        if token.kind not in {"word", "text"}:
            raise _expected("a value", token)
        self._position += 1
        if token.kind == "text" or not _NUMBER.fullmatch(token.text):
            return token.text
        if not math.isfinite(number := float(token.text)):
            raise _expected("a number below 1e308", token)
        return number

    @property
    def _token(self) -> _Token:
        return self._tokens[self._position]

    def _takes(self, text: str) -> bool:
        """Goes past the next token if it is this keyword or mark, and says whether it was."""
        taken = self._token.is_one_of({text})
        self._position += taken
        return taken

    def _take(self, text: str, expected: str) -> None:
        if not self._takes(text):
            raise _expected(expected, self._token)


def _one_retrieval(parts: Sequence[Parsed], start: _Token, *, both: bool) -> Retrieval | None:
    """What the parts say of `tokens` and `nn`; None where they do not. Two become one if each is one of the two."""
    legs = [part.retrieval for part in parts if part.retrieval is not None]
    if len(legs) < 2:
        return next(iter(legs), None)
    if sorted((leg.tokens, leg.nn) for leg in legs) != [(False, True), (True, False)]:
        raise _misplaced(start)
    neighbours = next(leg for leg in legs if leg.nn)
    return replace(neighbours, tokens=True, both=both)
