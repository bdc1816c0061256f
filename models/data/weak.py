"""Weak pairs: queries derived from a catalogue's own text, for catalogues without events.

People search with short, plain noun phrases ("bluetooth speaker", "usb hub"), sometimes with a brand ("hp ink"),
rarely with a model number. So a product's queries are drawn from phrases of one to three words that OTHER products
carry too, from its category, and from its brand or an attribute value before one of these.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import polars as pl

QUERIES_PER_PRODUCT = 6
_DRAWS = 3 * QUERIES_PER_PRODUCT  # many draws repeat one another
_LONGEST_PHRASE = 3  # words
_COMMON = 3  # products that carry a phrase, at least, to make it a way to ask
_LONGEST_VALUE = 25  # characters; a longer attribute value is a sentence
_DESCRIPTION_WORDS = 40  # people ask for what a description begins with

# Within a phrase people keep letters, inner hyphens and apostrophes; anything else ends it.
_BREAK = re.compile(r"[^\w\s'&+.\-]|_|\s[-–—]\s")
_WORD = re.compile(r"[^\W_]+(?:['&+.\-][^\W_]+)*")
# Words that neither begin nor end a phrase, in the languages of the sample.
_FUNCTION_WORDS = frozenset(
    word
    for line in (
        "a an and are at by for from has in is it its of on or per the this to with you your",
        "con de del el en es la las los para por un una y",
        "com da das do dos e em o os para por um uma",
        "au aux avec dans de des du en et la le les pour sur un une",
        "das dem der die ein eine für im in mit und von zum zur",
        "cm ft g kg m mm pc pcs v w x",
    )
    for word in line.split()
)


class _Source(NamedTuple):
    """One product as the drawing sees it; every phrase in lower case."""

    phrases: list[str]  # of the title
    further: list[str]  # of the description's beginning
    categories: list[str]  # the last levels of the path, the leaf first
    values: list[str]  # short attribute values
    brand: str | None
    rare: list[str]  # words of the title with digits: model numbers, sizes


def weak_pairs(products: pl.DataFrame, *, seed: int) -> pl.DataFrame:
    """Rows query, country, language, product_id, time (null), weak (true): up to QUERIES_PER_PRODUCT per product."""
    sources = [_source(row) for row in products.iter_rows(named=True)]
    carried = Counter(phrase for source in sources for phrase in {*source.phrases, *source.further})
    dice = random.Random(seed)
    queries = [_queries(source, carried, dice) for source in sources]
    return (
        products.select("country", "language", "product_id")
        .with_columns(query=pl.Series(queries, dtype=pl.List(pl.String)))
        .explode("query", empty_as_null=True)
        .drop_nulls("query")
        .select(
            "query",
            "country",
            "language",
            "product_id",
            time=pl.lit(None, pl.Datetime("us", "UTC")),
            weak=pl.lit(value=True),
        )
    )


def _source(row: Mapping[str, object]) -> _Source:
    title = str(row["title"])
    brand = str(row["brand"]).lower() if row["brand"] else None
    description = " ".join(str(row["description"] or "").split()[:_DESCRIPTION_WORDS])
    attributes = row["attributes"] or {}
    assert isinstance(attributes, dict)  # noqa: S101 - PRODUCTS says so; for the type checker
    values = (str(value).lower() for value in attributes.values())
    phrases = list(_phrases(title, brand))
    return _Source(
        phrases=phrases,
        further=sorted(set(_phrases(description, brand)) - set(phrases)),
        categories=_levels(row["category"]),
        values=[value for value in values if len(value) <= _LONGEST_VALUE and _is_plain(value)],
        brand=brand,
        rare=[word.lower() for word in _WORD.findall(title) if any(c.isdigit() for c in word)],
    )


def _levels(category: object) -> list[str]:
    levels = str(category or "").lower().split(" > ")[::-1]
    return [level for level in levels[:2] if level]


def _phrases(text: str, brand: str | None) -> Iterator[str]:
    """Runs of one to three words that begin and end with a word of meaning, without the brand and without digits."""
    text = text.lower()
    if brand:
        text = text.replace(brand, ",")
    for segment in _BREAK.split(text):
        run: list[str] = []
        for word in [*_WORD.findall(segment), "0"]:
            if not any(c.isdigit() for c in word):
                run.append(word)
                continue
            yield from _sub_runs(run)
            run = []


def _sub_runs(words: list[str]) -> Iterator[str]:
    for start in range(len(words)):
        for end in range(start + 1, min(start + _LONGEST_PHRASE, len(words)) + 1):
            part = words[start:end]
            if not {part[0], part[-1]} & _FUNCTION_WORDS:
                yield " ".join(part)


def _is_plain(value: str) -> bool:
    return any(c.isalpha() for c in value) and value not in {"true", "false", "yes", "no", "not supported"}


def _queries(source: _Source, carried: Counter[str], dice: random.Random) -> list[str]:
    nouns = _weighted(source.phrases, carried)
    further = _weighted(source.further, carried)
    found: dict[str, None] = {}
    for _ in range(_DRAWS):
        query = _draw(source, nouns, further, dice)
        if query is not None and len(query) > 1:
            found[query] = None
        if len(found) == QUERIES_PER_PRODUCT:
            break
    return list(found)


def _weighted(phrases: Iterable[str], carried: Counter[str]) -> dict[str, float]:
    """Two words are the usual way to name a product; a phrase of many products is likelier than one of few."""
    length_weights = (0.0, 1.0, 3.0, 1.5)
    return {
        phrase: length_weights[phrase.count(" ") + 1] * carried[phrase] ** 0.5
        for phrase in phrases
        if carried[phrase] >= _COMMON
    }


def _draw(source: _Source, nouns: dict[str, float], further: dict[str, float], dice: random.Random) -> str | None:
    """One query, or None where the product lacks what this way of asking needs."""
    way = dice.random()
    noun = _noun(source, nouns, dice)
    if way < 0.55:
        return noun
    if way < 0.7:
        return f"{source.brand} {noun}" if source.brand and noun else None
    if way < 0.82:
        return f"{dice.choice(source.values)} {noun}" if source.values and noun else None
    if way < 0.93:
        return _pick(further, dice)
    if way < 0.97:
        return source.brand
    return dice.choice(source.rare) if source.rare else None


def _noun(source: _Source, nouns: dict[str, float], dice: random.Random) -> str | None:
    """What the product is: its category, a phrase of its title."""
    if source.categories and (not nouns or dice.random() < 0.4):
        return dice.choice(source.categories)
    return _pick(nouns, dice)


def _pick(weights: dict[str, float], dice: random.Random) -> str | None:
    return dice.choices(list(weights), list(weights.values()))[0] if weights else None
