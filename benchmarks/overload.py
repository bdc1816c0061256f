"""Three times what the server can do: how those it lets in fare, what a refusal costs, and whether anything grows."""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types

from benchmarks.blocks import Progress
from benchmarks.conditions import conditions, pinned
from benchmarks.disturbance import cpu_times, steal_between
from benchmarks.http import first_target
from benchmarks.open_loop import ask
from benchmarks.open_loop_client import Load
from benchmarks.overload_report import Footprint, Phase, Round, judged
from benchmarks.queries import choose
from benchmarks.report import BenchResult
from benchmarks.server import Server, cpu_seconds, started
from models.runtime import open_release
from service.client import ClientError
from service.settings import load_settings

UNCONTENDED, OVERLOAD, FLOOD = 0.3, 3.0, 6.0  # times the capacity
ALWAYS_BUSY = 2  # connections: one waits while the other is answered, so the server never does
FLOODING = 64  # connections to the server that refuses
# Where next to nothing may wait, one request of each turn of the event loop is searched and the others are refused.
REFUSING = {"Q2S_MAX_WAITING_MS": "0.001", "Q2S_MAX_STANDING_MS": "0.001"}
FIRST_RATE = 100.0
_SETTLED_S = 1.0


def run(
    release: Path,
    catalogue: Path,
    *,
    data: Path | None = None,
    queries: int = 20_000,
    rounds: int = 9,
    seconds: float = 3.0,
    connections: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> BenchResult:
    """Measure the capacity, then load far below and far above it, in turn; the server has a core, the client another.

    Args:
        data: the dataset whose searches are asked, `queries` of them; None: the release's golden queries.
        rounds: how often all phases are repeated, after one round to warm up.
        seconds: of each phase.
        connections: of the open loop; what is due while all are busy waits in the client, and its latency counts on.

    Raises:
        ReleaseError: the release cannot be opened.
        DataError: the dataset has too few queries.
        ClientError: a server does not start, or answers no search.
    """
    limits = load_settings()  # the measured server reads the same environment
    opened = open_release(release)
    asked = choose(opened, data, count=queries, seed=seed)
    with ExitStack() as stack:
        with pinned() as core:
            server = stack.enter_context(started(release, catalogue, watch_share=0.0))
            refusing = stack.enter_context(started(release, catalogue, watch_share=0.0, settings=REFUSING))
        load = Loader(
            targets=[first_target(query) for query in asked.queries],
            core=min(os.sched_getaffinity(0) - {core}, default=core),
            shares_core=len(os.sched_getaffinity(0)) == 1,
            seconds=seconds,
            connections=connections,
            seed=seed,
        )
        latest = load.round(server, refusing, 0, expected=load.first_guess(server))
        before = footprint(server)  # all that the warm-up made is there
        measured: list[Round] = []
        for number in range(1, rounds + 1):
            latest = load.round(server, refusing, number, expected=latest.capacity.outcome.answered_per_s)
            measured.append(latest)
            if progress is not None:
                progress(number, rounds)
        after = footprint(server)
    return judged(
        measured,
        before=before,
        after=after,
        conditions=conditions(
            threads=1,
            server_core=core,
            client_core=load.core,
            release=opened.id,
            **asked.conditions(),
            query_vector_cache="off",
            max_waiting_ms=limits.max_waiting_ms,
            max_standing_ms=limits.max_standing_ms,
            connections=connections,
            seconds_per_phase=seconds,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Carries out the phases of a round from a client on `core`."""

    targets: list[str]
    core: int
    shares_core: bool  # with the server: then it must sleep between answers
    seconds: float
    connections: int
    seed: int

    def first_guess(self, server: Server) -> float:
        """Searches a second, from the CPU time of one; what is refused already took next to none.

        Raises:
            ClientError: not one was answered.
        """
        phase = self._phase(server, FIRST_RATE, 0, connections=ALWAYS_BUSY)
        return answered(phase, FIRST_RATE) / phase.server_s

    def round(self, server: Server, refusing: Server, number: int, *, expected: float) -> Round:
        """Capacity first: the loads are multiples of what it is just now.

        Raises:
            ClientError: not one search was answered.
        """
        before = cpu_times()
        capacity = self._phase(server, 2 * expected, number, connections=ALWAYS_BUSY)
        answered(capacity, 2 * expected)
        able = capacity.outcome.answered_per_s
        uncontended = self._phase(server, UNCONTENDED * able, number)
        overloaded = self._phase(server, OVERLOAD * able, number)
        refused = self._phase(refusing, FLOOD * able, number, connections=FLOODING)
        return Round(capacity, uncontended, overloaded, refused, steal_between(before, cpu_times()))

    def _phase(self, server: Server, rate: float, number: int, *, connections: int | None = None) -> Phase:
        before = spent(server)
        outcome = ask(
            Load(
                host=server.host,
                port=server.port,
                targets=self.targets,
                rate=rate,
                seconds=self.seconds,
                seed=self.seed + number,
                connections=connections or self.connections,
                core=self.core,
                spin=not self.shares_core,
                first=int(number * rate * self.seconds),
            )
        )
        return Phase(outcome, spent(server) - before)


def answered(phase: Phase, rate: float) -> int:
    """Searches of a phase. Raises ClientError where there were none."""
    count = int(phase.outcome.succeeded.sum())
    if not count:
        raise ClientError(f"no search was answered at {rate:.0f} a second; is the machine busy with something else?")
    return count


def spent(server: Server) -> float:
    """CPU seconds of a server that was started here."""
    return cpu_seconds(_process(server))


def footprint(server: Server) -> Footprint:
    """What the server holds once its clients have gone."""
    time.sleep(_SETTLED_S)
    return held_by(_process(server))


def held_by(process: psutil.Process) -> Footprint:
    """What one process holds."""
    memory = process.memory_info()
    return Footprint(memory.rss - memory.shared, process.num_fds(), process.num_threads())


def _process(server: Server) -> psutil.Process:
    if server.process is None:
        raise ClientError(f"the process of {server.host}:{server.port} is not ours to look at")
    return server.process
