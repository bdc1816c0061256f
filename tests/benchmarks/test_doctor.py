import pytest

from benchmarks.disturbance import CpuTimes, Pauses
from benchmarks.doctor import (
    Finding,
    cores,
    faiss_build,
    instruction_sets,
    neighbours,
    openmp_pools,
    run,
    threads,
)

MAPS = """7f00-7f01 r-xp 00000000 fe:00 1    /venv/lib/faiss_cpu.libs/libgomp-e985.so.1.0.0
7f01-7f02 r--p 00000000 fe:00 1    /venv/lib/faiss_cpu.libs/libgomp-e985.so.1.0.0
7f02-7f03 rw-p 00000000 00:00 0
7f03-7f04 r-xp 00000000 fe:00 2    /usr/lib/libcompat.so.1
"""


@pytest.mark.parametrize(
    ("finding", "complaint"),
    [
        (instruction_sets(("avx2", "fma")), None),
        (instruction_sets(("asimd",)), None),
        (instruction_sets(("fma",)), "fast scan"),
        (cores(2.0, 8), None),
        (cores(0.5, 8), "less than one core"),
        (faiss_build("AVX512", ("avx2", "avx512f")), None),
        (faiss_build("AVX2", ("avx2",)), None),
        (faiss_build("AVX2", ("avx2", "avx512f")), "AVX-512"),
        (faiss_build("NONE", ("avx2",)), "without SIMD"),
        (threads("1", 1), None),
        (threads(None, 1), None),
        (threads(None, 8), "OMP_NUM_THREADS=1"),
        (openmp_pools([]), None),
        (openmp_pools(MAPS.splitlines()), None),
        (openmp_pools([*MAPS.splitlines(), "7f05-7f06 r-xp 0 fe:00 3    /torch/lib/libgomp-6a29.so.1"]), "compete"),
        (openmp_pools([*MAPS.splitlines(), "7f05-7f06 r-xp 0 fe:00 3    /mkl/libiomp5.so"]), "compete"),
        (neighbours(CpuTimes(0, 0), CpuTimes(1, 100), Pauses(40.0, 0.001)), None),
        (neighbours(CpuTimes(0, 0), CpuTimes(3, 100), Pauses(40.0, 0.001)), "quiet"),
        (neighbours(CpuTimes(0, 0), CpuTimes(0, 100), Pauses(9000.0, 0.2)), "quiet"),
    ],
)
def test_a_finding_says_what_would_be_slow_or_nothing(finding: Finding, complaint: str | None) -> None:
    """Silence where all is well; otherwise what is slow and what to do."""
    assert (complaint is None) == (finding.slow is None)
    assert complaint is None or complaint in (finding.slow or "")


def test_pools_are_named_once() -> None:
    """A library is mapped in several parts; other libraries are none of our business."""
    assert "libgomp-e985.so.1.0.0" == openmp_pools(MAPS.splitlines()).found


def test_the_doctor_looks_at_everything_here() -> None:
    """Runs without a release, a catalogue or a service."""
    diagnosis = run()

    subjects = {finding.subject for finding in diagnosis.findings}
    assert {"cpu", "instruction sets", "cores", "versions", "faiss", "threads", "neighbours"} <= subjects
    assert diagnosis.healthy == all(finding.slow is None for finding in diagnosis.findings)
    assert len(diagnosis.findings) == diagnosis.table().row_count
