"""What a request asks for beside its query: which products may be hits, and what looks for them."""

from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from index.conditions import Compare, Condition, Op, Retrieval, all_of
from index.errors import ExpressionError, FilterError
from index.expression import parse
from index.live_filters import LiveFilters, LiveRows
from service.errors import InvalidFieldError
from service.schemas import HYBRID, LEXICAL, VECTOR, Mode, SearchRequest

_parse = lru_cache(1_024)(parse)
_filters = attrgetter("filter", "category", "seller", "price_min", "price_max", "created_after")
_NO_FILTERS = (None,) * 6


class Constraints(NamedTuple):
    """A checked request's filter and legs: `filter AND (tokens OR nn(radius, nprobe))` (Que2Search 6.1)."""

    mode: Mode
    both: bool = False  # of a hybrid: hits must come from each leg, not from either
    only: LiveRows | None = None  # None: all products
    condition: str | None = None  # the filter in its canonical form
    min_score: float | None = None  # of the vector leg; None: the effort's own
    nprobe: int | None = None  # None: the effort's own


def constraints_of(request: SearchRequest, filters: LiveFilters, *, most_nprobe: int | None) -> Constraints:
    """Read a request's filter fields, `filter`, `mode` and `min_score`.

    Args:
        request: its types and ranges are checked already.
        filters: of what is searched.
        most_nprobe: what the operator's highest effort probes; None: the index has no lists.

    Raises:
        InvalidFieldError: an unknown field or category, an empty range, an expression that cannot be read, or fields
            that contradict each other.
    """
    if _filters(request) == _NO_FILTERS:  # nearly every search: nothing to read, nothing to join
        return Constraints(_mode(request, None), min_score=_min_score(request, None, request.mode or VECTOR))
    condition, retrieval = _filter(request)
    plain = _plain_conditions(request)
    mode = _mode(request, retrieval)
    whole = all_of(*plain.values(), condition)
    return Constraints(
        mode=mode,
        both=retrieval is not None and retrieval.both,
        only=None if whole is None else _rows(whole, plain, request, filters),
        condition=None if whole is None else str(whole),
        min_score=_min_score(request, retrieval, mode),
        nprobe=_nprobe(request, retrieval, most_nprobe),
    )


def _filter(request: SearchRequest) -> tuple[Condition | None, Retrieval | None]:
    if request.filter is None:
        return None, None
    try:
        return _parse(request.filter)
    except ExpressionError as exc:
        raise InvalidFieldError("filter", request.filter, str(exc)) from exc


def _plain_conditions(request: SearchRequest) -> dict[str, Condition]:
    """What the fields of the request say, by their names."""
    said: dict[str, tuple[str, Op, str | float | None]] = {
        "category": ("category", "=", request.category),
        "seller": ("seller", "=", request.seller),
        "price_min": ("price", ">=", request.price_min),
        "price_max": ("price", "<=", request.price_max),
        "created_after": ("created_at", ">=", request.created_after),
    }
    return {name: Compare(field, op, value) for name, (field, op, value) in said.items() if value is not None}


def _rows(whole: Condition, plain: dict[str, Condition], request: SearchRequest, filters: LiveFilters) -> LiveRows:
    try:
        return filters.rows(whole)
    except FilterError as exc:
        for field, condition in plain.items():
            _check(condition, field, filters)
        raise InvalidFieldError("filter", request.filter, str(exc)) from exc


def _check(condition: Condition, field: str, filters: LiveFilters) -> None:
    try:
        filters.check(condition)
    except FilterError as exc:
        raise InvalidFieldError(field, exc.value, str(exc)) from exc


def _mode(request: SearchRequest, retrieval: Retrieval | None) -> Mode:
    if retrieval is None:
        return request.mode or VECTOR
    said: Mode = HYBRID if retrieval.tokens and retrieval.nn else LEXICAL if retrieval.tokens else VECTOR
    if request.mode not in {None, said}:
        raise InvalidFieldError("mode", request.mode, f"the filter says `{retrieval}`, which is {said}; leave one out")
    return said


def _min_score(request: SearchRequest, retrieval: Retrieval | None, mode: Mode) -> float | None:
    """The radius, from wherever it is given."""
    radius = None if retrieval is None else retrieval.radius
    if request.min_score is None:
        return radius
    if radius not in {None, request.min_score}:
        raise InvalidFieldError("min_score", request.min_score, f"the filter says nn(radius={radius}); leave one out")
    if mode == LEXICAL:
        raise InvalidFieldError("min_score", request.min_score, "a cosine, which words alone do not have; leave it out")
    return request.min_score


def _nprobe(request: SearchRequest, retrieval: Retrieval | None, most: int | None) -> int | None:
    """Like efforts, lists are probed up to the operator's limit."""
    if retrieval is None or retrieval.nprobe is None:
        return None
    if most is None:
        raise InvalidFieldError("filter", request.filter, "nn(nprobe=...): this index has no lists; leave nprobe out")
    if retrieval.nprobe > most:
        raise InvalidFieldError("filter", request.filter, f"nn(nprobe=...): this server allows up to {most}")
    return retrieval.nprobe
