"""Searches by brute force, in plain Python over the records: what the pipeline must answer at effort `exact`."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from index.generations import Generation
from models.runtime import Release

Record = Mapping[str, Any]
Scores = dict[int, float]  # by product number
CONSTANT, WEIGHT = 60, 0.5  # of an untuned fusion


class Filter(NamedTuple):
    """A condition in the filter language, and the same as a function."""

    text: str
    holds: Callable[[Record], bool]


@dataclass(frozen=True, kw_only=True)
class Legs:
    """What looks for hits: fields of a request, and what they mean."""

    vector: bool = False
    lexical: bool = False
    both: bool = False
    radius: float = -1.0
    fields: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None  # what `filter` says


class Reference:
    """Every list, by looking at every product.

    Args:
        release: embeds products and queries.
        generation: gives BM25 scores, product by product.
        records: product n at place n.
    """

    def __init__(self, release: Release, generation: Generation, records: Sequence[Record]) -> None:
        self._release = release
        self._lexical = generation.lexical
        self._records = records
        self._vectors = release.embed_products(records).astype(np.float64)

    def cosines(self, query: str, country: str | None) -> Scores:
        embedded = self._release.query_tower.embed(self._release.featurizer.query(query, country))
        return dict(enumerate((self._vectors * embedded).sum(axis=1).astype(np.float32).tolist()))

    def bm25(self, query: str) -> Scores:
        scores = self._lexical.scores(query, np.arange(len(self._records))).tolist()
        return {number: score for number, score in enumerate(scores) if score > 0}

    def hits(self, query: str, country: str | None, legs: Legs, holds: Callable[[Record], bool]) -> Scores:
        """All of a walk's hits, best first."""
        cosines = {n: score for n, score in self.cosines(query, country).items() if score >= legs.radius}
        by_leg = [cosines] * legs.vector + [self.bm25(query)] * legs.lexical
        lists = [ranked({n: score for n, score in leg.items() if holds(self._records[n])}) for leg in by_leg]
        if len(lists) == 1:
            return lists[0]
        if legs.both:
            common = lists[0].keys() & lists[1].keys()
            lists = [{n: score for n, score in leg.items() if n in common} for leg in lists]
        return fused(lists)

    def capped(self, hits: Scores, most: int | None) -> Scores:
        """Without what comes after a seller's first few."""
        seen: Counter[str] = Counter()
        kept = {}
        for number, score in hits.items():
            seller = self._records[number]["seller_id"]
            if most is None or seller is None or seen[seller] < most:
                kept[number] = score
                seen[seller] += 1
        return kept


def ranked(scores: Scores) -> Scores:
    """Highest first, equal ones in the order of numbers."""
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))


def fused(lists: Sequence[Scores]) -> Scores:
    """Reciprocal rank fusion, in the precision of answers."""
    sums: defaultdict[int, float] = defaultdict(float)
    for listed in lists:
        for rank, number in enumerate(listed, start=1):
            sums[number] += WEIGHT / (CONSTANT + rank)
    return ranked({number: float(np.float32(score)) for number, score in sums.items()})
