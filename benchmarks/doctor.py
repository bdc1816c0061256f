"""What this machine and installation are, and what of them would make the service slow. Needs no running service."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from rich.table import Table

from benchmarks.conditions import machine, versions
from benchmarks.disturbance import STEAL_LIMIT, CpuTimes, Pauses, cpu_times, spin, steal_between
from models.runtime import onnx_providers

MAPS = Path("/proc/self/maps")
SPIN_MS = 300.0
_LOST_LIMIT = 0.01  # share of a spinning loop's time
_OPENMP = re.compile(r"/lib(?:g|i)?omp[-.\w]*\.so[.\w]*$")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fact, and what it slows down and how to mend it; None where all is well."""

    subject: str
    found: str
    slow: str | None = None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All findings."""

    findings: list[Finding]

    @property
    def healthy(self) -> bool:
        return all(finding.slow is None for finding in self.findings)

    def table(self) -> Table:
        table = Table("", "found", "what would be slow")
        for finding in self.findings:
            table.add_row(finding.subject, finding.found, finding.slow or "", style="yellow" if finding.slow else None)
        return table


def run() -> Diagnosis:
    """Look at the processor, the libraries and, for a moment, at the neighbours."""
    before = cpu_times()
    pauses = spin(milliseconds=SPIN_MS)
    where = machine()
    return Diagnosis(
        findings=[
            Finding(subject="cpu", found=f"{where.cpu}, kernel {where.kernel}"),
            instruction_sets(where.isa),
            cores(where.cores, os.cpu_count() or 1),
            Finding(subject="versions", found=", ".join(f"{name} {number}" for name, number in versions().items())),
            faiss_build(faiss.SIMDConfig.get_level_name(), where.isa),
            Finding(subject="onnxruntime", found=", ".join(onnx_providers())),
            Finding(subject="numpy", found=numpy_blas()),
            threads(os.environ.get("OMP_NUM_THREADS"), faiss.omp_get_max_threads()),
            openmp_pools(MAPS.read_text().splitlines() if MAPS.exists() else []),
            neighbours(before, cpu_times(), pauses),
        ]
    )


def instruction_sets(isa: tuple[str, ...]) -> Finding:
    """The fast scan of 4-bit codes and the towers' products need wide registers."""
    wide = {"avx2", "asimd"} & set(isa)
    slow = None if wide else "the index' fast scan and the towers: neither AVX2 nor NEON; use another machine type"
    return Finding(subject="instruction sets", found=" ".join(isa) or "none that matter", slow=slow)


def cores(granted: float, present: int) -> Finding:
    """Less than one core throttles a request in its middle."""
    slow = None if granted >= 1 else "everything, in bursts: the control group grants less than one core; raise it"
    return Finding(subject="cores", found=f"{granted:g} granted of {present}", slow=slow)


def faiss_build(level: str, isa: tuple[str, ...]) -> Finding:
    """Whether Faiss runs the code that the processor allows."""
    slow = None
    if level == "NONE":
        slow = "every vector comparison: Faiss runs without SIMD; install the faiss-cpu wheel of this platform"
    elif level == "AVX2" and "avx512f" in isa:
        slow = "vector comparisons, somewhat: Faiss runs AVX2 though the processor has AVX-512"
    return Finding(subject="faiss", found=f"SIMD level {level}", slow=slow)


def numpy_blas() -> str:
    """The linear algebra that exact search runs on."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"


def threads(setting: str | None, openmp: int) -> Finding:
    """The service sets every pool to one thread; other programs that import our index do not."""
    found = f"OMP_NUM_THREADS={setting or 'unset'}, OpenMP would start {openmp}"
    slow = None
    if setting is None and openmp > 1:
        slow = "your own programs with many threads: set OMP_NUM_THREADS=1 (`que2search serve` does so itself)"
    return Finding(subject="threads", found=found, slow=slow)


def openmp_pools(maps: Iterable[str]) -> Finding:
    """Several OpenMP libraries in one process make a pool each, which then compete for the cores.

    Args:
        maps: the lines of /proc/PID/maps.
    """
    paths = {line.split(maxsplit=5)[-1] for line in maps if _OPENMP.search(line)}
    slow = (
        None if len(paths) < 2 else "whatever runs beside them: several OpenMP pools compete; keep torch out of serving"
    )
    return Finding(
        subject="OpenMP pools", found=", ".join(sorted(Path(path).name for path in paths)) or "none", slow=slow
    )


def neighbours(before: CpuTimes, after: CpuTimes, pauses: Pauses) -> Finding:
    """CPU steal, and what a spinning loop missed, between two looks at the clock."""
    steal = steal_between(before, after)
    found = f"steal {steal:.1%}, longest pause {pauses.longest_us:,.0f} us, {pauses.lost:.2%} of the time lost"
    disturbed = steal > STEAL_LIMIT or pauses.lost > _LOST_LIMIT
    slow = "the slowest requests: others take this machine's cores; measure when it is quiet" if disturbed else None
    return Finding(subject="neighbours", found=found, slow=slow)
