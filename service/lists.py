"""The list that pages are cut from: by vectors, by words, or by both, among the products that the filter allows."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from index.ann import Ranked, ranked
from index.filtered import FilterUse
from index.live import LiveIndex
from index.operating_points import OperatingPoint
from service.clock import Clock
from service.constraints import Constraints
from service.schemas import LEXICAL, VECTOR
from service.watch import Watch


class Asked(NamedTuple):
    """One query, ready to be searched at any effort."""

    text: str
    vectors: np.ndarray  # (1, d) float32; (0, d) where only words are looked for
    constraints: Constraints


class Listed(NamedTuple):
    """The list of one effort, and what it was made of."""

    hits: Ranked  # scores: cosine, BM25 or fused, by mode
    point: OperatingPoint  # the effective one
    total: int  # products that can match at all, as far as is known
    vector: Ranked | None = None  # the leg's own list
    lexical: Ranked | None = None
    use: FilterUse | None = None  # how the filter met the vectors


class Lists:
    """Makes lists from a generation and what changed since. Shared by all requests.

    Args:
        live: what is searched.
    """

    def __init__(self, live: LiveIndex) -> None:
        self._live = live
        self._watch: Watch | None = None

    def watch(self, watch: Watch | None) -> None:
        """Offer every list of vectors alone to `watch` from now on (None: to nobody)."""
        self._watch = watch

    def close(self) -> None:
        """Leave the watch."""
        if self._watch is not None:
            self._watch.close()

    def at(self, point: OperatingPoint, asked: Asked, clock: Clock) -> Listed:
        """The list of an operating point; `clock` gets the time of its stages."""
        point = _effective(point, asked.constraints)
        if asked.constraints.mode == LEXICAL:
            lexical = self._by_words(point, asked)
            clock.lap("lexical")
            found = len(lexical.numbers)
            return Listed(lexical, point, found if found < point.candidates else self._total(asked), lexical=lexical)
        vector, use = self._by_vectors(point, asked)
        if use is not None:  # a filter decides how many lists are probed, from the point's number on
            point = replace(point, nprobe=use.nprobe)
        clock.lap("ann")
        if asked.constraints.mode == VECTOR:
            return Listed(vector, point, self._total(asked), vector=vector, use=use)
        lexical = self._by_words(point, asked)
        clock.lap("lexical")
        vector, fused = self._fused(vector, lexical, point, asked)
        clock.lap("rank")
        return Listed(fused, point, self._total(asked), vector, lexical, use)

    def _total(self, asked: Asked) -> int:
        only = asked.constraints.only
        return self._live.count if only is None else only.allowed

    def _by_vectors(self, point: OperatingPoint, asked: Asked) -> tuple[Ranked, FilterUse | None]:
        only, use = asked.constraints.only, None
        if only is not None:
            hits, use = self._live.vectors.search_among(asked.vectors, point, only)
        else:
            hits, base = self._live.vectors.search(asked.vectors, point)
            if self._watch is not None:
                self._watch.offer(asked.vectors, base, effort=point.effort)
        return ranked(hits, min_score=point.min_score), use

    def _by_words(self, point: OperatingPoint, asked: Asked) -> Ranked:
        found = self._live.words.search(asked.text, k=point.candidates, only=asked.constraints.only)
        return Ranked(found.numbers, found.scores)

    def _fused(self, vector: Ranked, lexical: Ranked, point: OperatingPoint, asked: Asked) -> tuple[Ranked, Ranked]:
        """The vectors' list, joined by what words have found, and the list of both legs."""
        vector = self._live.vectors.joined_by_words(asked.vectors, vector, lexical.numbers, min_score=point.min_score)
        if asked.constraints.both:
            shares_words = self._live.words.scores(asked.text, vector.numbers) > 0
            vector = _kept(vector, shares_words)
            lexical = _kept(lexical, np.isin(lexical.numbers, vector.numbers))
        return vector, self._live.generation.operating_points.fusion.fuse(vector.numbers, lexical.numbers)


def _kept(hits: Ranked, keep: np.ndarray) -> Ranked:
    return Ranked(hits.numbers[keep], hits.scores[keep])


def _effective(point: OperatingPoint, constraints: Constraints) -> OperatingPoint:
    """The point with what the request overrides."""
    if constraints.mode == LEXICAL:
        return replace(point, nprobe=None, min_score=None)
    if constraints.min_score is not None:
        point = replace(point, min_score=constraints.min_score)
    if constraints.nprobe is not None and point.nprobe is not None:
        point = replace(point, nprobe=constraints.nprobe)
    return point
