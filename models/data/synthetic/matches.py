"""Which products answer which query: the hidden truth, looked up leaf by leaf."""

import itertools
from dataclasses import dataclass
from typing import Self

import numpy as np

from models.data.synthetic.facts import NONE, Facts, Intent, Ints, rate
from models.data.synthetic.vocabulary import Vocabulary


class Truth:
    """Finds the products of an intent without looking at those of other categories."""

    def __init__(self, vocabulary: Vocabulary, facts: Facts) -> None:
        self._vocabulary = vocabulary
        self.facts = facts
        by_leaf = np.lexsort((-facts.attraction, facts.leaf))  # the most attractive first
        bounds = np.searchsorted(facts.leaf[by_leaf], np.arange(len(vocabulary.leaves) + 1))
        self._of_leaf = [by_leaf[a:b] for a, b in itertools.pairwise(bounds.tolist())]
        besides = np.flatnonzero(facts.also != NONE)
        self._besides = [besides[facts.also[besides] == n] for n in range(len(vocabulary.leaves))]

    def related(self, intent: Intent) -> tuple[Ints, Ints]:
        """The products of the wanted category, most attractive first, and their ratings."""
        products = np.concatenate([self._of_leaf[intent.leaf], self._besides[intent.leaf]])
        return products, rate(self._vocabulary, intent, self.facts, products)

    def rate(self, intent: Intent, products: Ints) -> Ints:
        return rate(self._vocabulary, intent, self.facts, products)


@dataclass(frozen=True)
class Ragged:
    """Lists of product numbers of unequal length, one per query."""

    flat: Ints
    starts: Ints  # (queries + 1,)

    @classmethod
    def of(cls, lists: list[Ints]) -> Self:
        lengths = [len(each) for each in lists]
        return cls(np.concatenate(lists), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def choose(self, rows: Ints, chance: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Ints:
        """One member of each of `rows` (NONE where it is empty); `chance` in [0, 1), low takes the first ones."""
        if not len(self.flat):
            return np.full(len(rows), NONE)
        lengths = self.starts[rows + 1] - self.starts[rows]
        position = self.starts[rows] + (lengths * chance).astype(np.int64)
        return np.where(lengths > 0, self.flat[np.minimum(position, len(self.flat) - 1)], NONE)
