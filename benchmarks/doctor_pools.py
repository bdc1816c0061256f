"""What thread pools and the server's own parts cost, measured in moments on the libraries that are installed."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from time import perf_counter
from typing import Any, NamedTuple

import faiss
import numpy as np
import onnxruntime

from benchmarks.doctor_costs import Times, times

_SIZE = 384  # of the matrices: large enough for ONNX Runtime to split the product
_ROWS = 8
_BUSY = "while True: pass"
# Each library's pool runs when it is asked, and spins for a while afterwards.
_LOAD_TORCH = """
import json, os, resource, statistics, time
import faiss, numpy, onnxruntime
vectors = numpy.ones((20_000, 64), numpy.float32)
ann = faiss.IndexFlatIP(64)
ann.add(vectors)
def median_us(between):
    took = []
    for _ in range(200):
        between()
        started = time.perf_counter()
        ann.search(vectors[:1], 10)
        took.append((time.perf_counter() - started) * 1e6)
    return statistics.median(took)
alone_us = median_us(lambda: None)
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
import torch
values = torch.ones(256, 256)
values @ values
seconds = time.perf_counter() - started
print(json.dumps({
    "seconds": seconds,
    "megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    "alone_us": alone_us,
    "in_turn_us": median_us(lambda: values @ values),
    "maps": open("/proc/self/maps").read().splitlines(),
}))
"""


class Threads(NamedTuple):
    """One flat Faiss search on one thread, and on `threads`."""

    threads: int
    one: Times
    many: Times


class Pools(NamedTuple):
    """A product of matrices in ONNX Runtime beside a busy process: one thread, a pool that waits, one that spins."""

    one: Times
    waiting: Times
    spinning: Times


class Exchanges(NamedTuple):
    """A message there and back inside one event loop."""

    asyncio_us: float
    uvloop_us: float | None  # None: not installed


class Loaded(NamedTuple):
    """A process that loaded torch beside Faiss and ONNX Runtime, each with the threads that it likes."""

    seconds: float
    megabytes: float
    alone_us: float  # a flat Faiss search before
    in_turn_us: float  # the same after each product of matrices in torch
    maps: list[str]  # lines of /proc/PID/maps


def search_threads(count: int, *, rounds: int = 5) -> Threads:
    """A flat search of 20,000 made-up vectors with one OpenMP thread and with `count`, in turn."""
    vectors = np.random.default_rng(0).standard_normal((20_000, 64), dtype=np.float32)
    ann = faiss.IndexFlatIP(64)
    ann.add(vectors)
    before = faiss.omp_get_max_threads()

    def search(openmp: int) -> Times:
        faiss.omp_set_num_threads(openmp)
        return times(lambda: ann.search(vectors[:1], 10), calls=60)

    try:
        found = [(search(1), search(count)) for _ in range(rounds)]
    finally:
        faiss.omp_set_num_threads(before)
    one, many = zip(*found, strict=True)
    return Threads(count, _median(one), _median(many))


def onnx_pools(count: int, *, rounds: int = 5) -> Pools:
    """Sessions of one thread, of `count` that wait and of `count` that spin, asked every millisecond in turn."""
    sessions = [_session(*pool) for pool in ((1, False), (count, False), (count, True))]
    values = {"x": np.ones((_ROWS, _SIZE), np.float32), "w": np.ones((_SIZE, _SIZE), np.float32)}

    def product(session: Any) -> Times:
        return times(lambda: session.run(None, values), calls=40, pause_s=0.001)

    with _busy_process():
        found = [[product(session) for session in sessions] for _ in range(rounds)]
    return Pools(*map(_median, zip(*found, strict=True)))


def event_loops() -> Exchanges:
    """What the event loop itself adds to an exchange over a pair of sockets."""
    if find_spec("uvloop") is None:
        return Exchanges(_exchange_us(asyncio.new_event_loop), None)
    import uvloop  # noqa: PLC0415 - only where it is installed

    return Exchanges(_exchange_us(asyncio.new_event_loop), _exchange_us(uvloop.new_event_loop))


def load_torch() -> Loaded | None:
    """Load it in a process of its own; None where that fails."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    ran = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", _LOAD_TORCH], env=environment, capture_output=True, text=True, check=False
    )
    return Loaded(**json.loads(ran.stdout)) if ran.returncode == 0 else None


@contextmanager
def _busy_process() -> Iterator[None]:
    """Somebody who wants a core all the time."""
    running = subprocess.Popen([sys.executable, "-I", "-S", "-c", _BUSY])  # noqa: S603 - our own
    try:
        yield
    finally:
        running.kill()
        running.wait()


def _median(found: Sequence[Times]) -> Times:
    return Times(*np.median(np.array(found), axis=0).tolist())


def _session(threads: int, spinning: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return onnxruntime.InferenceSession(matrix_product(), options, providers=["CPUExecutionProvider"])


def matrix_product() -> bytes:
    """An ONNX model that multiplies x by w, written field by field: serving does not install the `onnx` package."""
    node = _field(1, b"x") + _field(1, b"w") + _field(2, b"y") + _field(4, b"MatMul")
    inputs = _field(11, _value(b"x", _ROWS, _SIZE)) + _field(11, _value(b"w", _SIZE, _SIZE))
    graph = _field(1, node) + _field(2, b"product") + inputs + _field(12, _value(b"y", _ROWS, _SIZE))
    return _field(1, 9) + _field(7, graph) + _field(8, _field(2, 17))  # IR version 9, opset 17


def _value(name: bytes, rows: int, columns: int) -> bytes:
    """A ValueInfoProto of a float matrix."""
    shape = _field(1, _field(1, rows)) + _field(1, _field(1, columns))
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))


def _field(number: int, value: int | bytes) -> bytes:
    """A field as Protocol Buffers write it: a number, or bytes behind their length."""
    if isinstance(value, int):
        return bytes([number << 3]) + _varint(value)
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    head = bytes([value & 127 | 128]) if value > 127 else b""
    return head + _varint(value >> 7) if head else bytes([value])


def _exchange_us(make_loop: Callable[[], asyncio.AbstractEventLoop], *, calls: int = 500) -> float:
    async def exchange() -> float:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            far.setblocking(False)
            started = perf_counter()
            for _ in range(calls):
                for sender, receiver in ((near, far), (far, near)):
                    waiting = loop.create_task(loop.sock_recv(receiver, 1))
                    await asyncio.sleep(0)  # it waits before anything comes, as a server does
                    await loop.sock_sendall(sender, b".")
                    await waiting
            return (perf_counter() - started) * 1e6 / calls

    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(exchange())
