"""The pool of queries: what searchers want, and the words they type for it."""

import math
import random
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.synthetic.facts import NONE, Facts, Intent
from models.data.synthetic.vocabulary import FACETS, Country, Vocabulary
from models.data.synthetic.wording import arrange, facet_word, misspell, pick

LONGEST = 8  # words
# Share of each way to ask. `lexical` uses the sellers' own words in the main language of the country.
KINDS = {"lexical": 0.58, "synonym": 0.1, "cross_lingual": 0.2, "misspelt": 0.06, "homonym": 0.06}
_FACET_COUNTS = (0.08, 0.4, 0.36, 0.16)  # searchers who ask for 0, 1, 2, 3 facets
_FACET_WEIGHTS = (3.0, 2.0, 2.2, 1.5, 1.0, 1.8)  # in the order of FACETS
_ZIPF_EXPONENT, _ZIPF_OFFSET = 0.8, 20.0
_LARGEST_POOL = 100_000  # so that a million products take bounded time and memory


@dataclass(frozen=True)
class Query:
    text: str
    kind: str  # one of KINDS
    language: str
    intent: Intent


@dataclass(frozen=True)
class QueryPool:
    """Queries from the most to the least frequent; `shares` (n,) sums to 1."""

    queries: list[Query]
    shares: NDArray[np.float64]


def draw_pool(vocabulary: Vocabulary, facts: Facts, rng: np.random.Generator) -> QueryPool:
    """Distinct queries, each with a product in mind, so none is without an answer."""
    size = min(len(facts), _LARGEST_POOL)
    searcher = _Searcher(vocabulary, facts, random.Random(int(rng.integers(2**62))))
    times: Counter[tuple[int, str]] = Counter()
    found: dict[tuple[int, str], Query] = {}
    for _ in range(size):
        query = searcher.query()
        key = query.intent.country, query.text.lower()
        found.setdefault(key, query)
        times[key] += 1
    rarity = {key: _rarity(query, times[key], searcher.dice) for key, query in found.items()}
    queries = [found[key] for key in sorted(found, key=rarity.__getitem__)]
    weights = (np.arange(len(queries)) + _ZIPF_OFFSET) ** -_ZIPF_EXPONENT
    return QueryPool(queries, weights / weights.sum())


def _rarity(query: Query, times: int, dice: random.Random) -> float:
    """Low for the head: what comes to many minds, in few words."""
    asked = sum(value != NONE for value in query.intent.facets)
    words = max(len(query.text.split()), 1 + asked)  # Japanese writes several as one
    return words + 2.5 * dice.random() - 1.2 * math.log2(times)


class _Searcher:
    """Takes a product and asks for it, as one of its market would."""

    def __init__(self, vocabulary: Vocabulary, facts: Facts, dice: random.Random) -> None:
        self.dice = dice
        self._vocabulary = vocabulary
        self._facts = facts
        self._local = self._products_with_local_names()

    def query(self) -> Query:
        kind = self.dice.choices(list(KINDS), list(KINDS.values()))[0]
        product = self._product(kind)
        country_number = self._country(kind, product)
        country = self._vocabulary.countries[country_number]
        language = pick(country.others, self.dice) if kind == "cross_lingual" else country.language
        leaf = int(self._facts.leaf[product])
        asked = self._asked(product, most=1 if kind == "homonym" else 3)
        intent = Intent(leaf, asked, country_number)
        return Query(self._text(kind, intent, language, country), kind, language, intent)

    def _products_with_local_names(self) -> list[int]:
        """Numbers of the products that their country calls by a homonym."""
        named = {
            (number, leaf)
            for number, country in enumerate(self._vocabulary.countries)
            for code, leaf in self._vocabulary.homonyms
            if code == country.code
        }
        places = zip(self._facts.country.tolist(), self._facts.leaf.tolist(), strict=True)
        return [product for product, place in enumerate(places) if place in named]

    def _product(self, kind: str) -> int:
        if kind == "homonym" and self._local:
            return self.dice.choice(self._local)
        return self.dice.randrange(len(self._facts))

    def _country(self, kind: str, product: int) -> int:
        home = int(self._facts.country[product])
        countries = self._vocabulary.countries
        neighbours = [n for n, each in enumerate(countries) if each.market == countries[home].market]
        return home if kind == "homonym" or self.dice.random() < 0.6 else self.dice.choice(neighbours)

    def _asked(self, product: int, *, most: int) -> tuple[int, ...]:
        known = self._facts.facets[product].tolist()
        asked = [NONE] * len(FACETS)
        count = self.dice.choices(range(len(_FACET_COUNTS)), _FACET_COUNTS)[0]
        for _ in range(min(count, most)):
            facet = self.dice.choices(range(len(FACETS)), _FACET_WEIGHTS)[0]
            asked[facet] = known[facet]
        return tuple(asked)

    def _text(self, kind: str, intent: Intent, language: str, country: Country) -> str:
        dice = self.dice
        parts = {
            FACETS[facet]: facet_word(self._vocabulary, intent.leaf, facet, value, language, dice)
            for facet, value in enumerate(intent.facets)
            if value != NONE
        }
        parts["name"] = self._name(kind, intent.leaf, language, country.code)
        text = arrange(parts, language, dice, shuffle=0.15)
        if dice.random() < 0.15:
            text = f"{text} {pick(self._vocabulary.query_extras[language], dice)}"
        if kind == "misspelt":
            text = misspell(text, dice)
        if len(text.split()) > LONGEST:
            text = " ".join(text.split()[:LONGEST])
        return text if dice.random() < 0.2 else text.lower()

    def _name(self, kind: str, leaf: int, language: str, country: str) -> str:
        vocabulary = self._vocabulary
        if kind == "homonym" and (country, leaf) in vocabulary.homonyms:
            return pick(vocabulary.homonyms[country, leaf], self.dice)
        if kind == "synonym":
            return pick(vocabulary.synonyms(leaf, language, country), self.dice)
        return pick(vocabulary.seller_names(leaf, language, country), self.dice)
