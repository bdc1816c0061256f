"""What a search worker searches: an immutable generation, and in memory what became of its products since.

One thread searches and refreshes, in turn, so that no search sees half a change.
"""

from typing import NamedTuple, Protocol

import numpy as np

from index.generations import Generation
from index.live_filters import LiveFilters
from index.live_vectors import LiveVectors
from index.live_words import LiveWords
from index.log import Changes, LogEnd
from index.updates import Updates

_AT_MOST = 8  # changes in a refresh between searches, which wait for it: a third of a millisecond each
_FURTHER = 64  # entries behind the log's end for which it is one change more
_CATCHING_UP = 4_096  # while nobody waits
_SELLER = "seller"


class ChangeLog(Protocol):
    """What of `index.catalogue.Catalogue` a live index follows."""

    @property
    def last_transaction(self) -> int: ...

    def log_end(self) -> LogEnd: ...

    def changes(self, after: int, limit: int, *, release: str) -> Changes: ...


class Load(NamedTuple):
    """What a live index carries along beside its generation, until the next one is built."""

    delta: int  # rows in memory
    superseded: int  # of them, those that are dead
    tombstones: int  # dead rows of the generation


class LiveIndex:
    """Searches a generation and what was published or deleted after it, as far as `refresh` has read the log.

    Args:
        generation: opened.
        catalogue: whose log goes on where the generation ends.
    """

    def __init__(self, generation: Generation, catalogue: ChangeLog) -> None:
        self.generation = generation
        self.applied = generation.manifest.sequence  # of the last log entry that searches see
        self._catalogue = catalogue
        self._seen = -1  # the last transaction after which there was nothing new
        self._updates = Updates(generation)
        self.filters = LiveFilters(generation.filters, self._updates)
        self.vectors = LiveVectors(generation, self._updates)
        self.words = LiveWords(generation.lexical, self._updates)

    def refresh(self, limit: int | None = None) -> int:
        """Apply what the log says next; returns how many products changed.

        Between searches, by the thread that searches. Costs microseconds when there is nothing new.

        Args:
            limit: changes at most; None: one, and a few where that would not keep up.

        Raises:
            LogTrimmedError: the log begins later: a newer generation has to be opened.
            CatalogueError: a change does not fit the generation. What came before it is applied.
        """
        if self._catalogue.last_transaction == self._seen:
            return 0
        end = self._catalogue.log_end()
        if end.sequence == self.applied:
            self._seen = end.transaction  # not what was looked at first: that may not be visible yet
            return 0
        if limit is None:
            limit = min(_AT_MOST, 1 + (end.sequence - self.applied) // _FURTHER)
        changes = self._catalogue.changes(self.applied, limit, release=self.generation.manifest.release)
        for change in changes.entries:
            self._updates.apply(change)
        if changes.entries:
            self.filters.forget()
        self.applied = changes.upto
        return len(changes.entries)

    def prepare(self) -> None:
        """Make ready for changes, beside the thread that searches if need be: the first one would take too long."""
        self._updates.prepare()

    def catch_up(self) -> None:
        """Apply all that the log holds, and make ready for what comes; before the first search. Raises as `refresh`."""
        self.prepare()
        while self._catalogue.log_end().sequence > self.applied:
            self.refresh(_CATCHING_UP)

    @property
    def count(self) -> int:
        """Products that can be found."""
        return self._updates.count

    @property
    def load(self) -> Load:
        """What the next generation would relieve it of."""
        if not self._updates.any:
            return Load(0, 0, 0)
        delta = self._updates.delta
        return Load(len(delta), len(delta) - delta.count, self._updates.dead.count)

    def sellers_of(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) int64: a number for the seller of each product, also of one that is gone; -1 where none is known."""
        column = self.generation.columns.columns[_SELLER]
        rows = self._updates.base_rows(numbers)
        sellers = np.where(rows < 0, -1, column.ranks[rows].astype(np.int64))
        if self._updates.any:
            newer = self._updates.places.rows(numbers)
            sellers[newer >= 0] = self._updates.delta.columns.codes(_SELLER)[newer[newer >= 0]]
        return np.where(sellers == len(column.keys), -1, sellers)
