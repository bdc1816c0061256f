"""The best rows by the sum of several lists of scores, exactly, without adding up what cannot win.

The shortest lists, which are the rare terms with the highest scores, come first. Once k rows have more than the lists
left can give together, no new row can win, and those lists are only looked up for the rows that still can: a word like
"with" is in a sixth of the products and decides nothing.
"""

import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_WORTH_A_LOOK = 4  # pairs left per row found: below that, adding them up costs less than finding out who can win


class Posting(NamedTuple):
    """One list: the rows that hold a term."""

    rows: np.ndarray  # (p,) uint32, ascending
    scores: np.ndarray  # (p,) float32, above 0
    best: float  # the highest of the scores; 0 where nothing holds the term

    def times(self, weight: float) -> "Posting":
        """The same rows at another weight."""
        return Posting(self.rows, self.scores * np.float32(weight), self.best * weight)

    def among(self, allowed: np.ndarray) -> "Posting":
        """Only the rows that are True in a (n,) bool mask."""
        kept = allowed[self.rows]
        return Posting(self.rows[kept], self.scores[kept], self.best)

    def scores_of(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows),) float32: the score of each row, 0 where it is not in the list."""
        if not len(self.rows):
            return np.zeros(len(rows), dtype=np.float32)
        at = self.rows.searchsorted(rows)
        at[at == len(self.rows)] = 0
        return np.where(self.rows[at] == rows, self.scores[at], np.float32(0))


class Sums(threading.local):
    """One float per row and thread, zero between searches.

    Args:
        rows: rows of the index.
    """

    def __init__(self, rows: int) -> None:
        self._sums = np.zeros(rows, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._sums)

    def best(
        self, lists: Sequence[Posting], *, k: int, allowed: np.ndarray | None = None, numbers: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows and float32 sums of the best k, equal sums in the order of rows or of their numbers.

        Args:
            lists: at least 1 score each, added up as they come; a row in none of them is not found.
            k: at least 1.
            allowed: (n,) bool, the rows that may be found; None: all.
            numbers: (n,) of the rows, where these are in another order; None: they are not.
        """
        if len(lists) == 1:  # nothing to add up
            only = lists[0] if allowed is None else lists[0].among(allowed)
            return _top(only.rows, only.scores, k=k, numbers=numbers)
        found = [np.empty(0, dtype=np.uint32)]  # every row once
        count, left = 0, sum(len(posting.rows) for posting in lists)
        for done, posting in enumerate(lists, start=1):
            found.append(self._add(posting if allowed is None else posting.among(allowed)))
            count += len(found[-1])
            left -= len(posting.rows)
            if count >= k and left > _WORTH_A_LOOK * count and self._decided(found, lists[done:], k=k):
                return _top(*_finished(*self._taken(found), lists[done:], k=k), k=k, numbers=numbers)
        return _top(*self._taken(found), k=k, numbers=numbers)

    def _add(self, posting: Posting) -> np.ndarray:
        """Add a list; returns the rows that had nothing before."""
        before: np.ndarray = self._sums[posting.rows]
        self._sums[posting.rows] = before + posting.scores
        new: np.ndarray = posting.rows[before == 0]
        return new

    def _decided(self, found: list[np.ndarray], left: Sequence[Posting], *, k: int) -> bool:
        """Whether k rows have more than a row that is only in the lists left can get."""
        return bool(_kth(self._sums[np.concatenate(found)], k) > _with_best(np.zeros(1, np.float32), left)[0])

    def _taken(self, found: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        rows = np.concatenate(found)
        sums = self._sums[rows]
        self._sums[rows] = 0
        return rows, sums


def _finished(rows: np.ndarray, sums: np.ndarray, left: Sequence[Posting], *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that can still be among the best k, with the lists left looked up for them."""
    # Rounded sums grow with their parts, so this bound holds to the last bit.
    can_win = np.flatnonzero(_with_best(sums, left) >= _kth(sums, k))
    rows, sums = rows[can_win], sums[can_win]
    for posting in left:
        sums += posting.scores_of(rows)
    return rows, sums


def _with_best(sums: np.ndarray, left: Sequence[Posting]) -> np.ndarray:
    for posting in left:
        sums = sums + np.float32(posting.best)
    return sums


def _kth(sums: np.ndarray, k: int) -> float:
    """The k-th highest."""
    return float(np.partition(sums, len(sums) - k)[len(sums) - k])


def _top(rows: np.ndarray, sums: np.ndarray, *, k: int, numbers: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    if len(rows) > k:
        kept = np.flatnonzero(sums >= _kth(sums, k))
        rows, sums = rows[kept], sums[kept]
    order = np.lexsort((rows if numbers is None else numbers[rows], -sums))[:k]
    return rows[order], sums[order]
