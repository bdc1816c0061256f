"""Where a product is now: in its generation's row, in a row of the delta, or nowhere."""

import numpy as np

_GROWTH = 65_536  # product numbers that there is room for at least, beyond the highest known
_IN_BASE, _NOWHERE, _FIRST_ROW = 0, 1, 2  # what is kept for a number; a row of the delta is itself + _FIRST_ROW


class Places:
    """By product number, what changed since the generation.

    Args:
        numbers: room for the numbers below; more is made when one is put.
    """

    def __init__(self, numbers: int) -> None:
        self._places = np.zeros(numbers + _GROWTH, dtype=np.uint32)  # pages that no change touches take no memory

    def put(self, number: int, row: int | None) -> None:
        """The product is in this row of the delta; None: it is nowhere."""
        if number >= len(self._places):
            more = np.zeros(number + max(number, _GROWTH), dtype=np.uint32)
            more[: len(self._places)] = self._places
            self._places = more
        self._places[number] = _NOWHERE if row is None else row + _FIRST_ROW

    def unchanged(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) bool: whether nothing became of each product since the generation."""
        unchanged: np.ndarray = self._of(numbers) == _IN_BASE
        return unchanged

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) int64: each product's row in the delta; negative where it has none."""
        return self._of(numbers).astype(np.int64) - _FIRST_ROW

    def row(self, number: int) -> int | None:
        """A product's row in the delta; None where it has none."""
        place = int(self._places[number]) if number < len(self._places) else _IN_BASE
        return place - _FIRST_ROW if place >= _FIRST_ROW else None

    def _of(self, numbers: np.ndarray) -> np.ndarray:
        places: np.ndarray
        try:
            places = self._places[numbers]
        except IndexError:  # numbers that nothing was said about
            places = np.where(numbers < len(self._places), self._places.take(numbers, mode="clip"), _IN_BASE)
        return places
