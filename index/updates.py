"""What became of a generation's products since it was built: the rows that died, and those that came."""

from functools import cached_property

import numpy as np

from index.delta import Delta
from index.generations import Generation
from index.log import Change
from index.places import Places
from index.tombstones import Tombstones


class Updates:
    """The state that searches of a live index share. Changed between searches only, by the thread that searches.

    A generation that nothing was published after needs none of its parts, so they are made when the first change comes,
    or by `prepare`.

    Args:
        generation: never changed itself.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self.any = False  # whether anything changed

    @cached_property
    def delta(self) -> Delta:
        """The products that came."""
        return Delta(self._generation)

    @cached_property
    def dead(self) -> Tombstones:
        """The generation's rows that died."""
        return Tombstones(self._generation.manifest.count)

    @cached_property
    def places(self) -> Places:
        """Where each product is now."""
        return Places(int(self._generation.numbers[-1]) + 1)

    def prepare(self) -> None:
        """Make all parts now: grouping the generation's centroids takes longer than a search may wait."""
        _ = self.delta, self.dead, self.places

    def apply(self, change: Change) -> None:
        """A product was published or deleted. Raises CatalogueError as `Delta.append`, and nothing is applied."""
        row = None
        if change.product is not None and change.vector is not None:
            row = self.delta.append(change.number, change.product, change.vector)
        before = self.places.row(change.number)
        if before is not None:
            self.delta.bury(before)
        base = self.base_row(change.number)
        if base is not None:
            self.dead.bury(base)
        self.places.put(change.number, row)
        self.any = True

    def base_row(self, number: int) -> int | None:
        """A product's row in the generation, dead or alive; None where it has none."""
        numbers = self._generation.numbers
        row = int(numbers.searchsorted(np.uint32(number)))  # of the array's own type: else all of it is converted
        return row if row < len(numbers) and numbers[row] == number else None

    def base_rows(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) int64: each product's row in the generation, dead or alive; -1 where it has none."""
        known = self._generation.numbers
        rows = np.minimum(self._generation.ann.rows_of(numbers), len(known) - 1)
        return np.where(known[rows] == numbers, rows, -1).astype(np.int64)

    @property
    def count(self) -> int:
        """Products that can be found."""
        count = self._generation.manifest.count
        return count - self.dead.count + self.delta.count if self.any else count
