"""One search, straight down: featurise, query_tower, ann, products."""

from typing import NamedTuple

import numpy as np

from index.ann import Ranked, ranked
from index.catalogue import Catalogue
from index.cursor import CursorCodec
from index.generations import Generation
from index.operating_points import EFFORTS, OperatingPoint
from index.paging import Page, first_page, later_page
from models.runtime import Release
from service.admission import Admitted
from service.clock import Clock
from service.effort import Budget, EffortPolicy
from service.errors import DeadlineError
from service.schemas import SearchRequest
from service.walk import Walk, Walks
from service.watch import Watch


class Found(NamedTuple):
    """What the index gave for one page."""

    page: Page
    point: OperatingPoint  # the effective one, of the list that the page is cut from
    degraded: bool
    shown: np.ndarray  # product numbers of page 1
    continue_with: str  # the effort whose list the next page slices


class Answer(NamedTuple):
    """A page, ready to be written out."""

    query: str
    page: int
    hits: list[bytes]  # JSON objects
    cursor: str | None
    point: OperatingPoint
    min_score: float | None
    degraded: bool
    release: str
    generation: int
    query_truncated: bool


class Pipeline:
    """Everything a search needs, loaded and never changed by one.

    Args:
        release: turns the query into a vector.
        generation: finds product numbers.
        catalogue: turns them into products.
        max_effort: the operator's limit.
        timeout_ms: deadline of a request that names none, and the longest that one may name.
    """

    def __init__(
        self, *, release: Release, generation: Generation, catalogue: Catalogue, max_effort: str, timeout_ms: float
    ) -> None:
        self.release = release
        self.generation = generation
        self._catalogue = catalogue
        self._timeout_ms = timeout_ms
        self._watch: Watch | None = None
        self._policy = EffortPolicy(generation.operating_points, limit=max_effort)
        codec = CursorCodec(catalogue.cursor_key())
        self._walks = Walks(codec=codec, policy=self._policy, release=release.id)

    def budget(self, request: SearchRequest, *, clock: Clock, admitted: Admitted) -> Budget:
        """What a request may spend: its deadline counts from its arrival, the waiting before pick-up included.

        Raises:
            DeadlineError: the deadline has passed.
        """
        timeout_ms = min(request.timeout_ms or self._timeout_ms, self._timeout_ms)
        arrived_ns = clock.started_ns - admitted.waited_us * 1e3
        budget = Budget(arrived_ns + timeout_ms * 1e6, admitted.overloaded)
        if budget.remaining_us() <= 0:
            raise DeadlineError(f"the deadline of {timeout_ms:g} ms passed before the search began")
        return budget

    def search(self, request: SearchRequest, *, clock: Clock, budget: Budget) -> Answer:
        """Answer one checked request; `clock` gets the time of every stage.

        Raises:
            InvalidFieldError: the cursor is not of this request, or the effort is above the limit.
            CursorExpiredError: the cursor is of another release.
            DeadlineError: nothing fits what is left of the deadline.
        """
        walk = self._walks.start(request)
        clock.start_stage()
        features = self.release.featurizer.query(request.q, request.country)
        clock.lap("featurise")
        vectors = self.release.query_tower.embed(features)  # (1, d)
        clock.lap("query_tower")
        found = self._find(vectors, walk, request, budget)
        clock.lap("ann")
        hits = self._hits(found.page)
        clock.lap("products")
        shown = tuple(found.shown.tolist())
        return Answer(
            query=request.q,
            page=walk.page,
            hits=hits,
            cursor=self._walks.cursor(walk, effort=found.continue_with, shown=shown, position=found.page.next_position),
            point=found.point,
            min_score=_radius(request, found.point),
            degraded=found.degraded,
            release=self.release.id,
            generation=self.generation.number,
            query_truncated=features.truncated,
        )

    def watch(self, watch: Watch | None) -> None:
        """Offer every list to `watch` from now on (None: to nobody): what the warm-up searches is no live query."""
        self._watch = watch

    def close(self) -> None:
        """Give the catalogue's file back, and leave the watch."""
        if self._watch is not None:
            self._watch.close()
        self._catalogue.close()

    def _find(self, vectors: np.ndarray, walk: Walk, request: SearchRequest, budget: Budget) -> Found:
        if walk.position is None:
            return self._find_first(vectors, walk, request, budget)
        if walk.shown is not None:
            point = self._policy.affordable(walk.later, budget)
            later = self._list(vectors, point, request)
            return _cut(later, walk, np.array(walk.shown, np.int64), point, request.size)
        return self._find_by_number(vectors, walk, request, budget)

    def _find_first(self, vectors: np.ndarray, walk: Walk, request: SearchRequest, budget: Budget) -> Found:
        point = self._policy.affordable(walk.plan.first, budget)
        page = first_page(
            self._list(vectors, point, request),
            size=request.size,
            same_list=point.effort == walk.later,
            total=self.generation.manifest.count,
        )
        degraded = point.effort != walk.plan.first
        return Found(page, point, degraded, page.numbers, walk.later)

    def _find_by_number(self, vectors: np.ndarray, walk: Walk, request: SearchRequest, budget: Budget) -> Found:
        """A later page without a cursor: what page 1 shows has to be searched again, unless both share one list."""
        first_point = point = self._policy.affordable(walk.plan.first, budget)
        first = later = self._list(vectors, first_point, request)
        if walk.later != walk.plan.first:
            point = self._policy.affordable(walk.later, budget)
            later = self._list(vectors, point, request)
        found = _cut(later, walk, first.numbers[: request.size], point, request.size)
        return found._replace(degraded=found.degraded or first_point.effort != walk.plan.first)

    def _list(self, vectors: np.ndarray, point: OperatingPoint, request: SearchRequest) -> Ranked:
        hits = self.generation.search(vectors, point)
        if self._watch is not None:
            self._watch.offer(vectors, hits, effort=point.effort)
        return ranked(hits, min_score=_radius(request, point))

    def _hits(self, page: Page) -> list[bytes]:
        """Each product's stored JSON members behind its score: nothing is parsed or encoded again."""
        fragments = self._catalogue.fragments(page.numbers.tolist())
        scores = page.scores.tolist()
        return [b'{"score":%.6f,%b}' % hit for hit in zip(scores, fragments, strict=True)]


def _radius(request: SearchRequest, point: OperatingPoint) -> float | None:
    return point.min_score if request.min_score is None else request.min_score


def _cut(later: Ranked, walk: Walk, shown: np.ndarray, point: OperatingPoint, size: int) -> Found:
    """The page at the walk's position. A lowered effort stays lowered: the next page goes on with the same list."""
    page = later_page(later, shown=shown, position=walk.position or 0, size=size)
    degraded = EFFORTS.index(point.effort) < EFFORTS.index(walk.plan.later)
    return Found(page, point, degraded, shown, point.effort)
