"""From queries to vectors; those of queries that were asked before are kept (Que2Search section 5, Fig. 5)."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from time import monotonic
from typing import NamedTuple

import numpy as np

from models.runtime import Release
from service.clock import Clock
from service.schemas import SearchRequest

Key = tuple[str, str | None]  # a query and its country


class Embedded(NamedTuple):
    """What the query tower made of one query."""

    vectors: np.ndarray  # (1, d) float32, read-only
    truncated: bool  # the query had more tokens than the model reads
    known: bool | None = None  # kept from an earlier search; None: nothing is kept


class QueryVectors:
    """A bounded cache over one release: the least recently used goes first, and none outlives its time.

    Args:
        most: vectors that are kept.
        seconds: how long one is kept.
        now: the clock, in seconds.
    """

    def __init__(self, *, most: int, seconds: float, now: Callable[[], float] = monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._now = now
        self._kept: OrderedDict[Key, tuple[float, Embedded]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Embedded | None:
        """What was kept of a query and is still fresh."""
        with self._lock:
            made, embedded = self._kept.get(key, (0.0, None))
            if embedded is None:
                return None
            if self._now() - made >= self._seconds:
                del self._kept[key]
                return None
            self._kept.move_to_end(key)
            return embedded

    def keep(self, key: Key, embedded: Embedded) -> None:
        """Keep what nobody may change from now on."""
        embedded.vectors.flags.writeable = False
        with self._lock:
            self._kept[key] = (self._now(), embedded._replace(known=True))
            self._kept.move_to_end(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)


class QueryEmbedder:
    """Runs the featuriser and the query tower, for queries whose vectors are not kept.

    Args:
        release: whose tower.
        kept: the vectors of earlier queries; None: each query is embedded again.
    """

    def __init__(self, release: Release, *, kept: QueryVectors | None) -> None:
        self._release = release
        self._kept = kept

    def one(self, request: SearchRequest, clock: Clock) -> Embedded:
        """One query's vector; `clock` gets the time of the two stages, where they are gone through."""
        key = (request.q, request.country)
        known = None if self._kept is None else self._kept.get(key)
        if known is not None:
            return known
        features = self._release.featurizer.query(*key)
        clock.lap("featurise")
        vectors = self._release.query_tower.embed(features)  # (1, d)
        clock.lap("query_tower")
        return self._new(key, vectors, truncated=features.truncated[0])

    def all(self, requests: Sequence[SearchRequest]) -> list[Embedded]:
        """Each query's vector; those that are not kept by one run of the tower, which costs far less than many."""
        keys = [(request.q, request.country) for request in requests]
        found = {key: known for key in keys if self._kept is not None and (known := self._kept.get(key))}
        lacking = [key for key in dict.fromkeys(keys) if key not in found]
        if lacking:
            texts, countries = zip(*lacking, strict=True)
            features = self._release.featurizer.queries(texts, countries)
            vectors = self._release.query_tower.embed(features)  # (n, d)
            for key, vector, truncated in zip(lacking, vectors, features.truncated, strict=True):
                found[key] = self._new(key, vector[None].copy(), truncated=truncated)
        return [found[key] for key in keys]

    def _new(self, key: Key, vectors: np.ndarray, *, truncated: bool) -> Embedded:
        if self._kept is None:
            return Embedded(vectors, truncated)
        embedded = Embedded(vectors, truncated, known=False)
        self._kept.keep(key, embedded)
        return embedded
