import os
from pathlib import Path

import pytest

from benchmarks.conditions import conditions, cpu_model, granted_cores, isa_of, pinned, quota
from benchmarks.disturbance import CpuTimes, cpu_times, spin, steal_between

CPUINFO = """processor	: 0
model name	: AMD EPYC 9R14
flags		: fpu sse2 avx2 fma avx512f avx512_vnni

processor	: 1
model name	: another
flags		: fpu
"""


def test_cpuinfo_tells_model_and_vector_extensions() -> None:
    """Of the first processor; what does not matter is left out."""
    assert "AMD EPYC 9R14" == cpu_model(CPUINFO)
    assert ("avx2", "fma", "avx512f", "avx512_vnni") == isa_of(CPUINFO)


def test_arm_lists_features_instead_of_flags() -> None:
    """And has no model name: the machine's name stands in."""
    assert ("asimd", "sve") == isa_of("Features	: fp asimd sve")
    assert os.uname().machine == cpu_model("")


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", None), ("-1", None), ("150000 100000", 1.5), ("50000", 0.5)]
)
def test_a_control_groups_quota_is_in_cores(text: str, cores: float | None, tmp_path: Path) -> None:
    """Both versions of the file."""
    path = tmp_path / "cpu.max"
    path.write_text(text)

    assert cores == quota(path)
    assert quota(tmp_path / "none") is None


def test_pinned_keeps_one_core_and_gives_the_others_back() -> None:
    """Inside, this thread runs on the core that it was told."""
    granted = os.sched_getaffinity(0)

    with pinned() as core:
        assert {core} == os.sched_getaffinity(0)
        assert 1.0 >= granted_cores()

    assert granted == os.sched_getaffinity(0)


def test_conditions_name_machine_commit_versions_and_details() -> None:
    """What a reader needs beside the number."""
    found = conditions(threads=1, products=7)

    assert found.keys() >= {"host", "cpu", "isa", "cores", "commit", "threads", "numpy", "measured_at", "products"}
    assert 7 == found["products"]


def test_steal_is_the_eighth_field_of_the_cpu_line() -> None:
    """6 of 100 ticks between two looks; guest time is part of user time already and counts once."""
    before = cpu_times("cpu  100 0 0 0 0 0 0 10 5 0\ncpu0 1 1 1 1 1 1 1 1\n")
    after = cpu_times("cpu  150 0 0 44 0 0 0 16 9 0\n")

    assert CpuTimes(steal=10, total=110) == before
    assert 0.06 == steal_between(before, after)


def test_no_time_or_no_file_is_no_steal() -> None:
    """Rather than a division by zero."""
    assert 0.0 == steal_between(cpu_times(""), cpu_times(""))


def test_a_spinning_loop_reports_its_pauses() -> None:
    """At least one gap, and a share of the time."""
    pauses = spin(milliseconds=1.0)

    assert pauses.longest_us > 0
    assert 0 <= pauses.lost <= 1
