"""The words of the products that came after a generation, scored as if its statistics were theirs.

How rare a term is, and how long texts are, is what the generation counted, until the next one is built: so a product's
score does not change by what is written around it, and scores of either side compare.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from index.bm25 import frequency
from index.growing import Growing
from index.lexical import LexicalIndex, Wanted, Word
from index.sums import Posting, Sums
from index.words import GAP, asked

_GAP_ID = 0


class DeltaWords:
    """Terms to rows, in memory. Rows are numbered as they come, and never leave.

    Args:
        lexical: the words of the generation.
        alive: (rows,) bool, which rows are still somebody's.
    """

    def __init__(self, lexical: LexicalIndex, alive: Growing) -> None:
        self._lexical = lexical
        self._alive = alive
        self._terms: dict[str, _Term] = {}
        self._stream = array("I")  # the ids of all texts' terms, a gap behind each text
        self._starts = [0]  # (rows + 1,) where each row's texts begin in it
        self._sums = Sums(0)

    def append(self, texts: Sequence[Sequence[str]]) -> None:
        """Add a product's row, given by the terms of its texts."""
        row = len(self._starts) - 1
        scores: dict[_Term, float] = {}
        for field, terms in enumerate(texts):
            relative = len(terms) / self._lexical.lengths[field]
            known = {word: self._term(word) for word in terms if word != GAP}
            for word, times in Counter(terms).items():
                if word != GAP:
                    score = known[word].rarities[field] * frequency(times, relative)
                    scores[known[word]] = max(score, scores.get(known[word], 0.0))
            self._stream.extend([_GAP_ID if word == GAP else known[word].id for word in terms])
            self._stream.append(_GAP_ID)
        for term, score in scores.items():
            term.rows.append(row)
            term.scores.append(score)
        self._starts.append(len(self._stream))

    def holds(self, word: str) -> bool:
        """Whether a product holds it now."""
        term = self._terms.get(word)
        return term is not None and bool(self._alive.rows[np.array(term.rows)].any())

    def best(
        self, wanted: Wanted, *, k: int, allowed: np.ndarray, numbers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows and scores of the best k, as `LexicalIndex.best` scores and orders them.

        Args:
            wanted: what the query asks for.
            k: at least 1.
            allowed: (rows,) bool, which rows may be found.
            numbers: (rows,) int64, the product number of each.
        """
        if len(self._sums) < len(allowed):
            self._sums = Sums(2 * len(allowed))
        for phrase in wanted.phrases:
            allowed = allowed & self._mask(self._rows_with_phrase(phrase))
        return self._sums.best(list(self._lists(wanted.words)), k=k, allowed=allowed, numbers=numbers)

    def scores_of(self, wanted: Wanted, rows: np.ndarray) -> np.ndarray:
        """(r,) float32: the score of each of the (r,) rows, 0 where `best` would not find it."""
        scores = np.zeros(len(rows), dtype=np.float32)
        for posting in self._lists(wanted.words):
            scores += posting.scores_of(rows)
        for phrase in wanted.phrases:
            scores[~self._mask(self._rows_with_phrase(phrase))[rows]] = 0
        return scores

    def met_by(self, text: str) -> np.ndarray:
        """(rows,) bool: the rows that hold every word of the text, as it is spelt, and its phrases."""
        terms, phrases = asked(text)
        if not terms:
            return np.zeros(len(self._starts) - 1, dtype=bool)
        met = [self._mask(self._posting(term).rows) for term in terms]
        met += [self._mask(self._rows_with_phrase(phrase)) for phrase in phrases]
        mask: np.ndarray = np.logical_and.reduce(met)
        return mask

    def _lists(self, words: Sequence[Word]) -> Iterator[Posting]:
        for word in words:
            posting = self._posting(word.word)
            if len(posting.rows):
                yield posting if word.weight == 1 else posting.times(word.weight)

    def _posting(self, word: str) -> Posting:
        term = self._terms.get(word)
        if term is None:
            return Posting(np.empty(0, np.uint32), np.empty(0, np.float32), 0.0)
        scores = np.array(term.scores)
        return Posting(np.array(term.rows), scores, float(scores.max()))  # copies: an array cannot grow under a view

    def _term(self, word: str) -> "_Term":
        term = self._terms.get(word)
        if term is None:
            term = self._terms[word] = _Term(1 + len(self._terms), self._lexical.rarities(word))
        return term

    def _rows_with_phrase(self, phrase: Sequence[str]) -> list[int]:
        terms = [self._terms.get(word) for word in phrase]
        known = [term for term in terms if term is not None]
        if len(known) < len(terms):
            return []
        rows = set.intersection(*(set(term.rows) for term in known))
        ids = array("I", [term.id for term in known])
        return [row for row in rows if _within(ids, self._stream[self._starts[row] : self._starts[row + 1]])]

    def _mask(self, rows: Any) -> np.ndarray:
        mask = np.zeros(len(self._starts) - 1, dtype=bool)
        mask[rows] = True
        return mask


class _Term:
    """One term: what it is worth in each text, and which rows hold it, with their scores."""

    __slots__ = ("id", "rarities", "rows", "scores")

    def __init__(self, number: int, rarities: tuple[float, ...]) -> None:
        self.id = number
        self.rarities = rarities
        self.rows = array("I")
        self.scores = array("f")


def _within(part: "array[int]", whole: "array[int]") -> bool:
    return any(whole[at : at + len(part)] == part for at in range(len(whole) - len(part) + 1))
