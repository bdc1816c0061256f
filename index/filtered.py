"""Nearest products among those that a filter allows: recall must hold whether a filter leaves half of them or ten.

The lists that a query is near to may hold few allowed products or none ("shoes", where only phones are allowed), so a
fixed nprobe loses them. What is done instead depends on how many are allowed:

    exact    few: all of them are compared
    post     nearly all: an ordinary search, whose list loses what is not allowed
    lists    else: the lists that promise the best allowed products, then those that can still hold better ones
"""

from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from index.ann import FaissIndex, Hits, RowFilter
from index.exact import ExactIndex
from index.lists import InvertedLists
from index.operating_points import OperatingPoint

Strategy = Literal["exact", "post", "lists"]

FEW = 4_096  # allowed products, at least, that are compared one by one: it takes about as long as probing
NEARLY_ALL = 0.9  # the share of allowed products from which an ordinary search is tried first
SPARE = 1.1  # times the candidates that such a filter leaves out on average
WIDER = 4  # times the lists that a search without a filter probes are probed first ...
LIKELY = 0.25  # ... then those whose best product should beat the tenth found by so many deviations
TENTH = 9
RESCORED = 300  # products at least are compared exactly: those of a filter that is about the query are much alike
PLENTY = 4  # times the candidates: so many allowed products the first lists must hold
MOST_CODES = 1 / 6  # of all codes: no more are scanned


class FilterUse(NamedTuple):
    """How a filter was applied."""

    strategy: Strategy
    allowed: int  # products that pass it
    nprobe: int | None  # lists probed; None: none were


class Narrowed(NamedTuple):
    """A list under a filter, and how it was found."""

    hits: Hits  # (1, at most candidates)
    use: FilterUse


class FilteredSearch:
    """Searches one index under filters. Safe to share between threads.

    Args:
        ann: the index.
        exact: exact search over the same rows.
    """

    def __init__(self, ann: FaissIndex, exact: ExactIndex) -> None:
        self._ann = ann
        self._exact = exact
        self._allowed: WeakKeyDictionary[RowFilter, np.ndarray] = WeakKeyDictionary()  # by list
        self._lists = None if ann.nlist is None else InvertedLists(ann, exact.vectors)

    def search(self, query: np.ndarray, point: OperatingPoint, only: RowFilter) -> Narrowed:
        """The list of an operating point among the rows that `only` allows.

        Args:
            query: (1, d) float32.
            point: its nprobe suits a search without a filter; probing starts from there.
            only: made for this index.

        Raises:
            SpecError: the query or the filter does not fit the index.
        """
        # Among more than these, the lists that may be probed hold enough to fill the list.
        few = max(FEW, point.candidates / MOST_CODES)
        if self._lists is None or point.nprobe is None or only.allowed <= few:
            hits = self._exact.search(query, candidates=point.candidates, only=only)
            return Narrowed(hits, FilterUse("exact", only.allowed, None))
        if only.share >= NEARLY_ALL:
            kept = self._post(query, point, only)
            if len(kept.numbers[0]) == point.candidates:
                return Narrowed(kept, FilterUse("post", only.allowed, point.nprobe))
        allowed = self._allowed_by_list(self._lists, only.origin or only)  # an estimate, which few dead rows leave good
        rows, nprobe = _probe(self._lists, self._ann.transformed(query), point, only, allowed)
        hits = self._exact.rescore(query, rows)
        best = Hits(hits.numbers[:, : point.candidates], hits.scores[:, : point.candidates])
        return Narrowed(best, FilterUse("lists", only.allowed, nprobe))

    def _allowed_by_list(self, lists: InvertedLists, only: RowFilter) -> np.ndarray:
        allowed = self._allowed.get(only)
        if allowed is None:
            allowed = self._allowed[only] = lists.allowed(only)
        return allowed

    def _post(self, query: np.ndarray, point: OperatingPoint, only: RowFilter) -> Hits:
        """Fewer than the candidates where the filter takes more of this query's neighbours than of all products."""
        spare = round(SPARE * point.candidates * (1 / only.share - 1))
        hits = self._ann.search(query, nprobe=point.nprobe, candidates=point.candidates + spare)
        found = hits.numbers[0] >= 0
        kept = np.flatnonzero(found)[only.allows(self._ann.rows_of(hits.numbers[0, found]))][: point.candidates]
        return Hits(hits.numbers[:, kept], hits.scores[:, kept])


def _probe(
    lists: InvertedLists, transformed: np.ndarray, point: OperatingPoint, only: RowFilter, allowed: np.ndarray
) -> tuple[np.ndarray, int]:
    """Rows, best first by their codes, and how many lists they are from."""
    near = lists.scores(transformed)  # (nlist,)
    order, expected = lists.promising(near, allowed)
    candidates = max(point.candidates, RESCORED)
    most = 1 + int(np.searchsorted(np.cumsum(lists.sizes[order]), MOST_CODES * only.count))
    enough = 1 + int(np.searchsorted(np.cumsum(allowed[order]), PLENTY * point.candidates))
    first = min(most, max(enough, WIDER * (point.nprobe or 1)))
    found = lists.scan(transformed, order[:first], near[order[:first]], candidates=candidates, only=only)
    # The worse the best so far, the more of the lists behind can still hold better ones.
    floor = LIKELY * lists.deviation + (found.scores[TENTH] if len(found.scores) > TENTH else -np.inf)
    more = order[first : min(most, int(np.searchsorted(-expected, -floor)))]
    if len(more):
        found = found.merged(lists.scan(transformed, more, near[more], candidates=candidates, only=only))
    return found.rows[:candidates], first + len(more)
