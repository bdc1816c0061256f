"""Efforts: planned by the page, capped by the operator, lowered by deadline and load, never raised."""

from time import perf_counter_ns

import pytest

from index.operating_points import EFFORTS, OperatingPoint, OperatingPoints
from service.effort import Budget, EffortPolicy, Plan
from service.errors import DeadlineError, InvalidFieldError

HOUR_NS = 3_600 * 10**9


def policy(*, limit: str = "exact", **p99_us: float) -> EffortPolicy:
    points = {
        effort: OperatingPoint(effort=effort, nprobe=1, candidates=100, p99_us=p99_us.get(effort)) for effort in EFFORTS
    }
    return EffortPolicy(OperatingPoints(points), limit=limit)


def budget(*, left_ns: int = HOUR_NS, overloaded: bool = False) -> Budget:
    return Budget(perf_counter_ns() + left_ns, overloaded)


def test_auto_is_low_first_and_high_later() -> None:
    """A named effort serves all pages."""
    assert Plan("low", "high") == policy().plan("auto")
    assert Plan("balanced", "balanced") == policy().plan("balanced")


def test_the_operators_limit_caps_auto_and_refuses_names_above_it() -> None:
    """auto promises no effort by name, so it is capped; asking for more by name is an error."""
    assert Plan("low", "balanced") == policy(limit="balanced").plan("auto")
    assert Plan("minimal", "minimal") == policy(limit="minimal").plan("auto")
    assert Plan("balanced", "balanced") == policy(limit="balanced").plan("balanced")
    with pytest.raises(InvalidFieldError, match='effort="high": this server allows up to balanced'):
        policy(limit="balanced").plan("high")


def test_a_deadline_lowers_the_effort_to_what_fits() -> None:
    """With an hour left and costs of two hours for `high`, the highest effort that fits is taken."""
    two_hours_us = 2 * HOUR_NS / 1000
    costly = policy(minimal=10, low=100, balanced=1_000, high=two_hours_us, exact=two_hours_us)

    assert "balanced" == costly.affordable("exact", budget()).effort
    assert "low" == costly.affordable("low", budget()).effort


def test_what_was_never_measured_counts_as_fitting() -> None:
    """Untuned points carry no times, so a deadline cannot lower them; only its end counts."""
    assert "high" == policy().affordable("high", budget(left_ns=10**9)).effort
    with pytest.raises(DeadlineError):
        policy().affordable("high", budget(left_ns=-1))


def test_nothing_fits() -> None:
    """Below `minimal` there is nothing: 504, with the way out."""
    with pytest.raises(DeadlineError, match="too few for the effort minimal; allow more with timeout_ms"):
        policy(**dict.fromkeys(EFFORTS, 2 * HOUR_NS / 1000)).affordable("low", budget())


@pytest.mark.parametrize(
    ("planned", "lowered"),
    [("minimal", "minimal"), ("low", "minimal"), ("balanced", "low"), ("high", "low"), ("exact", "low")],
)
def test_overload_lowers_the_effort(planned: str, lowered: str) -> None:
    """Later pages cost what first ones did, first pages the least there is."""
    assert lowered == policy().affordable(planned, budget(overloaded=True)).effort
