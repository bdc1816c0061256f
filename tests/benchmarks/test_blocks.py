from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.blocks import Block, in_turn, interleave, timed
from benchmarks.disturbance import CpuTimes, Pauses

QUIET = Pauses(longest_us=30.0, lost=0.0)


def block(*latencies: float, cpu_us: float | None = None, ann: float = 0.0) -> Block:
    return Block(latencies_us=np.array(latencies), cpu_us=cpu_us, stages_us={"ann": ann})


def ticks(*steals: float) -> Iterator[CpuTimes]:
    """Two looks a round, of 100 ticks each; the first round warms up and looks once."""
    yield CpuTimes(0, 0)
    at = CpuTimes(0, 0)
    for steal in steals:
        yield at
        at = CpuTimes(at.steal + int(steal * 100), at.total + 100)
        yield at


def test_figures_are_medians_over_blocks() -> None:
    """Blocks with medians 1, 2 and 9 give 2; the warm-up round counts nowhere."""
    ran = iter([block(100), block(1, cpu_us=1, ann=5), block(9, cpu_us=2, ann=6), block(2, cpu_us=6, ann=7)])
    clock = ticks(0, 0, 0)

    measured = interleave({"one": lambda _: next(ran)}, blocks=3, clock=lambda: next(clock), pauses=lambda: QUIET)

    arm = measured.arms["one"]
    assert (3, 2.0, 2.0, 3.0, {"ann": 6.0}) == (arm.calls, arm.p50_us, arm.p99_us, arm.cpu_us, arm.stages_us)
    assert (3, 0) == (measured.kept, measured.set_aside)
    assert [] == measured.notes()


def test_disturbed_blocks_are_set_aside_and_counted() -> None:
    """The block with 5 % steal was slow; its figure does not count, and the result says so."""
    ran = iter([block(0), block(1), block(500), block(3)])
    clock = ticks(0.0, 0.05, 0.02)

    measured = interleave({"one": lambda _: next(ran)}, blocks=3, clock=lambda: next(clock), pauses=lambda: QUIET)

    assert 2.0 == measured.arms["one"].p50_us
    assert (2, 1) == (measured.kept, measured.set_aside)
    assert ["1 blocks with CPU steal above 2% were set aside"] == measured.notes()


def test_the_figures_over_every_block_are_kept_beside() -> None:
    """The disturbed block of 500 is among them: the median of 1, 500 and 3 is 3."""
    ran = iter([block(0), block(1), block(500), block(3)])
    clock = ticks(0.0, 0.05, 0.02)

    measured = interleave({"one": lambda _: next(ran)}, blocks=3, clock=lambda: next(clock), pauses=lambda: QUIET)

    assert (2.0, 3.0) == (measured.arms["one"].p50_us, measured.every_block["one"].p50_us)


def test_what_a_server_says_is_summed_up_like_what_a_client_sees() -> None:
    """Blocks with server medians 2 and 4 give 3; one degraded answer in each gives two."""
    told = [np.array([1.0, 2.0, 3.0]), np.array([4.0, 4.0, 4.0])]
    blocks = [Block(latencies_us=times * 2, cpu_us=None, server_us=times, degraded=1) for times in (told[0], *told)]
    ran, clock = iter(blocks), ticks(0, 0)

    measured = interleave({"one": lambda _: next(ran)}, blocks=2, clock=lambda: next(clock), pauses=lambda: QUIET)

    arm = measured.arms["one"]
    assert (3.0, 6.0, 2) == (arm.server_p50_us, arm.p50_us, arm.degraded)
    assert [2, 4, 6, 8, 8, 8] == arm.latencies_us.tolist()


def test_the_thousandth_is_that_of_all_calls_together() -> None:
    """Four blocks of 250 calls, one of which took 1,000 us: 999 take 1 us, and interpolation adds 0.999 to the next."""
    slow = block(*[1.0] * 249, 1_000.0)
    ran = iter([slow, slow, *[block(*[1.0] * 250) for _ in range(3)]])
    clock = ticks(0, 0, 0, 0)

    measured = interleave({"one": lambda _: next(ran)}, blocks=4, clock=lambda: next(clock), pauses=lambda: QUIET)

    assert (1.0, 1.0) == (measured.arms["one"].p50_us, measured.arms["one"].p99_us)
    assert 1.999 == pytest.approx(measured.arms["one"].p999_us)


def test_without_a_quiet_block_the_figures_say_that_they_are_disturbed() -> None:
    """Better than none, as long as it is said."""
    clock = ticks(0.5, 0.5)

    measured = interleave({"one": lambda _: block(4)}, blocks=2, clock=lambda: next(clock), pauses=lambda: QUIET)

    assert 4.0 == measured.arms["one"].p50_us
    assert "disturbed" in measured.notes()[0]


def test_arms_take_turns() -> None:
    """Every round runs every arm, so that a slow minute slows them all."""
    order: list[str] = []
    seen: list[tuple[int, int]] = []

    def arm(name: str) -> Block:
        order.append(name)
        return block(1)

    interleave(
        {"a": lambda _: arm("a"), "b": lambda _: arm("b")},
        blocks=2,
        clock=lambda: CpuTimes(0, 0),
        pauses=lambda: QUIET,
        progress=lambda done, total: seen.append((done, total)),
    )

    assert ["a", "b"] * 3 == order
    assert [(1, 3), (2, 3), (3, 3)] == seen


def test_calls_go_on_where_the_last_block_ended() -> None:
    """Five items, three calls a block: the second block begins with the fourth."""
    seen: list[str] = []
    arm = in_turn(seen.append, "abcde", calls=3)

    arm(0)
    arm(1)

    assert list("abcdea") == seen


def test_a_timed_block_counts_every_call() -> None:
    """One latency each, and the process' CPU time."""
    ran = timed(lambda _: sum(range(1000)), calls=7)

    assert (7,) == ran.latencies_us.shape
    assert ran.latencies_us.min() > 0
    assert ran.cpu_us == pytest.approx(ran.cpu_us, abs=0)
