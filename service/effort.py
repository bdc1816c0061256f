"""Which effort a page gets: planned by the page, capped by the operator, lowered by a deadline or overload."""

from collections.abc import Sequence
from time import perf_counter_ns
from typing import NamedTuple

from index.operating_points import EFFORTS, OperatingPoint, OperatingPoints
from service.errors import DeadlineError, InvalidFieldError

AUTO = "auto"
AUTO_FIRST, AUTO_LATER = "low", "high"  # the first page must come fast, later ones must be better


class Plan(NamedTuple):
    """The efforts of a walk over the pages, before anything lowers them."""

    first: str  # whose list page 1 starts
    later: str  # whose list later pages slice


class Budget(NamedTuple):
    """What one request may still spend."""

    deadline_ns: float  # on the clock of perf_counter_ns
    overloaded: bool

    def remaining_us(self) -> float:
        return (self.deadline_ns - perf_counter_ns()) / 1000


class EffortPolicy:
    """Plans efforts and lowers them; never raises one.

    Args:
        points: the generation's operating points.
        limit: the highest effort of this server.
    """

    def __init__(self, points: OperatingPoints, *, limit: str) -> None:
        self._points = points
        self._limit = limit
        self._auto = Plan(lower_of(AUTO_FIRST, limit), lower_of(AUTO_LATER, limit))

    def plan(self, asked: str) -> Plan:
        """The plan for `auto` or a named effort.

        Raises:
            InvalidFieldError: the named effort is above the operator's limit.
        """
        if asked == AUTO:
            return self._auto
        if lower_of(asked, self._limit) != asked:
            raise InvalidFieldError("effort", asked, f"this server allows up to {self._limit}")
        return Plan(asked, asked)

    def most_nprobe(self) -> int | None:
        """Lists that the operator's limit lets a search probe; None for an index without lists."""
        points = (self._points[effort] for effort in _from_highest(self._limit))
        return max((point.nprobe for point in points if point.nprobe is not None), default=None)

    def affordable(self, planned: str, budget: Budget) -> OperatingPoint:
        """The planned effort, or the highest one below it that fits the time left and the load.

        A point's cost is its measured p99; one that was never measured counts as fitting.

        Raises:
            DeadlineError: not even `minimal` fits.
        """
        remaining_us = budget.remaining_us()
        for effort in _from_highest(_under_load(planned) if budget.overloaded else planned):
            point = self._points[effort]
            if remaining_us > (point.p99_us or 0.0):
                return point
        raise DeadlineError(
            f"{max(0.0, remaining_us) / 1000:.3f} ms are left of the deadline, too few for the effort minimal; "
            "allow more with timeout_ms"
        )


def lower_of(one: str, other: str) -> str:
    return min(one, other, key=EFFORTS.index)


def _from_highest(effort: str) -> Sequence[str]:
    return EFFORTS[EFFORTS.index(effort) :: -1]


def _under_load(planned: str) -> str:
    """Later pages fall back to what a first page costs, a first page to the least there is."""
    return "minimal" if planned in {"minimal", "low"} else "low"
