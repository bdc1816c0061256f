"""Services that run, measured side by side: recall of their answers, latency, CPU, memory and throughput."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np

from benchmarks.blocks import Block, Measured, Progress, interleave, timed
from benchmarks.client import KeptConnection
from benchmarks.peers import calls_in_block
from benchmarks.server import Server, cpu_seconds
from benchmarks.vectors import K

CONNECTIONS = 4  # of the closed loop that measures throughput
_RATE_SHARE = 4  # the blocks of the throughput are so many times fewer than those of the latency


class Asked(NamedTuple):
    """A service that runs and was asked every query once."""

    name: str
    searched: str | None  # its index, in its own words
    products: int | None
    server: Server
    targets: Sequence[str]
    ann_recall_at_10: float | None  # None: it searches nothing
    p50_us: float  # of that once


class MeasuredServices(NamedTuple):
    """Each service by its name, in the same blocks."""

    latency: Measured
    throughput: Measured  # p50_us: wall clock for an answer while all connections are busy


def measure(
    asked: Sequence[Asked], *, core: int, blocks: int, calls: int, progress: Progress | None = None
) -> MeasuredServices:
    """Latency from this thread, then throughput from the cores that are not `core`."""
    fewer = {one.name: calls_in_block(one.p50_us, most=calls) for one in asked}
    busy_blocks = max(1, blocks // _RATE_SHARE)
    total = blocks + busy_blocks + 2

    def step(offset: int) -> Progress | None:
        return None if progress is None else lambda done, _total: progress(offset + done, total)

    latency = interleave(
        {one.name: partial(_latency, one, fewer[one.name]) for one in asked}, blocks=blocks, progress=step(0)
    )
    with ThreadPoolExecutor(CONNECTIONS, initializer=_leave, initargs=(core,)) as pool:
        throughput = interleave(
            {one.name: partial(_rate, pool, one, fewer[one.name]) for one in asked},
            blocks=busy_blocks,
            progress=step(blocks + 1),
        )
    return MeasuredServices(latency, throughput)


def recall_of(found: Sequence[Sequence[str]], near_ids: Sequence[frozenset[str]]) -> float:
    """ann_recall@10: of the ids found for each query, best first, the share of its exact nearest."""
    shares = [
        min(len(near.intersection(ids[:K])), K) / min(K, len(near)) for ids, near in zip(found, near_ids, strict=True)
    ]
    return float(np.mean(shares))


def memory_mb(server: Server) -> float | None:
    """Resident memory of the process and its children, mapped files included; None where it is not ours to look at."""
    if server.process is None:
        return None
    processes = (server.process, *server.process.children(recursive=True))
    return float(sum(process.memory_info().rss for process in processes) / 1e6)


def ask_all(
    server: Server,
    targets: Sequence[str],
    ids: Callable[[bytes], list[str]],
    near_ids: Sequence[frozenset[str]],
) -> tuple[float, float]:
    """ann_recall@10 of the answers, and their p50 in microseconds; it also warms the service up."""
    bodies: list[bytes] = []
    with KeptConnection(server.host, server.port) as connection:
        ran = timed(lambda at: bodies.append(connection.get(targets[at])), calls=len(targets))
    return recall_of([ids(body) for body in bodies], near_ids), float(np.median(ran.latencies_us))


def _connected(one: Asked) -> KeptConnection:
    """New for every block, outside of what is timed: a server hangs up where nobody asks it for some seconds."""
    return KeptConnection(one.server.host, one.server.port)


def _leave(core: int) -> None:
    """Of this thread: use any core but that one, where there is another."""
    others = set(range(os.cpu_count() or 1)) - {core}
    if others:
        os.sched_setaffinity(0, others)


def _latency(one: Asked, calls: int, block: int) -> Block:
    """Requests one after the other, with the server's CPU time."""
    with _connected(one) as connection:
        before = _cpu_us(one.server)
        ran = timed(lambda at: connection.get(one.targets[at % len(one.targets)]), calls=calls, first=block * calls)
        return Block(latencies_us=ran.latencies_us, cpu_us=_since(before, one.server, calls))


def _rate(pool: ThreadPoolExecutor, one: Asked, calls: int, block: int) -> Block:
    """All connections busy for as many requests each: the wall clock of one answer."""
    with ExitStack() as stack:
        connections = [stack.enter_context(_connected(one)) for _ in range(CONNECTIONS)]

        def ask(number: int) -> None:
            first = (block * CONNECTIONS + number) * calls
            for at in range(first, first + calls):
                connections[number].get(one.targets[at % len(one.targets)])

        answers = calls * CONNECTIONS
        before, started_ns = _cpu_us(one.server), perf_counter_ns()
        list(pool.map(ask, range(CONNECTIONS)))
        wall_us = (perf_counter_ns() - started_ns) / 1e3
        return Block(latencies_us=np.array([wall_us / answers]), cpu_us=_since(before, one.server, answers))


def _cpu_us(server: Server) -> float | None:
    return None if server.process is None else cpu_seconds(server.process) * 1e6


def _since(before: float | None, server: Server, calls: int) -> float | None:
    after = _cpu_us(server)
    return None if before is None or after is None else (after - before) / calls
