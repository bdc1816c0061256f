"""Where a request stands in its walk over the pages: by number or by cursor, the same lists, the same slices."""

from operator import attrgetter
from typing import NamedTuple, get_args
from urllib.parse import urlencode

from index.cursor import Cursor, CursorCodec, request_digest
from index.errors import CursorError, CursorGone
from index.paging import position_of_page
from service.effort import AUTO, EffortPolicy, Plan, lower_of
from service.errors import CursorExpiredError, InvalidFieldError
from service.schemas import EffortName, SearchRequest

_shaping = attrgetter(
    "q", "country", "min_score",
    "category", "price_min", "price_max", "seller", "created_after", "filter", "per_seller", "mode",
)  # fmt: skip


class Walk(NamedTuple):
    """One page of a walk, before it is searched."""

    page: int
    plan: Plan  # undegraded
    digest: bytes  # of the request, for the next cursor
    position: int | None = None  # in the later list minus page 1; None on page 1
    later: str = ""  # the effort of the later list: the plan's, or lower where an earlier page was degraded
    shown: tuple[int, ...] | None = None  # what page 1 showed; None where it has to be searched again


class Walks:
    """Reads walks from requests and writes the cursors that continue them.

    Args:
        codec: signs and checks cursors.
        policy: plans the efforts.
        release: the release that is served.
    """

    def __init__(self, *, codec: CursorCodec, policy: EffortPolicy, release: str) -> None:
        self._codec = codec
        self._policy = policy
        self._release = release

    def start(self, request: SearchRequest) -> Walk:
        """Where `request` stands.

        Raises:
            InvalidFieldError: a cursor that is forged or of another request; an effort above the limit.
            CursorExpiredError: a cursor of a release that is no longer served.
        """
        if request.cursor is not None:
            return self._continued(request, request.cursor)
        plan = self._policy.plan(request.effort)
        page, digest = request.page or 1, _digest(request, request.effort)
        if page == 1:
            return Walk(page, plan, digest, later=plan.later)
        return Walk(page, plan, digest, position_of_page(page, size=request.size), plan.later)

    def cursor(self, walk: Walk, *, effort: str, shown: tuple[int, ...], position: int | None) -> str | None:
        """The cursor of the page at `position`; None where nothing follows."""
        if position is None:
            return None
        return self._codec.encode(Cursor(self._release, walk.digest, effort, shown, position))

    def _continued(self, request: SearchRequest, text: str) -> Walk:
        try:
            cursor = self._codec.decode(text)
            asked = _asked(request, cursor)
            digest = _digest(request, asked)
            cursor.check(release=self._release, digest=digest)
        except CursorGone as exc:
            raise CursorExpiredError(str(exc), first_page=first_page_url(request)) from exc
        except CursorError as exc:
            raise InvalidFieldError("cursor", text, str(exc)) from exc
        plan = self._policy.plan(asked)
        page = 2 + cursor.position // request.size
        later = lower_of(cursor.effort, plan.later)
        return Walk(page, plan, digest, cursor.position, later, cursor.shown)


def first_page_url(request: SearchRequest) -> str:
    """The relative URL that starts the same search again."""
    default = SearchRequest(q=request.q)
    fields = [name for name in SearchRequest.__struct_fields__ if name not in {"q", "page", "cursor"}]
    changed = {name: getattr(request, name) for name in fields if getattr(request, name) != getattr(default, name)}
    shown = {name: str(value).lower() if isinstance(value, bool) else value for name, value in changed.items()}
    return f"/search?{urlencode({'q': request.q, **shown})}"


def _asked(request: SearchRequest, cursor: Cursor) -> str:
    """The effort that page 1 asked for; a request that follows a cursor need not repeat it."""
    if request.effort == AUTO:
        for effort in get_args(EffortName):
            if _digest(request, effort) == cursor.digest:
                return str(effort)
    return request.effort


def _digest(request: SearchRequest, asked: str) -> bytes:
    """Of all that shapes the lists; size, deadline and explanations may change from page to page."""
    return request_digest((*_shaping(request), asked))
