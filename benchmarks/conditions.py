"""What a number was measured on: the machine, the commit, the versions. A number without them is no result."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from index.generations import GenerationManifest

ROOT = Path(__file__).parents[1]
CPUINFO = Path("/proc/cpuinfo")
CGROUP_QUOTAS = (Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
PACKAGES = ("faiss-cpu", "onnxruntime", "numpy", "torch", "uvicorn")
ISA = ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimd", "sve")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it ran."""

    host: str
    cpu: str
    isa: tuple[str, ...]  # of the vector extensions that matter here
    cores: float  # granted: by affinity, and by quota where there is one
    kernel: str


def searched(manifest: GenerationManifest) -> dict[str, Any]:
    """Conditions of a search: what it went through."""
    return {
        "release": manifest.release,
        "generation": manifest.generation,
        "factory": manifest.factory,
        "products": manifest.count,
    }


def machine() -> Machine:
    """This machine, as this process may use it."""
    cpuinfo = CPUINFO.read_text() if CPUINFO.exists() else ""
    return Machine(
        host=platform.node(),
        cpu=cpu_model(cpuinfo),
        isa=isa_of(cpuinfo),
        cores=granted_cores(),
        kernel=platform.release(),
    )


def conditions(*, threads: int, **details: Any) -> dict[str, Any]:
    """Everything a reader needs to doubt or repeat a measurement; `details` are the benchmark's own."""
    where = machine()
    return {
        "host": where.host,
        "cpu": where.cpu,
        "isa": " ".join(where.isa),
        "cores": where.cores,
        "kernel": where.kernel,
        "threads": threads,
        "commit": commit(),
        "python": platform.python_version(),
        **versions(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **details,
    }


def cpu_model(cpuinfo: str) -> str:
    """The model's name from the text of /proc/cpuinfo."""
    names = (line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name"))
    return next(names, platform.machine())


def isa_of(cpuinfo: str) -> tuple[str, ...]:
    """Which of `ISA` the text of /proc/cpuinfo lists."""
    lines = (line.partition(":")[2] for line in cpuinfo.splitlines() if line.startswith(("flags", "Features")))
    flags = set(next(lines, "").split())
    return tuple(name for name in ISA if name in flags)


def granted_cores() -> float:
    """Cores that this process may use: those of its affinity, or its control group's share when that is less."""
    return min([float(len(os.sched_getaffinity(0))), *(share for path in CGROUP_QUOTAS if (share := quota(path)))])


def quota(path: Path) -> float | None:
    """Cores granted by a control group's file, of version 2 ("max 100000") or 1 ("-1"); None: no limit."""
    if not path.exists():
        return None
    limit, period, *_ = [*path.read_text().split(), "100000"]
    return None if limit in {"max", "-1"} else float(limit) / float(period)


def versions() -> dict[str, str]:
    """The installed ones of the packages that decide the speed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit that runs, with a `+` where files differ from it; "unknown" without git."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    try:
        name = _ask(git, "rev-parse", "--short", "HEAD")
        return name + ("+" if _ask(git, "status", "--porcelain", "--untracked-files=no") else "")
    except subprocess.CalledProcessError:
        return "unknown"


def _ask(git: str, *arguments: str) -> str:
    asked = subprocess.run([git, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - fixed
    return asked.stdout.strip()


@contextmanager
def kept_to(core: int) -> Iterator[None]:
    """Keep this thread, and processes started meanwhile, on one core."""
    granted = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, granted)


@contextmanager
def pinned() -> Iterator[int]:
    """`kept_to` a core, whose number it gives.

    Waking another core of a virtual machine costs more than what is measured here.
    """
    core = max(os.sched_getaffinity(0))  # the first one also serves interrupts
    with kept_to(core):
        yield core
