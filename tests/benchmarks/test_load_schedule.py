from itertools import islice, pairwise
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load_schedule import Arrivals, Schedule, due_times

ARRIVALS: tuple[Arrivals, ...] = ("poisson", "constant")
rates = st.floats(1, 2000)
seeds = st.integers(0, 2**32)


def test_constant_due_times_are_equally_far_apart() -> None:
    """Four a second for one second."""
    assert [0.0, 0.25, 0.5, 0.75] == list(due_times(rate=4, seconds=1, arrivals="constant", seed=0))


@given(rate=rates, seed=seeds, arrivals=st.sampled_from(ARRIVALS))
def test_the_mean_rate_is_what_was_asked_for(rate: float, seed: int, arrivals: Arrivals) -> None:
    """A Poisson number of 1,000 expected events lies within six standard deviations of that, for every seed."""
    seconds = 1000 / rate

    count = sum(1 for _ in due_times(rate=rate, seconds=seconds, arrivals=arrivals, seed=seed))

    assert abs(count - 1000) <= (6 * sqrt(1000) if arrivals == "poisson" else 1)


@given(rate=rates, seed=seeds, arrivals=st.sampled_from(ARRIVALS))
def test_due_times_rise_and_end_before_the_end(rate: float, seed: int, arrivals: Arrivals) -> None:
    """Within [0, seconds)."""
    times = list(due_times(rate=rate, seconds=50 / rate, arrivals=arrivals, seed=seed))

    assert all(earlier < later for earlier, later in pairwise(times))
    assert all(0 <= due < 50 / rate for due in times)


@given(seed=seeds)
def test_a_seed_decides_all_due_times(seed: int) -> None:
    """The same seed gives the same times, the next one others."""
    first, again, other = (
        list(islice(due_times(rate=100, seconds=10, arrivals="poisson", seed=each), 20))
        for each in (seed, seed, seed + 1)
    )

    assert first == again
    assert first != other


def test_poisson_gaps_vary_as_exponential_ones_do() -> None:
    """Their standard deviation is as large as their mean, 1/100 s; bursts are part of it."""
    times = list(due_times(rate=100, seconds=200, arrivals="poisson", seed=3))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)

    assert 0.01 == pytest.approx(mean, rel=0.05)
    assert 0.01 == pytest.approx(sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)), rel=0.05)


def test_times_that_have_passed_are_still_handed_out() -> None:
    """The clock jumps over three due times: all three are asked for late, and counted from when they were due."""
    now = [100.0]
    schedule = Schedule(iter([0.0, 0.25, 0.5, 2.0]), clock=lambda: now[0])
    schedule.start()
    now[0] = 101.0

    assert [100.0, 100.25, 100.5] == [schedule.take() for _ in range(3)]
    assert (3, 1.0) == (schedule.taken, schedule.elapsed(now[0]))


def test_what_is_never_taken_can_be_counted() -> None:
    """For a server so slow that the run ended before its turn came."""
    schedule = Schedule(due_times(rate=10, seconds=1, arrivals="constant", seed=0))
    schedule.start()
    schedule.take()

    assert 9 == schedule.drop_rest()
    assert schedule.take() is None
