"""Conditions to what a search may find among a generation's products and those that came after it."""

from typing import NamedTuple

import numpy as np

from index.ann import RowFilter
from index.conditions import Condition, Words
from index.filters import CACHED, Filters, Leaf, combined
from index.updates import Updates


class LiveRows(NamedTuple):
    """Which products may be found, until the next change is applied."""

    base: RowFilter  # living rows of the generation
    delta: np.ndarray | None  # (rows,) bool, living rows of the delta; None: nothing has changed
    allowed: int  # products, all together


class LiveFilters:
    """`index.filters.Filters` over both.

    Args:
        base: of the generation.
        updates: what became of it.
    """

    def __init__(self, base: Filters, updates: Updates) -> None:
        self._base = base
        self._updates = updates
        self._kept: dict[Condition, LiveRows] = {}

    def forget(self) -> None:
        """Changes were applied: what was worked out before them is stale."""
        self._kept.clear()

    def rows(self, condition: Condition) -> LiveRows:
        """The products that meet a condition. Raises FilterError as `check`."""
        rows = self._kept.get(condition)
        if rows is None:
            rows = self._rows(condition)
            if len(self._kept) == CACHED:
                self._kept.clear()
            self._kept[condition] = rows
        return rows

    def check(self, condition: Condition) -> None:
        """See `Filters.check`. A category is refused where neither side has it."""
        self._base.check(condition, elsewhere=self._updates.delta.columns.hold if self._updates.any else None)

    def _rows(self, condition: Condition) -> LiveRows:
        if not self._updates.any:
            base = self._base.rows(condition)
            return LiveRows(base, None, base.allowed)
        self.check(condition)
        delta, dead = self._updates.delta, self._updates.dead
        base = self._base.rows_of_checked(condition)
        if dead.count:
            base = base.among(dead.bits)
        met = combined(condition, self._leaf, everything=np.ones(len(delta), dtype=bool)) & delta.alive
        return LiveRows(base, met, base.allowed + int(np.count_nonzero(met)))

    def _leaf(self, condition: Leaf) -> np.ndarray:
        delta = self._updates.delta
        return delta.words.met_by(condition.text) if isinstance(condition, Words) else delta.columns.met_by(condition)
