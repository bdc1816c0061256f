"""The doctor's eye for what is installed: libraries, their thread pools, and the server's parts."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.doctor_pools import Exchanges, Loaded, Pools, Threads
from benchmarks.doctor_report import Finding

SERVER_PARTS = ("uvloop", "httptools")
_OPENMP = re.compile(r"/lib(?:g|i)?omp[-.\w]*\.so[.\w]*$")


def faiss_build(level: str, isa: tuple[str, ...]) -> Finding:
    """Whether Faiss runs the code that the processor allows."""
    found, remedy = f"SIMD level {level}", "install the faiss-cpu wheel of this platform"
    if level == "NONE":
        return Finding(subject="faiss", found=found, slow="every vector comparison, without SIMD", remedy=remedy)
    if level == "AVX2" and "avx512f" in isa:
        slow = "vector comparisons, somewhat: AVX2 where the processor has AVX-512"
        return Finding(subject="faiss", found=found, slow=slow, remedy=remedy)
    return Finding(subject="faiss", found=found)


def numpy_blas() -> str:
    """The linear algebra that exact search runs on."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"


def threads(environ: Mapping[str, str], openmp: int, measured: Threads | None) -> Finding:
    """The service sets every pool to one thread; other programs that import our index do not.

    Args:
        environ: the environment's variables.
        openmp: threads that OpenMP would start.
        measured: a search with one thread and with every core's; None where it was not measured.
    """
    setting, waiting = environ.get("OMP_NUM_THREADS"), environ.get("OMP_WAIT_POLICY", "")
    slow = remedy = None
    if setting is None and openmp > 1:
        slow = "your own programs that search on many threads"
        remedy = "set OMP_NUM_THREADS=1 (`que2search serve` does so itself)"
    elif waiting.lower() == "active":
        slow, remedy = "whatever shares the cores with a pool that spins", "unset OMP_WAIT_POLICY"
    costs = None
    if measured is not None:
        one, many = measured.one, measured.many
        costs = (
            f"one flat search: {one.p50_us:,.0f} us, {one.cpu_us:,.0f} us of CPU; "
            f"with {measured.threads} threads {many.p50_us:,.0f} and {many.cpu_us:,.0f}"
        )
    found = f"OMP_NUM_THREADS={setting or 'unset'}, OpenMP would start {openmp}"
    return Finding(subject="threads", found=found, costs=costs, slow=slow, remedy=remedy)


def onnx_pool(providers: Iterable[str], measured: Pools | None) -> Finding:
    """The towers run on one thread that never spins; what ONNX Runtime's own pool would cost beside a busy process."""
    costs = None
    if measured is not None:
        arms = ("one thread", measured.one), ("a pool", measured.waiting), ("a spinning pool", measured.spinning)
        costs = "a product beside a busy process: " + "; ".join(
            f"{name} p99 {arm.p99_us:,.0f} us, {arm.cpu_us:,.0f} us of CPU" for name, arm in arms
        )
    return Finding(subject="onnxruntime", found=", ".join(providers), costs=costs)


def openmp_pools(maps: Iterable[str], openmp: int, loaded: Loaded | None) -> Finding:
    """Several OpenMP libraries in one process make a pool each, which compete for the cores when they have threads.

    Args:
        maps: the lines of /proc/PID/maps.
        openmp: threads that OpenMP would start.
        loaded: how torch's pool meets Faiss'; None where it was not measured.
    """
    names = openmp_names(maps)
    compete = len(names) > 1 and openmp > 1
    costs = None
    if loaded is not None:
        costs = (
            f"one flat search: {loaded.alone_us:,.0f} us alone, {loaded.in_turn_us:,.0f} us in turn with torch's pool"
        )
    return Finding(
        subject="OpenMP pools",
        found=", ".join(names) or "none",
        costs=costs,
        slow="programs that use several of them: their pools compete" if compete else None,
        remedy="set OMP_NUM_THREADS=1, and keep torch out of serving" if compete else None,
    )


def openmp_names(maps: Iterable[str]) -> list[str]:
    """The OpenMP libraries among the lines of /proc/PID/maps, each once and with the folder that tells whose it is."""
    paths = {line.split(maxsplit=5)[-1] for line in maps if _OPENMP.search(line)}
    return sorted("/".join(Path(path).parts[-2:]) for path in paths)


def torch(version: str | None, loaded: Loaded | None) -> Finding:
    """Serving never loads it; the torchscript engine and training do."""
    if version is None:
        return Finding(subject="torch", found="not installed: serving needs none")
    costs = None
    if loaded is not None:
        costs = f"loading it takes {loaded.seconds:.1f} s and {loaded.megabytes:,.0f} MB"
    return Finding(subject="torch", found=f"{version}; only the torchscript engine loads it", costs=costs)


def server_parts(missing: Iterable[str], exchanges: Exchanges | None) -> Finding:
    """The event loop and the parser in C that the server is started with."""
    lacking = " and ".join(missing)
    costs = None
    if exchanges is not None:
        quick = "" if exchanges.uvloop_us is None else f", {exchanges.uvloop_us:.0f} us on uvloop's"
        costs = f"a message there and back: {exchanges.asyncio_us:.0f} us on asyncio's loop{quick}"
    return Finding(
        subject="server",
        found=f"{lacking} missing" if lacking else "uvloop, httptools",
        costs=costs,
        slow="everything: `que2search serve` cannot start" if lacking else None,
        remedy='pip install "uvicorn[standard]" for this platform' if lacking else None,
    )
