"""What live writes cost searches, and how soon they are found: searches beside writes and without, in turn.

Writes to another server on the machine are the floor: what they cost by taking processors, caches and memory alone.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import psutil  # type: ignore[import-untyped]  # it ships no types

from benchmarks.answers import is_degraded
from benchmarks.blocks import Arm, Block, Measured, Progress, interleave
from benchmarks.client import KeptConnection
from benchmarks.conditions import conditions, kept_to, searched
from benchmarks.histograms import encoded
from benchmarks.http import cpu_ratio, first_target
from benchmarks.load_schedule import Arrivals
from benchmarks.queries import choose
from benchmarks.report import Row
from benchmarks.server import PATIENT, Server, own_cpu_seconds, started
from benchmarks.tails import TailResult
from benchmarks.writes_copy import copied
from benchmarks.writes_load import (
    WriteLoad,
    Written,
    done_per_s,
    latency_row,
    until_acknowledged_us,
    until_searchable_us,
)
from benchmarks.writes_material import Material
from benchmarks.writes_verdicts import fresh, ratios, searches, sustained
from index.catalogue import Catalogue
from index.generations import open_current
from models.runtime import open_release
from service.client import ClientError

WITHOUT, BESIDE, FLOOR = "search, no writes", "search beside writes", "search, writes elsewhere"
ACKNOWLEDGED, SEARCHABLE = "write, until acknowledged", "write, until searchable"
# A compaction would fall into some blocks and not others; a write that waits is to be timed, not given up.
WRITING = {"Q2S_WRITES": "true", "Q2S_COMPACT_AT": "0", "Q2S_TIMEOUT_MS": "20000"}
HELPERS = ("committer", "indexer")
LEAD_S = 1.0  # of writes before the searches beside them: clients start, the indexer has work
REST_S = 0.3  # after them: what was written last is embedded


def run(
    release: Path,
    catalogue: Path,
    *,
    data: Path | None = None,
    queries: int = 20_000,
    seed: int = 0,
    rate: float = 100.0,
    arrivals: Arrivals = "poisson",
    waiting: float = 0.1,
    blocks: int = 20,
    seconds: float = 4.0,
    progress: Progress | None = None,
) -> TailResult:
    """Search first pages one after the other; in two blocks of three, write to the catalogue's copy, or to another one.

    The client that searches is on the core of the server's worker; committers, indexers, the other server, and the
    clients that write run where the system puts them.

    Args:
        data, queries, seed: a dataset whose searched queries are asked, how many, and how they are drawn; without one,
            the release's golden queries. The seed also draws what is written.
        rate, arrivals: of the writes.
        waiting: share of them that wait until they are searchable.
        blocks, seconds: rounds, and seconds of searches in each block.
        progress: called with (done, total) rounds.

    Raises:
        ReleaseError, DataError: the release or the dataset cannot be opened, or has too few queries.
        CatalogueError, IndexFileError: the catalogue cannot be read or copied.
        ClientError: there is no room for a copy, the server does not start, or a search fails.
    """
    opened = open_release(release)
    chosen = choose(opened, data, count=queries, seed=seed)
    manifest = open_current(catalogue, verify=False).manifest
    core = max(os.sched_getaffinity(0))
    with ExitStack() as stack:
        copies = [stack.enter_context(copied(catalogue)) for _ in range(2)]
        models = stack.enter_context(Catalogue.open(catalogue))
        here, elsewhere = (
            WriteLoad(
                server=stack.enter_context(started(release, copy, watch_share=0.0, settings=WRITING | PATIENT)),
                material=Material(models, seed=seed),
                rate=rate,
                waiting=waiting,
                arrivals=arrivals,
                seed=seed,
            )
            for copy in copies
        )
        worker = Worker.of(here.server, core)
        client = Client(worker, [first_target(query) for query in chosen.queries], seconds)
        written: list[Written] = []
        before_s = worker.helpers_cpu_seconds()
        arms: dict[str, Callable[[int], Block]] = {
            WITHOUT: client.alone,
            BESIDE: partial(client.beside, here, written),
            FLOOR: partial(client.beside, elsewhere, []),
        }
        measured = interleave(arms, blocks=blocks, progress=progress)
        took_s = {name: took - before_s[name] for name, took in worker.helpers_cpu_seconds().items()}
    done = max(1, sum(each.done for each in written))
    return judged(
        measured,
        written[1:],  # the first block is the warm-up's
        conditions=conditions(
            threads=1,
            core_of_worker_and_client=core,
            **searched(manifest),
            **chosen.conditions(),
            query_vector_cache="off",
            offered_writes_per_s=rate,
            arrivals=arrivals,
            waiting_share=waiting,
            seconds_per_block=seconds,
            **{f"{name}_cpu_us_per_write": round(took * 1e6 / done, 1) for name, took in took_s.items()},
            **measured.conditions(),
        ),
    )


class Worker(NamedTuple):
    """The process that searches, and those that commit and embed."""

    server: Server
    process: psutil.Process
    helpers: Mapping[str, psutil.Process]
    core: int

    @classmethod
    def of(cls, server: Server, core: int) -> "Worker":
        """Keeps the process that searches on the core, all its threads.

        Raises:
            ClientError: the server's processes are not all there.
        """
        process = server.process
        children = [] if process is None else process.children(recursive=True)
        helpers = {name: each for each in children for name in HELPERS if f"service.{name}" in each.cmdline()}
        if process is None or len(helpers) < len(HELPERS):
            lacking = ", ".join(name for name in HELPERS if name not in helpers)
            raise ClientError(f"the server at {server.host}:{server.port} lacks {lacking}; is its catalogue writable?")
        for thread in process.threads():
            os.sched_setaffinity(thread.id, {core})
        return cls(server, process, helpers, core)

    def helpers_cpu_seconds(self) -> dict[str, float]:
        """What each has taken so far."""
        return {name: own_cpu_seconds(process) for name, process in self.helpers.items()}


class Client:
    """Asks for first pages, one after the other.

    Args:
        worker: asked.
        targets: in turn.
        seconds: of a block.
    """

    def __init__(self, worker: Worker, targets: Sequence[str], seconds: float) -> None:
        self._worker = worker
        self._targets = targets
        self._seconds = seconds
        self._asked = 0

    def alone(self, _: int) -> Block:
        """A block of searches."""
        worker, latencies, degraded = self._worker, list[float](), 0
        with kept_to(worker.core), KeptConnection(worker.server.host, worker.server.port) as connection:
            connection.get(self._targets[0])
            before = own_cpu_seconds(worker.process)
            end = (now := perf_counter()) + self._seconds
            while now < end:
                answer = connection.ask(self._targets[self._asked % len(self._targets)])
                answered = perf_counter()
                latencies.append((answered - now) * 1e6)
                degraded += is_degraded(answer.body)
                self._asked += 1
                now = perf_counter()
            spent = own_cpu_seconds(worker.process) - before
        return Block(latencies_us=np.array(latencies), cpu_us=spent * 1e6 / len(latencies), degraded=degraded)

    def beside(self, load: WriteLoad, written: list[Written], number: int) -> Block:
        """The same while products are written, and what became of these."""
        with load.going(LEAD_S + self._seconds, written, number=number):
            time.sleep(LEAD_S)
            block = self.alone(number)
        time.sleep(REST_S)
        return block


def judged(measured: Measured, written: Sequence[Written], *, conditions: Mapping[str, Any]) -> TailResult:
    """Searches beside writes and without, the writes themselves, and whether what must hold does."""
    beside, without, floor = (measured.arms[name] for name in (BESIDE, WITHOUT, FLOOR))
    writes = {ACKNOWLEDGED: until_acknowledged_us(written), SEARCHABLE: until_searchable_us(written)}
    verdicts = [fresh(writes[SEARCHABLE]), sustained(written), *searches(beside, without, tail=True)]
    latencies = {name: arm.latencies_us for name, arm in measured.arms.items()} | writes
    return TailResult(
        bench="writes",
        title="First pages beside live writes, and how soon those are found",
        rows=[
            *(_search_row(name, arm, without) for name, arm in measured.arms.items()),
            *(latency_row(name, each) for name, each in writes.items()),
        ],
        conditions={
            **conditions,
            "writes": sum(each.asked for each in written),
            "done_writes_per_s": round(done_per_s(written), 2),
            **ratios(beside, without),
            **{f"floor_{name}": ratio for name, ratio in ratios(floor, without).items()},
            "holds": all(verdict.holds for verdict in verdicts),
        },
        notes=[
            *map(str, verdicts),
            "writes count from when they were due, in all blocks, disturbed ones too;",
            "until searchable: of those that ask to wait; each was acknowledged on the way, so from there it is less;",
            "CPU: of the process that searches, which also takes the writes and applies them; of its helpers: below;",
            "writes elsewhere: to another server on this machine, which costs processors, caches and memory alone.",
            *measured.notes(),
        ],
        histograms={name: encoded(each) for name, each in latencies.items()},
    )


def _search_row(name: str, arm: Arm, without: Arm) -> Row:
    return {
        "name": name,
        "count": arm.calls,
        "p50_us": arm.p50_us,
        "p99_us": arm.p99_us,
        "max_us": float(arm.latencies_us.max()),
        "cpu_us": arm.cpu_us,
        "p50_over_without": arm.p50_us / without.p50_us,
        "p99_over_without": arm.p99_us / without.p99_us,
        "cpu_over_without": cpu_ratio(arm, without),
        "degraded": arm.degraded,
    }
