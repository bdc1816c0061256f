from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.open_loop import outcome_of
from benchmarks.open_loop_client import Load, Replies, Reply
from benchmarks.rates import capacity_of, follows, is_followed
from benchmarks.rates_picture import RatesResult
from service.client import ClientError
from tests.benchmarks.fake_service import FakeService, running

LOAD = Load(host="127.0.0.1", port=1, targets=["/search?q=lamp"], rate=50.0, seconds=2.0, spin=False)


def replies(*, full: int, degraded: int = 0, refused: int = 0, late: int = 0) -> Replies:
    every = [(200, False, 1.0)] * full + [(200, True, 1.0)] * degraded + [(429, False, 1.0)] * refused
    every += [(200, False, 2.5)] * late
    return Replies(
        replies=[
            Reply(due=0, ready=0, sent=0, done=done, status=status, server_us=None, degraded=lowered)
            for status, lowered, done in every
        ],
        unanswered=0,
    )


def test_the_capacity_is_the_highest_rate_that_is_followed() -> None:
    """Up to 230: 100 and 200 are followed, 400 is not; then 300 not, 250 not, 225 yes, 237.5 not."""
    asked: list[float] = []

    def followed(rate: float) -> bool:
        asked.append(rate)
        return rate <= 230

    assert 225.0 == capacity_of(followed, start=100.0)
    assert [100, 200, 400, 300, 250, 225, 237.5] == asked


@given(limit=st.floats(50.0, 1e5))
def test_the_capacity_is_known_to_a_sixteenth(limit: float) -> None:
    """Never above the limit, and never more than a sixteenth of itself below."""
    found = capacity_of(lambda rate: rate <= limit, start=50.0)

    assert found <= limit <= found * (1 + 1 / 16)


def test_a_server_that_follows_nothing_has_no_capacity() -> None:
    """Rather than a figure of 0."""
    with pytest.raises(ClientError, match="50 requests a second"):
        capacity_of(lambda _: False, start=50.0)


def test_a_rate_is_followed_where_nearly_all_is_answered_in_time_and_in_full() -> None:
    """97 of 100, whatever becomes of the other three; 96 are too few."""
    assert follows(outcome_of(LOAD, replies(full=97, degraded=1, refused=1, late=1)))
    assert not follows(outcome_of(LOAD, replies(full=96, degraded=4)))
    assert not follows(outcome_of(LOAD, replies(full=96, refused=4)))
    assert not follows(outcome_of(LOAD, replies(full=96, late=4)))


def test_one_disturbed_try_does_not_end_the_search_for_the_capacity() -> None:
    """The first ten searches are degraded, of ten a second; the second try is answered in full."""
    number = count()

    with running(FakeService(change=lambda answer: answer | {"search": {"degraded": next(number) < 10}})) as service:
        load = Load(host="127.0.0.1", port=service.port, targets=LOAD.targets, rate=10.0, seconds=1.0, spin=False)

        assert is_followed(load, 10.0)


def test_the_picture_has_a_curve_for_each_figure() -> None:
    """P50 and P99 of Poisson arrivals, what the server says where it says something, and the saturation."""
    rows = [
        {"name": f"poisson, {share}", "rate_per_s": 100.0 * share, "p50_us": 500.0, "p99_us": 900.0} for share in (1, 2)
    ]
    result = RatesResult(bench="http-load", title="t", rows=rows, conditions={}, histograms={}, capacity_per_s=200.0)

    axes = result.against_rate().axes[0]

    assert ["P50", "P99", "saturation"] == [line.get_label() for line in axes.get_lines()]
    assert [100.0, 200.0] == list(axes.get_lines()[0].get_xdata())
    assert [0.5, 0.5] == list(axes.get_lines()[0].get_ydata())
