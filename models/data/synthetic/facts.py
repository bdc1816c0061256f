"""The hidden truth: what every product is, what a searcher wants, and how well the two agree."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.data.synthetic.vocabulary import AUDIENCE, COLOUR, FACETS, SIZE, Vocabulary

Ints = NDArray[np.int64]
NONE = -1  # a product without the fact; a searcher who does not ask for it

# How often a product has each of FACETS at all.
_PRESENT = (0.95, 0.85, 0.75, 0.85, 0.85, 0.75)
_SECOND_ITEM = 0.04  # listings that sell something else besides


@dataclass(frozen=True)
class Facts:
    """n products; `facets` is (n, 6) value numbers in the order of FACETS, NONE where there is none."""

    leaf: Ints
    facets: Ints
    condition: Ints
    country: Ints
    language: Ints
    also: Ints  # leaf of a second item in the same listing, or NONE
    attraction: NDArray[np.float64]  # the higher, the more searchers choose it

    def __len__(self) -> int:
        return len(self.leaf)

    @classmethod
    def concatenate(cls, chunks: list[Self]) -> Self:
        return cls(**{name: np.concatenate([getattr(c, name) for c in chunks]) for name in cls.__annotations__})


def draw_facts(vocabulary: Vocabulary, count: int, rng: np.random.Generator) -> Facts:
    """`count` products: popular categories more often, every facet from what its category allows."""
    leaf = rng.choice(len(vocabulary.leaves), count, p=leaf_shares(vocabulary))
    weights = np.array([country.weight for country in vocabulary.countries])
    country = rng.choice(len(weights), count, p=weights / weights.sum())
    return Facts(
        leaf=leaf,
        facets=np.stack([_draw_facet(vocabulary, leaf, facet, rng) for facet in range(len(FACETS))], axis=1),
        condition=rng.choice(len(vocabulary.conditions), count, p=[0.3, 0.25, 0.25, 0.15, 0.05]),
        country=country,
        language=_draw_languages(vocabulary, country, rng),
        also=np.where(rng.random(count) < _SECOND_ITEM, rng.integers(len(vocabulary.leaves), size=count), NONE),
        attraction=rng.random(count),
    )


def leaf_shares(vocabulary: Vocabulary) -> NDArray[np.float64]:
    """A gentle Zipf law over the leaves, in an order that mixes the branches of the tree."""
    count = len(vocabulary.leaves)
    rank = np.random.default_rng(0).permutation(count)
    weights = (rank + 10.0) ** -0.6
    return np.asarray(weights / weights.sum())


def _draw_facet(vocabulary: Vocabulary, leaf: Ints, facet: int, rng: np.random.Generator) -> Ints:
    widest = max(len(each.values[facet]) for each in vocabulary.leaves)
    table = np.full((len(vocabulary.leaves), widest), NONE)
    for number, each in enumerate(vocabulary.leaves):
        table[number, : len(each.values[facet])] = each.values[facet]
    sizes = (table != NONE).sum(axis=1)[leaf]
    # A power above 1 makes the first values (black, cotton, ...) the common ones.
    position = (sizes * rng.random(len(leaf)) ** 1.4).astype(np.int64)
    present = (rng.random(len(leaf)) < _PRESENT[facet]) & (sizes > 0)
    return np.where(present, table[leaf, position], NONE)


def _draw_languages(vocabulary: Vocabulary, country: Ints, rng: np.random.Generator) -> Ints:
    languages = vocabulary.languages
    usual = np.array([languages.index(c.language) for c in vocabulary.countries])[country]
    other = np.array([languages.index(c.others[0]) for c in vocabulary.countries])[country]
    return np.where(rng.random(len(country)) < 0.88, usual, other)


def markets(vocabulary: Vocabulary) -> Ints:
    """The number of the market of each country."""
    names = list(dict.fromkeys(country.market for country in vocabulary.countries))
    return np.array([names.index(country.market) for country in vocabulary.countries])


@dataclass(frozen=True)
class Intent:
    """What one searcher wants: a leaf, and NONE or a value for each of FACETS."""

    leaf: int
    facets: tuple[int, ...]
    country: int


def rate(vocabulary: Vocabulary, intent: Intent, facts: Facts, products: Ints) -> Ints:
    """Ratings 0-3 of `products` (numbers into `facts`) for the intent.

    3: the category and every facet asked for. 2: one facet is off by a shade or a size, or the wanted
    category comes along in a listing of two items. 1: the category, but another colour, brand, type, ..., or
    sold in a market that does not deliver to the searcher. 0: anything else.
    """
    wanted = np.array(intent.facets)
    asked = wanted != NONE
    have = facts.facets[products]
    misses = asked & (have != wanted)
    close = misses & _close(vocabulary, wanted, have)
    missed = misses.sum(axis=1)

    rating = np.where(missed == 0, 3, 1)
    rating = np.where((missed == 1) & (close.sum(axis=1) == 1), 2, rating)
    along = (facts.leaf[products] != intent.leaf) & (facts.also[products] == intent.leaf)
    rating = np.where(along, 1 if asked.any() else 2, rating)
    sold_here = markets(vocabulary)[facts.country[products]] == markets(vocabulary)[intent.country]
    rating = np.where(sold_here, rating, np.minimum(rating, 1))
    return np.where((facts.leaf[products] == intent.leaf) | along, rating, 0)


def _close(vocabulary: Vocabulary, wanted: Ints, have: Ints) -> NDArray[np.bool_]:
    close = np.zeros(have.shape, dtype=bool)
    if wanted[COLOUR] != NONE:
        close[:, COLOUR] = have[:, COLOUR] == vocabulary.near_colours[wanted[COLOUR]]
    close[:, SIZE] = (have[:, SIZE] != NONE) & (np.abs(have[:, SIZE] - wanted[SIZE]) == 1)
    close[:, AUDIENCE] = have[:, AUDIENCE] == NONE  # for anyone
    return close
