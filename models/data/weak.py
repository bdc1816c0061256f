"""Weak pairs: queries derived from a catalogue's own text, for catalogues without events.

People search with short, plain noun phrases ("bluetooth speaker", "usb hub"), sometimes with a brand ("hp ink"), a
colour or a material before them, rarely with a model number. So a product's queries are made of phrases of one to
three words that OTHER titles carry too and of its category. What a catalogue's units ("mb", "pages") and qualifiers
("black", "original") are is learned from the catalogue; neither ends a phrase.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial, reduce
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl

QUERIES_PER_PRODUCT = 5
_DRAWS = 3 * QUERIES_PER_PRODUCT  # many draws repeat one another
_LONGEST_PHRASE = 3  # words
_WIDEST_GAP = 2  # words left out between two that are kept
_COMMON = 3  # titles that carry a phrase, at least, to make it a way to ask
_DESCRIPTION_WORDS = 40  # people ask for what a description begins with
_SHORTEST_MODEL = 4  # characters of a word that is searched for as a model number
# A word is a unit where this share of its uses follows a number, and at least so many do.
_UNIT_SHARE, _FEWEST_UNITS = 0.75, 10
# A qualifier is the value of such an attribute in 20 products, or of any in this share of them ("original").
_QUALIFIER_KEYS = re.compile("colou?r|material|finish|trait|audience|size")
_FEWEST_QUALIFIED, _QUALIFIER_SHARE = 20, 0.05
# Attributes that say what a product IS: their values are nouns, never qualifiers.
_TYPE_KEYS = ("product_type", "category")
_NOT_WORDS = frozenset({"true", "false", "yes", "no", "n", "y"})

# Within a phrase people keep letters, inner hyphens and apostrophes; anything else ends it.
_BREAK = re.compile(r"[^\w\s'&+.\-]|_|\s[-–—]\s|[\r\n]")
_WORD = re.compile(r"[^\W_]+(?:['&+.\-][^\W_]+)*")
_LIST = re.compile(r"\s*(?:,|&|/|\band\b)\s*")
# Words that neither begin nor end a phrase, in the languages of the sample.
_FUNCTION_WORDS = frozenset(
    word
    for line in (
        "a an and are at by for from has in is it its of on or per the this to with you your",
        "con de del el en es la las los para por un una y",
        "com da das do dos e em o os para por um uma",
        "au aux avec dans de des du en et la le les pour sur un une",
        "das dem der die ein eine für im in mit und von zum zur",
        "cm ft g kg m mm pc pcs s v w x",
    )
    for word in line.split()
)


class _Source(NamedTuple):
    """One product as the drawing sees it; every phrase in lower case."""

    phrases: list[str]  # of the title
    further: list[str]  # of the description's beginning
    categories: list[str]  # names of the leaf, then of its parent
    qualifiers: list[str]  # attribute values that many products share
    brand: str | None
    models: list[str]  # words of the title that mix letters and digits


def weak_pairs(products: pl.DataFrame, *, seed: int) -> pl.DataFrame:
    """Rows query, country, language, product_id, time (null), weak (true): up to QUERIES_PER_PRODUCT per product."""
    rows = list(products.iter_rows(named=True))
    qualifiers = _qualifiers(rows)
    units = _units(row["title"] for row in rows)
    sources = [_source(row, units, qualifiers) for row in rows]
    carried = Counter(phrase for source in sources for phrase in set(source.phrases))
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


def carriers(queries: Iterable[str], products: pl.DataFrame) -> Iterator[np.ndarray]:
    """For each query the rows (int64, rising) of the products whose title, brand or category has all of its words.

    A weak query was made of one product, but it wants them all; as negatives they would teach that a laptop is no
    "laptop".
    """
    rows_of: dict[str, list[int]] = {}
    for row, fields in enumerate(products.select("title", "brand", "category").iter_rows()):
        for word in {word for field in fields for word in _WORD.findall(str(field or "").lower())}:
            rows_of.setdefault(word, []).append(row)
    posted = {word: np.array(rows, dtype=np.int64) for word, rows in rows_of.items()}
    nowhere = np.array([], dtype=np.int64)
    for query in queries:
        postings = sorted((posted.get(word, nowhere) for word in set(_WORD.findall(query.lower()))), key=len)
        yield reduce(partial(np.intersect1d, assume_unique=True), postings) if postings else nowhere


def _qualifiers(rows: list[dict[str, object]]) -> frozenset[str]:
    """Plain words that many products carry as a whole attribute value: colours, materials, "original"."""
    counts = Counter(pair for row in rows for pair in set(_values(row)))
    share = _QUALIFIER_SHARE * len(rows)
    return frozenset(
        value
        for (key, value), count in counts.items()
        if count >= max(share, _FEWEST_QUALIFIED) or (count >= _FEWEST_QUALIFIED and _QUALIFIER_KEYS.search(key))
    )


def _values(row: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """(key, word) for attribute values that are plain words; a list of colours gives each."""
    attributes = row["attributes"] or {}
    assert isinstance(attributes, dict)  # noqa: S101 - PRODUCTS says so; for the type checker
    for key, text in attributes.items():
        if key not in _TYPE_KEYS:
            # A flag that is true says its own name: {"bluetooth": "true"}.
            parts = [key] if text == "true" else [part.strip().lower() for part in str(text).split(",")]
            yield from ((key, part) for part in parts if part.isalpha() and part not in _NOT_WORDS)


def _units(titles: Iterable[str]) -> frozenset[str]:
    """Words that mostly follow a number: "4 gb", "31000 pages"."""
    uses: Counter[str] = Counter()
    after_number: Counter[str] = Counter()
    for title in titles:
        words = [word.lower() for word in _WORD.findall(title)]
        uses.update(words)
        after_number.update(word for before, word in pairwise(words) if _is_number(before))
    return frozenset(
        word for word, count in after_number.items() if count > _UNIT_SHARE * uses[word] and count >= _FEWEST_UNITS
    )


def _is_number(word: str) -> bool:
    return word.replace(".", "").isdigit()


def _source(row: Mapping[str, object], units: frozenset[str], qualifiers: frozenset[str]) -> _Source:
    title = str(row["title"])
    brand = str(row["brand"]).lower() if row["brand"] else None
    description = " ".join(str(row["description"] or "").split()[:_DESCRIPTION_WORDS])
    phrases = list(_phrases(title, brand, units, qualifiers))
    words = {word.lower() for word in _WORD.findall(title)}
    return _Source(
        phrases=phrases,
        further=sorted(set(_phrases(description, brand, units, qualifiers)) - set(phrases)),
        categories=_categories(row["category"]),
        qualifiers=sorted({value for _, value in _values(row)} & qualifiers),
        brand=brand,
        models=sorted(word for word in words if _is_model(word)),
    )


def _categories(category: object) -> list[str]:
    """ "Shoes > Boots & Sandals" is searched for as boots, sandals and (last) shoes; a root says too little."""
    levels = str(category or "").lower().split(" > ")
    kept = levels[-1:] + (levels[-2:-1] if len(levels) > 2 else [])
    return [name for level in kept for name in _LIST.split(level) if name]


def _is_model(word: str) -> bool:
    has_digit, has_letter = any(c.isdigit() for c in word), any(c.isalpha() for c in word)
    return has_digit and has_letter and len(word) >= _SHORTEST_MODEL


def _phrases(text: str, brand: str | None, units: frozenset[str], qualifiers: frozenset[str]) -> Iterator[str]:
    """Phrases of one to three words without brand, numbers and units, ending in a word that can name a thing."""
    text = text.lower()
    if brand:
        text = re.sub(rf"(?<!\w){re.escape(brand)}(?!\w)", ",", text)
    for segment in _BREAK.split(text):
        # "usb 2.0 hub" is searched for as "usb hub".
        words = [w for w in _WORD.findall(segment) if w not in units and not any(c.isdigit() for c in w)]
        for part in _runs(words):
            if part[-1] not in qualifiers and not {part[0], part[-1]} & _FUNCTION_WORDS:
                yield " ".join(part)


def _runs(words: list[str]) -> Iterator[list[str]]:
    """Neighbouring words, and pairs with one or two words between: "wireless optical mouse" as "wireless mouse"."""
    for start in range(len(words)):
        for end in range(start + 1, min(start + _LONGEST_PHRASE, len(words)) + 1):
            yield words[start:end]
        for other in range(start + 2, min(start + 2 + _WIDEST_GAP, len(words))):
            if words[start] != words[other]:
                yield [words[start], words[other]]


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
    """Two words are the usual way to name a product; a phrase of many titles is likelier than one of few."""
    length_weights = (0.0, 1.0, 2.5, 1.2)
    return {
        phrase: length_weights[phrase.count(" ") + 1] * carried[phrase] ** 0.4
        for phrase in phrases
        if carried[phrase] >= _COMMON
    }


def _draw(source: _Source, nouns: dict[str, float], further: dict[str, float], dice: random.Random) -> str | None:
    """One query, or None where the product lacks what this way of asking needs."""
    noun = _noun(source, nouns, dice)
    way = dice.random()
    if way < 0.6:
        return noun
    if way < 0.72:
        return f"{source.brand} {noun}" if source.brand and noun else None
    if way < 0.8:
        return _qualified(source, noun, dice)
    if way < 0.92:
        return _pick(further, dice)
    if way < 0.96:
        return source.brand
    return dice.choice(source.models) if source.models else None


def _qualified(source: _Source, noun: str | None, dice: random.Random) -> str | None:
    """ "red" and "toner"; never "red toner red"."""
    if noun is None:
        return None
    left = [value for value in source.qualifiers if value not in noun.split()]
    return f"{dice.choice(left)} {noun}" if left else None


def _noun(source: _Source, nouns: dict[str, float], dice: random.Random) -> str | None:
    """What the product is: its category, or a phrase of its title."""
    if source.categories and (not nouns or dice.random() < 0.4):
        return source.categories[0] if dice.random() < 0.5 else dice.choice(source.categories)
    return _pick(nouns, dice)


def _pick(weights: dict[str, float], dice: random.Random) -> str | None:
    return dice.choices(list(weights), list(weights.values()))[0] if weights else None
