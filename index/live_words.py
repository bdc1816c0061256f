"""Words over a generation's products and those that came after it, scored by the generation's statistics on both sides.

A query's word is a typo where neither side holds it, and is then taken for words of the generation: one that only newer
products hold becomes a correction with the next generation.
"""

from collections.abc import Callable

import numpy as np

from index.ann import RowFilter
from index.lexical import LexicalHits, LexicalIndex, Wanted
from index.live_filters import LiveRows
from index.updates import Updates


class LiveWords:
    """`index.lexical.LexicalIndex` over both.

    Args:
        base: of the generation.
        updates: what became of it.
    """

    def __init__(self, base: LexicalIndex, updates: Updates) -> None:
        self._base = base
        self._updates = updates

    def search(self, query: str, *, k: int, only: LiveRows | None = None) -> LexicalHits:
        """See `LexicalIndex.search`."""
        if not self._updates.any:
            return self._base.search(query, k=k, only=None if only is None else only.base)
        delta = self._updates.delta
        wanted = self._base.wanted(query, elsewhere=delta.words.holds)
        base = self._living(wanted, k) if only is None else self._base.best(wanted, k=k, only=only.base)
        allowed = delta.alive if only is None or only.delta is None else only.delta
        rows, scores = delta.words.best(wanted, k=k, allowed=allowed, numbers=delta.numbers)
        numbers = np.concatenate([base.numbers, delta.numbers[rows]])
        scores = np.concatenate([base.scores, scores])
        best = np.lexsort((numbers, -scores))[:k]
        return LexicalHits(numbers[best], scores[best])

    def scores(self, query: str, numbers: np.ndarray) -> np.ndarray:
        """See `LexicalIndex.scores`; for (n,) product numbers that a search found."""
        if not self._updates.any:
            return self._base.scores(query, numbers)
        wanted = self._base.wanted(query, elsewhere=self._elsewhere)
        scores = self._base.scores_of(wanted, numbers)
        rows = self._updates.places.rows(numbers)
        newer = rows >= 0
        scores[newer] = self._updates.delta.words.scores_of(wanted, rows[newer])
        return scores

    def corrections(self, query: str) -> dict[str, list[str]]:
        """See `LexicalIndex.corrections`."""
        return self._base.corrections(query, elsewhere=self._elsewhere)

    @property
    def _elsewhere(self) -> Callable[[str], bool] | None:
        return self._updates.delta.words.holds if self._updates.any else None

    def _living(self, wanted: Wanted, k: int) -> LexicalHits:
        """The generation's best k that are alive."""
        dead = self._updates.dead
        asked = k + dead.spare(k)
        hits = self._base.best(wanted, k=asked)
        kept = np.flatnonzero(self._updates.places.unchanged(hits.numbers))[:k]
        if len(kept) < k and len(hits.numbers) == asked:  # more may follow
            living: RowFilter = dead.living()
            return self._base.best(wanted, k=k, only=living)
        return LexicalHits(hits.numbers[kept], hits.scores[kept])
