"""How much others took of the machine while something was measured: CPU steal, and the pauses of a spinning loop."""

from pathlib import Path
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np

STAT = Path("/proc/stat")
STEAL_LIMIT = 0.02  # a block with more is set aside
PAUSE_US = 20.0  # a loop iteration takes well under a microsecond
_STEAL_FIELD = 7  # of the "cpu" line: user nice system idle iowait irq softirq steal


class CpuTimes(NamedTuple):
    """Clock ticks of all cores since start-up."""

    steal: int
    total: int


class Pauses(NamedTuple):
    """What a loop that does nothing but read the clock missed."""

    longest_us: float
    lost: float  # share of the time spent in pauses above PAUSE_US


def cpu_times(stat: str | None = None) -> CpuTimes:
    """From the text of /proc/stat, read when not given; zeros where there is no such file."""
    if stat is None:
        stat = STAT.read_text() if STAT.exists() else ""
    fields = [int(field) for field in stat.partition("\n")[0].split()[1:9]]
    return CpuTimes(fields[_STEAL_FIELD], sum(fields)) if len(fields) > _STEAL_FIELD else CpuTimes(0, 0)


def steal_between(before: CpuTimes, after: CpuTimes) -> float:
    """The share of the machine's time that the hypervisor gave to others."""
    passed = after.total - before.total
    return (after.steal - before.steal) / passed if passed > 0 else 0.0


def spin(*, milliseconds: float = 20.0) -> Pauses:
    """Spin on the clock: each gap is time that this process was ready to run and did not."""
    end = perf_counter_ns() + int(milliseconds * 1e6)
    reads = [perf_counter_ns()]
    while reads[-1] < end:
        reads.append(perf_counter_ns())
    gaps = np.diff(np.array(reads)) / 1e3
    return Pauses(float(gaps.max()), float(gaps[gaps > PAUSE_US].sum() / gaps.sum()))
