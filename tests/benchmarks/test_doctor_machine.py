import math
from pathlib import Path

import pytest

from benchmarks.disturbance import CpuTimes, Pauses
from benchmarks.doctor_costs import Gathers, Pages, Ramp, SystemCalls, Times, WakeUp, pages, times
from benchmarks.doctor_machine import (
    Throttling,
    available_bytes,
    clock,
    connections,
    cores,
    frequency,
    huge_pages,
    instruction_sets,
    memory,
    neighbours,
    quota,
    system_calls,
    throttling_of,
    wake_up,
)
from benchmarks.doctor_report import Finding

FAST, SLOW = Times(20.0, 40.0, 10.0), Times(60.0, 400.0, 10.0)
ADVISED, NEVER, ALWAYS = "always [madvise] never", "always madvise [never]", "[always] madvise never"
GB = 1_000_000_000


@pytest.mark.parametrize(
    ("finding", "complaint"),
    [
        (instruction_sets(("avx2", "fma")), None),
        (instruction_sets(("asimd",)), None),
        (instruction_sets(("fma",)), "fast scan"),
        (cores(2.0, 8), None),
        (cores(0.5, 8), "less than one core"),
        (quota(None), None),
        (quota(Throttling(500, 0, 0.0)), None),
        (quota(Throttling(500, 3, 120.0)), "when the quota ends"),
        (frequency("performance", 3000.0, None), None),
        (frequency("powersave", 1200.0, None), "after a pause"),
        (frequency("powersave", 3000.0, Ramp(330.0, 300.0)), None),
        (frequency("", None, Ramp(600.0, 300.0)), "after a pause"),
        (clock("tsc", 40.0), None),
        (clock("xen", None), None),
        (clock("xen", 900.0), "reading the clock"),
        (huge_pages(ADVISED, None), None),
        (huge_pages(ADVISED, Gathers(10.5, 10.0)), None),
        (huge_pages(ADVISED, Gathers(15.0, 10.0)), "tables"),
        (huge_pages(ALWAYS, Gathers(15.0, 10.0)), None),
        (huge_pages(NEVER, None), "tables"),
        (wake_up(None), None),
        (wake_up(WakeUp(FAST, None)), None),
        (wake_up(WakeUp(FAST, FAST)), None),
        (wake_up(WakeUp(FAST, SLOW)), "another core"),
        (system_calls(None), None),
        (system_calls(SystemCalls(200.0, 10.0)), None),
        (system_calls(SystemCalls(2500.0, 40.0)), "before the kernel"),
        (connections(20_000, 4096, wanted_backlog=2048), None),
        (connections(256, 4096, wanted_backlog=2048), "free file"),
        (connections(20_000, 128, wanted_backlog=2048), "bursts"),
        (memory(8 * GB, None, None), None),
        (memory(8 * GB, 3 * GB, Pages(1.0, 80.0)), None),
        (memory(2 * GB, 3 * GB, Pages(1.0, 80.0)), "not in memory"),
        (neighbours(CpuTimes(0, 0), CpuTimes(1, 100), Pauses(40.0, 0.001)), None),
        (neighbours(CpuTimes(0, 0), CpuTimes(3, 100), Pauses(40.0, 0.001)), "others take"),
        (neighbours(CpuTimes(0, 0), CpuTimes(0, 100), Pauses(9000.0, 0.2)), "others take"),
    ],
)
def test_a_finding_says_what_is_slow_and_what_to_do_or_nothing(finding: Finding, complaint: str | None) -> None:
    """Silence where all is well."""
    assert (complaint is None) == (finding.slow is None) == (finding.remedy is None)
    assert complaint is None or complaint in (finding.slow or "")


def test_costs_are_told_in_the_units_of_what_was_measured() -> None:
    """120 ms of standing still, three times, is 40 ms each."""
    assert "40.0 ms of standing still each time" == quota(Throttling(500, 3, 120.0)).costs
    assert "2.00 times the work's time after a pause" == frequency("", None, Ramp(600.0, 300.0)).costs
    assert "p50 20 and p99 40 us on one core, 60 and 400 us across two" == wake_up(WakeUp(FAST, SLOW)).costs
    assert "1.0 us a page in memory, 80 us from disk" == memory(8 * GB, GB, Pages(1.0, 80.0)).costs
    assert "15.0 ns a random read, 10.0 ns with huge pages" == huge_pages(ADVISED, Gathers(15.0, 10.0)).costs


def test_throttling_is_read_in_both_versions_of_control_groups() -> None:
    """Version 2 counts microseconds, version 1 nanoseconds; without a quota there are no periods."""
    second = "usage_usec 9\nnr_periods 50\nnr_throttled 2\nthrottled_usec 30000\n"
    first = "nr_periods 50\nnr_throttled 2\nthrottled_time 30000000\n"

    assert Throttling(50, 2, 30.0) == throttling_of(second) == throttling_of(first)
    assert throttling_of("nr_periods 0\nnr_throttled 0\nthrottled_time 0\n") is None
    assert throttling_of("") is None


def test_memory_is_the_kernels_or_the_control_groups_when_that_is_less() -> None:
    """ "max" is no limit; a file that is not there is empty."""
    kernels = "MemTotal: 9 kB\nMemAvailable:       2000 kB\n"

    assert 2_048_000 == available_bytes(kernels, ["max", ""])
    assert 1_000_000 == available_bytes(kernels, ["1000000", ""])
    assert 0 == available_bytes("", [])


def test_times_leave_the_pauses_out() -> None:
    """Four calls, each behind a pause of 2 ms, take next to nothing by their median."""
    called = []

    found = times(lambda: called.append(None), calls=4, pause_s=0.002)

    assert 4 == len(called)
    assert found.p50_us <= found.p99_us
    assert math.isfinite(found.cpu_us)


def test_pages_of_a_small_file_are_read_too(tmp_path: Path) -> None:
    """One page is all that a catalogue of few products may have."""
    small = tmp_path / "index"
    small.write_bytes(b"little")

    found = pages(small, count=3)

    assert found.memory_us > 0
    assert found.disk_us > 0
