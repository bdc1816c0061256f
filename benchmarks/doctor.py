"""What this machine and installation are, what of them would make the service slow, and what that costs here."""

import os
import resource
from importlib.util import find_spec
from pathlib import Path

import faiss

from benchmarks import doctor_costs, doctor_machine, doctor_pools, doctor_software
from benchmarks.conditions import granted_cores, machine, versions
from benchmarks.disturbance import cpu_times, spin
from benchmarks.doctor_report import Diagnosis, Finding
from index.generations import INDEX_FILE, current_number, generation_path
from models.engines import onnx_providers
from service.server import BACKLOG

MAPS = Path("/proc/self/maps")
QUEUE = Path("/proc/sys/net/core/somaxconn")
MEMORY = Path("/proc/meminfo")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
CPU_FREQUENCY = Path("/sys/devices/system/cpu/cpu0/cpufreq")
# Of the control group's version 2, or 1.
CPU_STATS = (Path("/sys/fs/cgroup/cpu.stat"), Path("/sys/fs/cgroup/cpu/cpu.stat"))
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
SPIN_MS = 300.0


def run(*, quick: bool = False, catalogue: Path | None = None) -> Diagnosis:
    """Look at the machine and the libraries, and measure what they cost: some seconds, on every core.

    Args:
        quick: look, and measure nothing but the neighbours.
        catalogue: whose mapped files are compared with the memory.

    Raises:
        IndexFileError: the catalogue has no generation.
    """
    before, pauses = cpu_times(), spin(milliseconds=SPIN_MS)
    neighbours = doctor_machine.neighbours(before, cpu_times(), pauses)
    return Diagnosis(findings=[*_machine(measure=not quick, catalogue=catalogue), neighbours, *_software(not quick)])


def _machine(*, measure: bool, catalogue: Path | None) -> list[Finding]:
    where = machine()
    governor, megahertz = _text(CPU_FREQUENCY / "scaling_governor"), _text(CPU_FREQUENCY / "scaling_cur_freq")
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [
        Finding(subject="cpu", found=f"{where.cpu}, kernel {where.kernel}"),
        doctor_machine.instruction_sets(where.isa),
        doctor_machine.cores(where.cores, os.cpu_count() or 1),
        doctor_machine.quota(doctor_machine.throttling_of("".join(map(_text, CPU_STATS)))),
        doctor_machine.frequency(
            governor, float(megahertz) / 1e3 if megahertz else None, doctor_costs.ramp() if measure else None
        ),
        doctor_machine.clock(_text(CLOCK_SOURCE), doctor_costs.clock_ns() if measure else None),
        doctor_machine.huge_pages(_text(HUGE_PAGES), doctor_costs.gathers() if measure else None),
        doctor_machine.wake_up(doctor_costs.wake_up() if measure else None),
        doctor_machine.system_calls(doctor_costs.system_calls() if measure else None),
        doctor_machine.connections(open_files, int(_text(QUEUE) or BACKLOG), wanted_backlog=BACKLOG),
        _memory(measure=measure, catalogue=catalogue),
    ]


def _memory(*, measure: bool, catalogue: Path | None) -> Finding:
    limits = map(_text, MEMORY_LIMITS)
    available = doctor_machine.available_bytes(_text(MEMORY), limits)
    if catalogue is None:
        return doctor_machine.memory(available, None, None)
    generation = generation_path(catalogue, current_number(catalogue))
    mapped = [*catalogue.glob("*.lmdb"), *(path for path in generation.rglob("*") if path.is_file())]
    pages = doctor_costs.pages(generation / INDEX_FILE) if measure else None
    return doctor_machine.memory(available, sum(path.stat().st_size for path in mapped), pages)


def _software(measure: bool) -> list[Finding]:
    found = versions()
    count = max(2, int(granted_cores()))
    missing = [part for part in doctor_software.SERVER_PARTS if find_spec(part) is None]
    loaded = doctor_pools.load_torch() if measure and "torch" in found else None
    openmp = faiss.omp_get_max_threads()
    return [
        Finding(subject="versions", found=", ".join(f"{name} {number}" for name, number in found.items())),
        doctor_software.faiss_build(faiss.SIMDConfig.get_level_name(), machine().isa),
        doctor_software.onnx_pool(onnx_providers(), doctor_pools.onnx_pools(count) if measure else None),
        Finding(subject="numpy", found=doctor_software.numpy_blas()),
        doctor_software.threads(os.environ, openmp, doctor_pools.search_threads(count) if measure else None),
        doctor_software.openmp_pools(_text(MAPS).splitlines(), openmp, loaded),
        doctor_software.torch(found.get("torch"), loaded),
        doctor_software.server_parts(missing, doctor_pools.event_loops() if measure else None),
    ]


def _text(path: Path) -> str:
    """Of a file of the kernel's; empty where there is none."""
    return path.read_text().strip() if path.exists() else ""
