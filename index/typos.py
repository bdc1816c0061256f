"""Misspelt words: for a word that no product holds, the held words that differ by one edit, or by two if it is long.

An edit adds, drops or changes a letter, or swaps two neighbours. Only words of letters are compared (a typo in a model
number is another model), and only those with the same first letter, which people rarely get wrong.
"""

from collections.abc import Iterable

import numpy as np
from rapidfuzz.distance import OSA

_ONE_EDIT, _TWO_EDITS = 4, 8  # letters of the word, at least
_MOST = 2  # corrections of a word


class Spelling:
    """The words of a generation, compared by their letters first and by counting edits only where those agree.

    Args:
        words: (v,) UTF-8 bytes, ascending.
        letters: (v,) uint64, from `letter_sets`.
        held: (v,) int, products that hold each.
    """

    def __init__(self, words: np.ndarray, letters: np.ndarray, held: np.ndarray) -> None:
        self._words = words
        self._letters = letters
        self._held = held

    def corrections(self, word: str) -> dict[str, int]:
        """The held words nearest to a word that is not held, the frequent ones first, with their edits."""
        limit = _edits_allowed(word)
        if limit == 0:
            return {}
        first = word[0].encode()
        same = slice(*self._words.searchsorted([first, first + b"\xff"]))  # no UTF-8 byte is 0xff
        mine, others = _letter_set(word), self._letters[same]
        # Each edit takes one letter away at most, and brings in one at most.
        near = (np.bitwise_count(mine & ~others) <= limit) & (np.bitwise_count(others & ~mine) <= limit)
        edits: dict[int, int] = {}
        for at in same.start + np.flatnonzero(near):
            other = self._words[at].decode()
            if other.isalpha() and (found := OSA.distance(word, other, score_cutoff=limit)) <= limit:
                edits[int(at)] = found
        least = min(edits.values(), default=0)
        nearest = sorted((at for at in edits if edits[at] == least), key=lambda at: (-self._held[at], at))
        return {self._words[at].decode(): least for at in nearest[:_MOST]}


def letter_sets(words: Iterable[str]) -> np.ndarray:
    """(v,) uint64: per word the set of its letters as bits; letters 64 code points apart share one."""
    return np.fromiter(map(_letter_set, words), dtype=np.uint64)


def _edits_allowed(word: str) -> int:
    if not word.isalpha():
        return 0
    return (len(word) >= _ONE_EDIT) + (len(word) >= _TWO_EDITS)


def _letter_set(word: str) -> np.uint64:
    letters = 0
    for letter in word:
        letters |= 1 << (ord(letter) & 63)
    return np.uint64(letters)
