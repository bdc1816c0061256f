"""What the machine itself costs, measured in moments: waking, system calls, clocks, pages. Of this time and place."""

import mmap
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import NamedTuple

import numpy as np

_PAGE = 4096
_SEARCHED_BYTES = 4 << 20  # about what a search reads: weights, centroids, codes
_GATHERED_BYTES = 64 << 20  # more than the caches and the first table of addresses hold
# Answers each byte on a core of its own; the least that a process can do.
_ECHO = "import os\nos.sched_setaffinity(0, {{{core}}})\nwhile os.read({source}, 1): os.write({sink}, b'.')"


class Times(NamedTuple):
    """Of one kind of call."""

    p50_us: float
    p99_us: float
    cpu_us: float  # of this process, a call


class WakeUp(NamedTuple):
    """A byte there and back between processes on the same core, and on two; None where there is one core only."""

    same: Times
    other: Times | None


class SystemCalls(NamedTuple):
    call_ns: float
    exchange_us: float  # a message over loopback TCP and back, in one thread


class Gathers(NamedTuple):
    """Nanoseconds of a random read of more memory than the caches hold."""

    small_ns: float
    huge_ns: float


class Ramp(NamedTuple):
    """The same work, just after a pause and in the middle of more."""

    after_pause_us: float
    warm_us: float


class Pages(NamedTuple):
    """Reading 4 kB of a file."""

    memory_us: float
    disk_us: float


def wake_up(*, calls: int = 200) -> WakeUp:
    """Ping-pong through pipes with pauses between: what a request to an idle server meets."""
    granted = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {granted[-1]})
    try:
        same = _ping(granted[-1], calls)
        return WakeUp(same, _ping(granted[0], calls) if len(granted) > 1 else None)
    finally:
        os.sched_setaffinity(0, granted)


def system_calls() -> SystemCalls:
    """The cheapest call that enters the kernel, and the cheapest exchange that passes through its network."""
    call = times(os.getppid, calls=20_000)
    with _loopback() as (near, far):

        def exchange() -> None:
            near.send(b".")
            far.recv(1)
            far.send(b".")
            near.recv(1)

        return SystemCalls(call.cpu_us * 1e3, times(exchange, calls=1000).p50_us)


def clock_ns() -> float:
    """Nanoseconds that reading the clock takes."""
    started = perf_counter_ns()
    for _ in range(20_000):
        perf_counter_ns()
    return (perf_counter_ns() - started) / 20_000


def gathers(*, rounds: int = 9) -> Gathers:
    """Random reads of anonymous memory in small pages and in huge ones, in turn."""
    at = np.random.default_rng(0).integers(0, _GATHERED_BYTES // 8, 100_000)
    tables = [_touched(advice) for advice in (mmap.MADV_NOHUGEPAGE, mmap.MADV_HUGEPAGE)]
    found = [[times(partial(_gather, table, at), calls=1).p50_us for table in tables] for _ in range(rounds)]
    small, huge = np.median(np.array(found), axis=0) * 1e3 / len(at)
    return Gathers(float(small), float(huge))


def ramp(*, rounds: int = 9) -> Ramp:
    """Half a millisecond of Python and memory after 50 ms of sleep, and once more after 20 ms of the same."""
    table = np.ones(_SEARCHED_BYTES // 8)

    def work() -> float:
        return sum(range(10_000)) + float(table.sum())

    pairs = []
    for _ in range(rounds):
        time.sleep(0.05)
        after_pause = times(work, calls=1).p50_us
        times(work, calls=40)
        pairs.append((after_pause, times(work, calls=5).p50_us))
    after_pause, warm = np.median(np.array(pairs), axis=0)
    return Ramp(float(after_pause), float(warm))


def pages(path: Path, *, count: int = 64) -> Pages:
    """Read pages of a file here and there: dropped from memory first, then again. Pages that a server maps stay."""
    draw = random.Random(0)
    size = path.stat().st_size
    places = [draw.randrange(max(1, size // _PAGE)) * _PAGE for _ in range(count)]
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # no reading ahead
        for place in places:
            os.posix_fadvise(descriptor, place, _PAGE, os.POSIX_FADV_DONTNEED)
        disk, again = ([_page_us(descriptor, place) for place in places] for _ in range(2))
        return Pages(float(np.median(again)), float(np.median(disk)))
    finally:
        os.close(descriptor)


def times(call: Callable[[], object], *, calls: int, pause_s: float = 0.0) -> Times:
    """Call again and again, with pauses between when asked; the pauses are in no time but may cost CPU."""
    took = np.empty(calls)
    cpu = process_time_ns()
    for at in range(calls):
        if pause_s:
            time.sleep(pause_s)
        started = perf_counter_ns()
        call()
        took[at] = (perf_counter_ns() - started) / 1e3
    spent_us = (process_time_ns() - cpu) / 1e3 / calls
    return Times(float(np.median(took)), float(np.quantile(took, 0.99)), spent_us)


def _ping(core: int, calls: int) -> Times:
    source, request = os.pipe()
    answer, sink = os.pipe()
    code = _ECHO.format(core=core, source=source, sink=sink)
    running = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], pass_fds=(source, sink))  # noqa: S603 - our own
    os.close(source)
    os.close(sink)

    def exchange() -> None:
        os.write(request, b".")
        os.read(answer, 1)

    exchange()  # it has started
    found = times(exchange, calls=calls, pause_s=0.001)
    os.close(request)
    running.wait()
    os.close(answer)
    return found


@contextmanager
def _loopback() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as near:
        far, _ = listening.accept()
        with far:
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield near, far


def _touched(advice: int) -> np.ndarray:
    """Anonymous memory, every page of it present."""
    memory = mmap.mmap(-1, _GATHERED_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(advice)
    table = np.frombuffer(memory, dtype=np.int64)
    table[:: _PAGE // 8] = 1
    return table


def _gather(table: np.ndarray, at: np.ndarray) -> int:
    return int(table[at].sum())


def _page_us(descriptor: int, place: int) -> float:
    started = perf_counter_ns()
    os.pread(descriptor, _PAGE, place)
    return (perf_counter_ns() - started) / 1e3
