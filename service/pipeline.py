"""One search, straight down: filter, featurise, query_tower, ann, lexical, rank, products; each where it is needed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from index.catalogue import Catalogue
from index.cursor import CursorCodec
from index.generations import Generation
from index.live import LiveIndex
from index.operating_points import EFFORTS, OperatingPoint
from index.paging import Page, first_page, later_page
from models.runtime import Release
from service.admission import Admitted
from service.clock import Clock
from service.constraints import Constraints, constraints_of
from service.diversity import SellerCap
from service.effort import Budget, EffortPolicy
from service.errors import DeadlineError
from service.explain import Explained, explain
from service.lists import Asked, Listed, Lists
from service.query_vectors import Embedded, QueryEmbedder, QueryVectors
from service.schemas import LEXICAL, Explanation, FilterMember, SearchRequest
from service.walk import Walk, Walks
from service.watch import Watch


class Found(NamedTuple):
    """What the index gave for one page."""

    page: Page
    listed: Listed  # the list that the page is cut from
    degraded: bool
    shown: np.ndarray  # product numbers of page 1
    continue_with: str  # the effort whose list the next page slices


class Answer(NamedTuple):
    """A page, ready to be written out."""

    query: str
    page: int
    hits: list[bytes]  # JSON objects
    cursor: str | None
    mode: str
    point: OperatingPoint
    filter: FilterMember | None
    per_seller: int | None
    degraded: bool
    release: str
    generation: int
    query_truncated: bool
    query_known: bool | None  # its vector was found among those of earlier queries; None: none was looked for
    explanation: Explanation | None


class Pipeline:
    """Everything a search needs, loaded and never changed by one.

    Args:
        release: turns the query into a vector.
        generation: finds product numbers.
        catalogue: turns them into products, and says what changed since the generation.
        max_effort: the operator's limit.
        timeout_ms: deadline of a request that names none, and the longest that one may name.
        query_vectors: keeps the vectors of queries; None: none is kept.
    """

    def __init__(
        self,
        *,
        release: Release,
        generation: Generation,
        catalogue: Catalogue,
        max_effort: str,
        timeout_ms: float,
        query_vectors: QueryVectors | None = None,
    ) -> None:
        self.release = release
        self.generation = generation
        self.live = LiveIndex(generation, catalogue)
        self.catalogue = catalogue
        self.query_vectors = query_vectors
        self._timeout_ms = timeout_ms
        self._embedder = QueryEmbedder(release, kept=query_vectors)
        self._lists = Lists(self.live)
        self._sellers = SellerCap(self.live)
        self._policy = EffortPolicy(generation.operating_points, limit=max_effort)
        self._no_vectors = np.empty((0, generation.manifest.dim), dtype=np.float32)
        self._most_nprobe = self._policy.most_nprobe()
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

    def embed(self, requests: Sequence[SearchRequest]) -> list[Embedded]:
        """The vectors of a batch: see `QueryEmbedder.all`."""
        return self._embedder.all(requests)

    def search(
        self, request: SearchRequest, *, clock: Clock, budget: Budget, embedded: Embedded | None = None
    ) -> Answer:
        """Answer one checked request; `clock` gets the time of every stage.

        Args:
            request: what is searched.
            clock: started when the request was picked up.
            budget: what it may spend.
            embedded: its query, where that was embedded before.

        Raises:
            InvalidFieldError: the cursor is not of this request, the effort is above the limit, or a filter makes no
                sense.
            CursorExpiredError: the cursor is of another release.
            DeadlineError: nothing fits what is left of the deadline.
        """
        walk = self._walks.start(request)
        clock.start_stage()
        constraints = constraints_of(request, self.live.filters, most_nprobe=self._most_nprobe)
        if constraints.only is not None:
            clock.lap("filter")
        if constraints.mode == LEXICAL and not request.explain:
            embedded = None  # words alone need no vector
        elif embedded is None:
            embedded = self._embedder.one(request, clock)
        vectors = self._no_vectors if embedded is None else embedded.vectors
        asked = Asked(request.q, vectors, constraints)
        found = self._find(asked, walk, request, budget, clock)
        explained = self._explained(found, asked, request) if request.explain else None
        hits = self._hits(found.page, explained)
        clock.lap("products")
        shown = tuple(found.shown.tolist())
        return Answer(
            query=request.q,
            page=walk.page,
            hits=hits,
            cursor=self._walks.cursor(walk, effort=found.continue_with, shown=shown, position=found.page.next_position),
            mode=constraints.mode,
            point=found.listed.point,
            filter=_filter_member(constraints, found.listed),
            per_seller=request.per_seller,
            degraded=found.degraded,
            release=self.release.id,
            generation=self.generation.number,
            query_truncated=embedded is not None and embedded.truncated,
            query_known=None if embedded is None else embedded.known,
            explanation=None if explained is None else explained.whole,
        )

    def watch(self, watch: Watch | None) -> None:
        """Offer every list to `watch` from now on (None: to nobody): what the warm-up searches is no live query."""
        self._lists.watch(watch)

    def retire(self) -> None:
        """Leave the watch: another pipeline serves the same catalogue from now on."""
        self._lists.close()

    def close(self) -> None:
        """Give the catalogue's file back, too."""
        self.retire()
        self.catalogue.close()

    def _find(self, asked: Asked, walk: Walk, request: SearchRequest, budget: Budget, clock: Clock) -> Found:
        if walk.position is None:
            return self._find_first(asked, walk, request, budget, clock)
        if walk.shown is not None:
            point = self._policy.affordable(walk.later, budget)
            later = self._lists.at(point, asked, clock)
            return self._cut(later, walk, np.array(walk.shown, np.int64), request)
        return self._find_by_number(asked, walk, request, budget, clock)

    def _find_first(self, asked: Asked, walk: Walk, request: SearchRequest, budget: Budget, clock: Clock) -> Found:
        point = self._policy.affordable(walk.plan.first, budget)
        first = self._lists.at(point, asked, clock)
        page = first_page(
            self._sellers.capped(first.hits, request.per_seller),
            size=request.size,
            same_list=point.effort == walk.later,
            total=first.total,
        )
        return Found(page, first, point.effort != walk.plan.first, page.numbers, walk.later)

    def _find_by_number(self, asked: Asked, walk: Walk, request: SearchRequest, budget: Budget, clock: Clock) -> Found:
        """A later page without a cursor: what page 1 shows has to be searched again, unless both share one list."""
        first_point = self._policy.affordable(walk.plan.first, budget)
        first = later = self._lists.at(first_point, asked, clock)
        if walk.later != walk.plan.first:
            later = self._lists.at(self._policy.affordable(walk.later, budget), asked, clock)
        shown = self._sellers.capped(first.hits, request.per_seller).numbers[: request.size]
        found = self._cut(later, walk, shown, request)
        return found._replace(degraded=found.degraded or first_point.effort != walk.plan.first)

    def _cut(self, later: Listed, walk: Walk, shown: np.ndarray, request: SearchRequest) -> Found:
        """The page at the walk's position. A lowered effort stays lowered: the next page goes on with the same list."""
        hits = self._sellers.capped(later.hits, request.per_seller, shown=shown)
        page = later_page(hits, shown=shown, position=walk.position or 0, size=request.size)
        effort = later.point.effort
        degraded = EFFORTS.index(effort) < EFFORTS.index(walk.plan.later)
        return Found(page, later, degraded, shown, effort)

    def _explained(self, found: Found, asked: Asked, request: SearchRequest) -> Explained:
        features = self.release.featurizer.query(request.q, request.country)
        return explain(found.page, found.listed, asked, features, release=self.release, live=self.live)

    def _hits(self, page: Page, explained: Explained | None) -> list[bytes]:
        """Each product's stored JSON members behind its score: nothing is parsed or encoded again.

        A product that was deleted since the index was refreshed has none, and is left out.
        """
        fragments = self.catalogue.fragments_if_any(page.numbers.tolist())
        scores = page.scores.tolist()
        if explained is None:
            hits = zip(scores, fragments, strict=True)
            return [b'{"score":%.6f,%b}' % (score, members) for score, members in hits if members is not None]
        return [
            b'{"score":%.6f,%b,"explain":%b}' % (score, members, parts)
            for score, members, parts in zip(scores, fragments, explained.hits, strict=True)
            if members is not None
        ]


def _filter_member(constraints: Constraints, listed: Listed) -> FilterMember | None:
    if constraints.only is None or constraints.condition is None:
        return None
    strategy = None if listed.use is None else listed.use.strategy
    return FilterMember(condition=constraints.condition, allowed=constraints.only.allowed, strategy=strategy)
