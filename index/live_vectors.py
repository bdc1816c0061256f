"""Nearest products among those of a generation that are still what they were, and those that came after it."""

from typing import NamedTuple

import numpy as np

from index.ann import AnnIndex, Hits, Ranked, ranked
from index.filtered import FEW, Narrowed
from index.filtered import WIDER as WIDER_FILTERED
from index.generations import Generation
from index.hybrid import joined
from index.live_filters import LiveRows
from index.operating_points import OperatingPoint
from index.updates import Updates


class LiveHits(NamedTuple):
    """A list without a filter."""

    hits: Hits  # (1, at most candidates)
    base: Hits  # what the generation's index found for it, dead rows too: what its recall is measured by


class LiveVectors:
    """The searches by vector of `index.generations.Generation`, over both, one query at a time.

    Args:
        generation: the one.
        updates: what became of it.
    """

    def __init__(self, generation: Generation, updates: Updates) -> None:
        self._base = generation
        self._updates = updates

    def search(self, query: np.ndarray, point: OperatingPoint) -> LiveHits:
        """The list of an operating point; query is (1, d) float32. See `Generation.search`."""
        if not self._updates.any:
            hits = self._base.search(query, point)
            return LiveHits(hits, hits)
        found, living = self._living(query, point)
        delta = self._updates.delta
        near = delta.vectors.near(query, nprobe=point.nprobe, least=_least(living, point.candidates))
        alive = delta.alive[near.rows]
        fresh = Ranked(delta.numbers[near.rows[alive]], near.scores[alive])
        return LiveHits(_merged(living, fresh, most=point.candidates), found)

    def search_among(self, query: np.ndarray, point: OperatingPoint, only: LiveRows) -> Narrowed:
        """The list of an operating point among some products. See `FilteredSearch.search`."""
        hits, use = self._base.filtered.search(query, point, only.base)
        if only.delta is None:
            return Narrowed(hits, use)
        living = ranked(hits)
        fresh = self._allowed(query, point, only.delta, least=_least(living, point.candidates))
        return Narrowed(_merged(living, fresh, most=point.candidates), use._replace(allowed=only.allowed))

    def rescore(self, query: np.ndarray, numbers: np.ndarray) -> Hits:
        """All of the given products, which searches found, as a list of (1, n)."""
        if not self._updates.any:
            return self._base.exact.rescore(query, self._base.ann.rows_of(numbers))
        rows = self._updates.places.rows(numbers)
        newer = rows >= 0
        base = self._base.exact.rescore(query, self._base.ann.rows_of(numbers[~newer]))
        near = self._updates.delta.vectors.among(np.ascontiguousarray(query), rows[newer])
        return _merged(ranked(base), Ranked(numbers[newer], near.scores), most=len(numbers))

    def joined_by_words(
        self, query: np.ndarray, vector: Ranked, lexical: np.ndarray, *, min_score: float | None
    ) -> Ranked:
        """See `Generation.joined_by_words`."""
        return joined(vector, ranked(self.rescore(query, lexical), min_score=min_score))

    def _living(self, query: np.ndarray, point: OperatingPoint) -> tuple[Hits, Ranked]:
        """What the generation found, and its best candidates that are alive."""
        dead = self._updates.dead
        ann: AnnIndex = self._base.exact if point.effort == "exact" else self._base.ann
        asked = point.candidates + dead.spare(point.candidates)
        hits = ann.search(query, nprobe=point.nprobe, candidates=asked)
        found = ranked(hits)
        kept = self._updates.places.unchanged(found.numbers).nonzero()[0][: point.candidates]
        if len(kept) < point.candidates and len(found.numbers) == asked:  # more may follow
            narrowed = ann.search(query, nprobe=point.nprobe, candidates=point.candidates, only=dead.living())
            return hits, ranked(narrowed)
        return hits, Ranked(found.numbers[kept], found.scores[kept])

    def _allowed(self, query: np.ndarray, point: OperatingPoint, allowed: np.ndarray, *, least: float) -> Ranked:
        """The delta's allowed rows that score `least` or more: all of them where they are few."""
        delta = self._updates.delta
        rows = np.flatnonzero(allowed)
        if len(rows) <= FEW:
            near = delta.vectors.among(np.ascontiguousarray(query), rows, least=least)
        else:
            nprobe = None if point.nprobe is None else WIDER_FILTERED * point.nprobe
            near = delta.vectors.near(query, nprobe=nprobe, least=least)
            passed = allowed[near.rows]
            near = near._replace(rows=near.rows[passed], scores=near.scores[passed])
        return Ranked(delta.numbers[near.rows], near.scores)


def _least(hits: Ranked, candidates: int) -> float:
    """The score below which nothing joins a list of so many candidates."""
    return float(hits.scores[-1]) if len(hits.scores) == candidates else -np.inf


def _merged(base: Ranked, fresh: Ranked, *, most: int) -> Hits:
    """The best of both as a list of (1, at most `most`); `base` is sorted."""
    if not len(fresh.numbers):
        return Hits(base.numbers[None, :most], base.scores[None, :most])
    numbers = np.concatenate([base.numbers, fresh.numbers])
    scores = np.concatenate([base.scores, fresh.scores])
    best = (-scores).argsort(kind="stable")  # quick, since most of it is in order
    falling = scores[best]
    if (falling[1:] == falling[:-1]).any():
        best = np.lexsort((numbers, -scores))
    return Hits(numbers[best[:most]][None], falling[:most][None])
