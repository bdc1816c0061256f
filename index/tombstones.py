"""Rows of a generation whose products were deleted or written again since it was built: no search may find them."""

import math

import numpy as np

from index.ann import RowFilter


class Tombstones:
    """Which rows are dead. An index cannot forget a row, so searches ask for more and drop the dead ones.

    Args:
        rows: of the generation.
    """

    def __init__(self, rows: int) -> None:
        self.alive = np.ones(rows, dtype=bool)
        self.bits = np.packbits(self.alive, bitorder="little")  # the same, as `RowFilter` has it
        self.count = 0  # dead rows
        self._living: RowFilter | None = None

    def bury(self, row: int) -> None:
        """The row is dead from now on; once is enough."""
        if self.alive[row]:
            self.alive[row] = False
            self.bits[row >> 3] &= 0xFF ^ (1 << (row & 7))
            self.count += 1
            self._living = None

    def spare(self, wanted: int) -> int:
        """How many rows beyond `wanted` to ask for, so that hardly any search comes short by the dead ones.

        Their expected number and three deviations, as if rows died at random.
        """
        expected = wanted * self.count / max(1, len(self.alive) - self.count)
        return min(self.count, math.ceil(expected + 3 * math.sqrt(expected)))

    def living(self) -> RowFilter:
        """The other rows, as a filter; it serves until the next row dies."""
        if self._living is None:
            self._living = RowFilter(self.bits, count=len(self.alive))
        return self._living
