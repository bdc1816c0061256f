"""Titles, descriptions and the other columns of a product, written as people write them."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from models.data.schema import PRODUCTS
from models.data.synthetic.facts import NONE, Facts
from models.data.synthetic.images import ImageMaker
from models.data.synthetic.vocabulary import BRAND, FACETS, Vocabulary
from models.data.synthetic.wording import abbreviate, arrange, facet_word, misspell, pick, recase

LAST_DAY = datetime(2025, 3, 3, tzinfo=UTC)  # products are listed before it, events end at it

_VAGUE = 0.22  # titles that do not say what is sold: the photograph does
# How often a title names each of FACETS, and how often the description makes up for what it left out.
_IN_TITLE = (0.35, 0.6, 0.5, 0.7, 0.6, 0.7)
_IN_DESCRIPTION = 0.3
_WHOLE_UNITS = 10  # units for a dollar above which nobody writes decimals
_SENTENCES = ("name", *FACETS[:3], "brand", "size", "condition", "city", "closing")

Row = dict[str, Any]


def product_ids(first: int, count: int) -> list[str]:
    return [f"P{number:07d}" for number in range(first, first + count)]


def write_listings(
    vocabulary: Vocabulary, facts: Facts, *, first: int, images: ImageMaker, rng: np.random.Generator
) -> pa.Table:
    """The rows (PRODUCTS) of a chunk whose first product has the number `first`."""
    vectors = images.draw(facts, rng)
    dice = random.Random(int(rng.integers(2**62)))
    writer = _Writer(vocabulary, facts, dice)
    rows = [writer.row(number) for number in range(len(facts))]
    written = {
        field.name: pa.array([row[field.name] for row in rows], field.type)
        for field in PRODUCTS
        if field.name not in ("product_id", "image_vectors")
    }
    columns = written | {"product_id": product_ids(first, len(facts)), "image_vectors": vectors}
    return pa.table([columns[name] for name in PRODUCTS.names], schema=PRODUCTS)


class _Writer:
    """Writes one product after another; `dice` is the only source of chance."""

    def __init__(self, vocabulary: Vocabulary, facts: Facts, dice: random.Random) -> None:
        self._vocabulary = vocabulary
        self._facts = facts
        self._dice = dice
        self._facets = facts.facets.tolist()
        self._languages = vocabulary.languages

    def row(self, number: int) -> Row:
        facts, vocabulary, dice = self._facts, self._vocabulary, self._dice
        leaf = int(facts.leaf[number])
        country = vocabulary.countries[facts.country[number]]
        language = self._languages[facts.language[number]]
        brand = self._facets[number][BRAND]
        name = self._name(leaf, language, country.code)
        known = self._known(number, leaf, language)
        title, told = self._title(number, name, known, language)
        return {
            "title": title,
            "description": self._description(name, known, told, language, pick(country.cities, dice)),
            "brand": vocabulary.facet_keys[BRAND][brand] if brand != NONE and dice.random() < 0.8 else None,
            "category": vocabulary.leaves[leaf].path if dice.random() < 0.96 else None,
            "country": country.code,
            "language": language,
            "price": self._price(leaf, int(facts.condition[number]), country.rate),
            "currency": country.currency,
            "seller_id": f"S-{country.code}-{dice.randrange(4000)}",
            "created_at": LAST_DAY - timedelta(days=56, seconds=dice.randrange(180 * 86_400)),
            "attributes": self._attributes(number, leaf),
        }

    def _name(self, leaf: int, language: str, country: str) -> str:
        local = self._vocabulary.homonyms.get((country, leaf))
        if local and self._dice.random() < 0.35:
            return pick(local, self._dice)
        return pick(self._vocabulary.seller_names(leaf, language, country), self._dice)

    def _known(self, number: int, leaf: int, language: str) -> dict[str, str]:
        """The words for every fact of the product, now and then in English."""
        vocabulary, dice = self._vocabulary, self._dice
        words = {}
        for facet, value in enumerate(self._facets[number]):
            if value != NONE:
                written = "en" if dice.random() < 0.02 else language
                words[FACETS[facet]] = facet_word(vocabulary, leaf, facet, value, written, dice)
        words["condition"] = pick(vocabulary.conditions[self._facts.condition[number]][language], dice)
        return words

    def _title(self, number: int, name: str, known: dict[str, str], language: str) -> tuple[str, set[str]]:
        """The title, and which facts it tells."""
        vocabulary, dice = self._vocabulary, self._dice
        if dice.random() < _VAGUE:
            return recase(pick(vocabulary.vague_titles[language], dice), dice), set()
        told = {
            facet for facet, chance in zip(FACETS, _IN_TITLE, strict=True) if facet in known and dice.random() < chance
        }
        if dice.random() < 0.2:
            told.add("condition")
        parts = {part: word for part, word in known.items() if part in told} | {"name": name}
        title = arrange(parts, language, dice, shuffle=0.12)
        also = int(self._facts.also[number])
        if also != NONE:
            title += f" + {pick(vocabulary.leaves[also].names[language], dice)}"
        return self._disturb(title, language), told | {"name"}

    def _disturb(self, title: str, language: str) -> str:
        vocabulary, dice = self._vocabulary, self._dice
        if dice.random() < 0.12:
            title += f" {pick(['-', '!', '/', ','], dice)} {pick(vocabulary.title_extras[language], dice)}"
        if dice.random() < 0.12:
            title = abbreviate(title, vocabulary.abbreviations[language])
        if dice.random() < 0.08:
            title = misspell(title, dice)
        title = recase(title, dice)
        if dice.random() < 0.1:
            title = f"{pick(vocabulary.emoji, dice)} {title}"
        return title

    def _description(self, name: str, known: dict[str, str], told: set[str], language: str, city: str) -> str | None:
        dice = self._dice
        if dice.random() < 0.2:
            return None
        words = known | {"name": name, "city": city, "closing": ""}
        sentences = []
        for part in _SENTENCES:
            chance = 0.3 if part in told else _IN_DESCRIPTION
            if part in words and dice.random() < chance:
                form = pick(self._vocabulary.descriptions[language][part], dice)
                sentences.append(form.format(**{part: words[part]}))
        if dice.random() < 0.15:
            dice.shuffle(sentences)
        text = ("" if language == "ja" else " ").join(sentences)
        return (misspell(text, dice) if dice.random() < 0.1 else text) or None

    def _price(self, leaf: int, condition: int, rate: float) -> float:
        low, high = self._vocabulary.leaves[leaf].price
        dollars = low * (high / low) ** self._dice.betavariate(2, 3) * (1.0 - 0.15 * condition)
        return float(round(dollars * rate, 0 if rate > _WHOLE_UNITS else 2))

    def _attributes(self, number: int, leaf: int) -> list[tuple[str, str]] | None:
        """Some of the facts as English keys; many sellers fill in few or none of them."""
        found = [
            (FACETS[facet], facet_word(self._vocabulary, leaf, facet, value, "en", self._dice))
            for facet, value in enumerate(self._facets[number])
            if value != NONE and facet != BRAND and self._dice.random() < 0.5
        ]
        return found or None
