"""The words of the synthetic marketplace, read from the TOML tables beside this file."""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

Words = Mapping[str, tuple[str, ...]]  # language -> the forms people use

FACETS = ("colour", "material", "trait", "audience", "size", "brand")
COLOUR, MATERIAL, TRAIT, AUDIENCE, SIZE, BRAND = range(len(FACETS))


@dataclass(frozen=True)
class Country:
    code: str
    language: str  # of most listings and queries
    others: tuple[str, ...]  # languages also written there
    market: str  # products are sold within it; some markets span two countries
    currency: str
    rate: float  # units of the currency for one US dollar
    cities: tuple[str, ...]
    weight: float


@dataclass(frozen=True)
class Leaf:
    """A leaf category: what it is called, and which facet values its products can have."""

    key: str
    path: str
    kind: str
    names: Words  # what sellers write
    synonyms: Words  # what some searchers write instead
    price: tuple[float, float]  # lowest and highest usual, US dollars
    sizes: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]  # per facet: the possible value numbers

    @property
    def parent(self) -> str:
        return self.path.rsplit(" > ", 1)[0]


@dataclass(frozen=True)
class Vocabulary:
    """Every table; values, leaves and countries are referred to by their position."""

    countries: tuple[Country, ...]
    leaves: tuple[Leaf, ...]
    colours: tuple[str, ...]
    near_colours: tuple[int, ...]  # per colour, the shade a buyer would still accept
    facet_keys: tuple[tuple[str, ...], ...]  # per facet, the English key of each value
    facet_words: tuple[tuple[Words, ...], ...]  # per facet, per value; sizes and brands are empty
    conditions: tuple[Words, ...]
    homonyms: Mapping[tuple[str, int], tuple[str, ...]]  # (country, leaf) -> words that mean it there
    foreign: Mapping[tuple[str, int], frozenset[str]]  # (country, leaf) -> words that mean another leaf there
    title_extras: Words
    vague_titles: Words
    query_extras: Words
    emoji: tuple[str, ...]
    abbreviations: Mapping[str, Mapping[str, str]]
    descriptions: Mapping[str, Mapping[str, tuple[str, ...]]]

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(country.language for country in self.countries))

    def seller_names(self, leaf: int, language: str, country: str) -> tuple[str, ...]:
        """What a seller of that country calls it: never a word that means something else there."""
        names = self.leaves[leaf].names[language]
        banned = self.foreign.get((country, leaf), frozenset())
        return tuple(name for name in names if name.lower() not in banned) or names

    def synonyms(self, leaf: int, language: str, country: str) -> tuple[str, ...]:
        words = self.leaves[leaf].synonyms[language]
        banned = self.foreign.get((country, leaf), frozenset())
        return tuple(word for word in words if word.lower() not in banned) or words


@functools.cache
def load_vocabulary() -> Vocabulary:
    categories, facets, phrases = _table("categories"), _table("facets"), _table("phrases")
    brands = tuple(dict.fromkeys(brand for kind in facets["kinds"].values() for brand in kind["brands"]))
    keys = (
        tuple(facets["colours"]),
        tuple(facets["materials"]),
        tuple(facets["traits"]),
        tuple(facets["audiences"]),
        (),  # sizes are numbered within a leaf
        brands,
    )
    leaves = tuple(_leaf(key, entry, facets, keys) for key, entry in categories.items())
    numbers = {leaf.key: number for number, leaf in enumerate(leaves)}
    homonyms, foreign = _homonyms(_table("homonyms"), numbers)
    return Vocabulary(
        countries=tuple(_country(code, entry) for code, entry in phrases["countries"].items()),
        leaves=leaves,
        colours=keys[COLOUR],
        near_colours=tuple(keys[COLOUR].index(entry["near"]) for entry in facets["colours"].values()),
        facet_keys=keys,
        facet_words=(
            *(_value_words(facets[table]) for table in ("colours", "materials", "traits", "audiences")),
            (),
            (),
        ),
        conditions=tuple(_words(entry) for entry in facets["conditions"].values()),
        homonyms=homonyms,
        foreign=foreign,
        title_extras=_words(phrases["title_extras"]),
        vague_titles=_words(phrases["vague_titles"]),
        query_extras=_words(phrases["query_extras"]),
        emoji=tuple(phrases["emoji"]["any"]),
        abbreviations=phrases["abbreviations"],
        descriptions={lang: _words(entry) for lang, entry in phrases["descriptions"].items()},
    )


def _table(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files(__package__) / f"{name}.toml").read_text(encoding="utf-8"))


def _words(entry: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(forms) for key, forms in entry.items()}


def _value_words(table: Mapping[str, dict[str, Any]]) -> tuple[Words, ...]:
    languages = [{lang: forms for lang, forms in entry.items() if lang != "near"} for entry in table.values()]
    return tuple(_words(entry) for entry in languages)


def _country(code: str, entry: dict[str, Any]) -> Country:
    listed = {"others": tuple(entry["others"]), "cities": tuple(entry["cities"])}
    return Country(code=code, **{**entry, **listed})


def _leaf(key: str, entry: dict[str, str], facets: dict[str, Any], keys: tuple[tuple[str, ...], ...]) -> Leaf:
    kind = facets["kinds"][entry["kind"]]
    sizes = tuple(facets["sizes"].get(entry.get("sizes", kind.get("sizes")), ()))
    sides = {lang: text.split("|") for lang, text in entry.items() if "|" in text}
    return Leaf(
        key=key,
        path=entry["path"],
        kind=entry["kind"],
        names={lang: _split(seller) for lang, (seller, _) in sides.items()},
        synonyms={lang: _split(searcher) for lang, (_, searcher) in sides.items()},
        price=(kind["price"][0], kind["price"][1]),
        sizes=sizes,
        values=(
            tuple(range(len(keys[COLOUR]))),
            tuple(keys[MATERIAL].index(value) for value in kind["materials"]),
            tuple(keys[TRAIT].index(value) for value in kind["traits"]),
            tuple(range(len(keys[AUDIENCE]))) if kind.get("audience") else (),
            tuple(range(len(sizes))),
            tuple(keys[BRAND].index(value) for value in kind["brands"]),
        ),
    )


def _split(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(","))


def _homonyms(
    table: dict[str, dict[str, str]], numbers: Mapping[str, int]
) -> tuple[dict[tuple[str, int], tuple[str, ...]], dict[tuple[str, int], frozenset[str]]]:
    own: dict[tuple[str, int], tuple[str, ...]] = {}
    foreign: dict[tuple[str, int], frozenset[str]] = {}
    for word, meanings in table.items():
        for country, key in meanings.items():
            own[country, numbers[key]] = (*own.get((country, numbers[key]), ()), word)
            for leaf in numbers.values():
                if leaf != numbers[key]:
                    foreign[country, leaf] = foreign.get((country, leaf), frozenset()) | {word}
    return own, foreign
