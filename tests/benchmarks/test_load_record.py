import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load_record import LONGEST_US, Histogram, Recorder, Sample, server_timing


@given(st.integers(1, 26_000))
def test_latencies_a_hundredth_of_a_millisecond_apart_stay_apart(hundredths: int) -> None:
    """From 0.01 to 260 ms: the percentile of either is within 0.01 ms of it, and they are two values."""
    histogram = Histogram()
    histogram.record(10 * hundredths)
    histogram.record(10 * (hundredths + 1))

    shorter, longer = histogram.percentiles([50, 100]).values()

    assert shorter < longer
    assert abs(shorter - 10 * hundredths) < 10
    assert abs(longer - 10 * (hundredths + 1)) < 10


@given(st.lists(st.floats(1, 1_000_000), min_size=1, max_size=200), st.sampled_from([50.0, 90.0, 99.0, 99.9]))
def test_percentiles_agree_with_sorting(latencies: list[float], percentile: float) -> None:
    """To four figures of the value at that rank, at one of the ranks that rounding allows."""
    histogram = Histogram()
    for latency in latencies:
        histogram.record(latency)
    ranked = np.sort(latencies)
    rank = percentile / 100 * len(latencies)
    allowed = {ranked[max(0, min(len(ranked), at) - 1)] for at in (int(rank), int(rank) + 1)}

    assert any(
        histogram.percentiles([percentile])[percentile] == pytest.approx(one, rel=1e-4, abs=1) for one in allowed
    )


def test_nothing_is_lost_at_either_end() -> None:
    """A latency of no time counts as 1 us, one of an hour as the end of the range, to four figures."""
    histogram = Histogram()
    histogram.record(0.0)
    histogram.record(3.6e9)

    assert 2 == histogram.count
    assert 1 == histogram.percentiles([50])[50]
    assert LONGEST_US == pytest.approx(histogram.percentiles([100])[100], rel=1e-4)
    assert {} == Histogram().percentiles([50])


def test_seconds_with_steal_are_set_aside() -> None:
    """Of three blocks, the one with 3 % steal does not count."""
    recorder = Recorder()
    for latency, steal in ((100.0, 0.0), (9000.0, 0.03), (200.0, 0.02)):
        recorder.add(Sample("first page", {"client": latency}))
        recorder.close_block(steal)

    assert {50: 100, 100: 200} == recorder.counted["first page", "client"].percentiles([50, 100])
    assert 1 == recorder.set_aside


def test_when_all_seconds_are_disturbed_they_count() -> None:
    """Figures with a warning beat none."""
    recorder = Recorder()
    recorder.add(Sample("first page", {"client": 100.0}))
    recorder.close_block(0.5)

    assert 1 == recorder.counted["first page", "client"].count


def test_failures_are_counted_by_name_and_the_first_is_kept() -> None:
    """So that a table of thousands stays one line."""
    recorder = Recorder()
    recorder.fail("later page", "a product came twice", "p1")
    recorder.fail("later page", "a product came twice", "p2")

    assert {"later page: a product came twice": 2} == recorder.failures
    assert {"later page: a product came twice": "p1"} == recorder.examples
    assert 2 == recorder.failed["later page"]


def test_server_timing_becomes_microseconds() -> None:
    """As the service writes it; entries without a duration say nothing, nor does an absent header."""
    assert {"ann": 110.0, "total": 340.0} == pytest.approx(server_timing("ann;dur=0.110, total;dur=0.340"))
    assert {"total": 1000.0} == server_timing("cache, total;dur=1")
    assert {} == server_timing("")
