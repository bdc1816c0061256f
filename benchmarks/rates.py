"""/search under an open loop: how many requests a second it follows, and what they take on the way there."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from benchmarks.blocks import Arm, Block, Measured, Progress, interleave
from benchmarks.conditions import conditions, pinned
from benchmarks.histograms import encoded
from benchmarks.http import Layout, cores_of, first_target
from benchmarks.load_schedule import Arrivals
from benchmarks.open_loop import Outcome, ask
from benchmarks.open_loop_client import Load
from benchmarks.queries import choose
from benchmarks.rates_picture import RatesResult
from benchmarks.report import Row
from benchmarks.server import Server, cpu_seconds, started
from models.runtime import open_release
from service.client import ClientError

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0, 1.2)  # of the capacity
CONNECTIONS = 8
FOLLOWED = 0.97  # of what was asked, answered in full before the load's end
TRIES = 3  # of a rate: a disturbed moment of the machine is no saturation
START_RATE = 50.0
_HALVINGS = 4  # of the gap between a rate that is followed and its double: the capacity is known to a sixteenth
_REFUSED = 429


class Step(NamedTuple):
    """One rate of the sweep."""

    share: float  # of the capacity
    arrivals: Arrivals

    @property
    def name(self) -> str:
        return f"{self.arrivals}, {self.share:.0%} of saturation"


STEPS = (*(Step(share, "poisson") for share in SHARES), Step(0.5, "constant"))


def run(
    release: Path,
    catalogue: Path,
    *,
    data: Path | None = None,
    queries: int = 20_000,
    seed: int = 0,
    layout: Layout = "two-cores",
    blocks: int = 9,
    seconds: float = 2.0,
    progress: Progress | None = None,
) -> RatesResult:
    """Find the capacity for first pages, then ask at shares of it, in interleaved blocks.

    Args:
        release, catalogue: what a server of our own serves, its admission as shipped.
        data, queries, seed: a dataset whose searched queries are asked, how many, and how they are drawn.
        layout: where the client is. On a core of its own it never sleeps; on the server's it must.
        blocks, seconds: rounds, and for how long each step asks in one.
        progress: called with (done, total) rounds.

    Raises:
        ReleaseError, DataError: the release or the dataset cannot be opened, or has too few queries.
        ClientError: the server does not start or follows no rate at all; or there is no second core.
    """
    opened = open_release(release)
    chosen = choose(opened, data, count=queries, seed=seed)
    with ExitStack() as stack:
        client = cores_of([layout])[layout]
        core = stack.enter_context(pinned())
        server = stack.enter_context(started(release, catalogue, watch_share=0.0))
        load = Load(
            host=server.host,
            port=server.port,
            targets=[first_target(query) for query in chosen.queries],
            rate=START_RATE,
            seconds=seconds,
            connections=CONNECTIONS,
            core=client,
            spin=client != core,
        )
        capacity = capacity_of(partial(is_followed, load), start=START_RATE)
        sweep = Sweep(server, load, capacity)
        measured = interleave(sweep.arms(), blocks=blocks, progress=progress)
    return RatesResult(
        bench="http-load",
        title="GET /search, first page, under an open loop",
        rows=[_row(step, capacity, measured.arms[step.name], sweep.outcomes[step.name][1:]) for step in STEPS],
        capacity_per_s=capacity,
        conditions=conditions(
            threads=1,
            server_core=core,
            client_core=client,
            client_sleeps=not load.spin,
            connections=CONNECTIONS,
            capacity_per_s=round(capacity, 1),
            release=opened.id,
            **chosen.conditions(),
            query_vector_cache="none",
            seconds_per_block=seconds,
            **measured.conditions(),
        ),
        notes=_notes(layout, capacity, measured),
        histograms={name: encoded(arm.latencies_us) for name, arm in measured.arms.items()},
    )


def capacity_of(followed: Callable[[float], bool], *, start: float) -> float:
    """The highest rate that is followed, to a sixteenth: doubled until one is not, then halved in between.

    Raises:
        ClientError: not even `start` is followed.
    """
    if not followed(start):
        raise ClientError(f"{start:g} requests a second are not answered in time: nothing can be measured")
    low, high = start, 2 * start
    while followed(high):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if followed(middle) else (low, middle)
    return low


def is_followed(load: Load, rate: float) -> bool:
    """Whether one of a few tries at this rate is answered as `follows` says."""
    return any(follows(ask(replace(load, rate=rate, seed=number))) for number in range(TRIES))


def follows(outcome: Outcome) -> bool:
    """Whether nearly all that was asked was answered in full, and before the load ended."""
    full = outcome.succeeded & ~outcome.degraded & (outcome.done_s <= outcome.load.seconds)
    return bool(full.sum() >= FOLLOWED * outcome.asked)


class Sweep:
    """The steps as arms, and what became of every load, the warm-up's first."""

    def __init__(self, server: Server, load: Load, capacity: float) -> None:
        self._server = server
        self._load = load
        self._capacity = capacity
        self.outcomes: dict[str, list[Outcome]] = {step.name: [] for step in STEPS}

    def arms(self) -> Mapping[str, Callable[[int], Block]]:
        return {step.name: partial(self._block, step) for step in STEPS}

    def _block(self, step: Step, block: int) -> Block:
        """One load; its latencies are those of the successes, from the due time."""
        rate = step.share * self._capacity
        load = replace(
            self._load, rate=rate, arrivals=step.arrivals, seed=block, first=round(block * rate * self._load.seconds)
        )
        before = _cpu_seconds(self._server)
        outcome = ask(load)
        spent = _cpu_seconds(self._server) - before
        if not outcome.succeeded.any():
            raise ClientError(f"none of {outcome.asked} requests was answered at {rate:.0f} a second")
        self.outcomes[step.name].append(outcome)
        return Block(
            latencies_us=outcome.from_due_us[outcome.succeeded],
            cpu_us=spent * 1e6 / len(outcome.status),
            server_us=outcome.server_us[outcome.succeeded],
            degraded=int(outcome.degraded.sum()),
        )


def _cpu_seconds(server: Server) -> float:
    return 0.0 if server.process is None else cpu_seconds(server.process)


def _row(step: Step, capacity: float, arm: Arm, outcomes: Sequence[Outcome]) -> Row:
    asked = sum(outcome.asked for outcome in outcomes)
    return {
        "name": step.name,
        "rate_per_s": step.share * capacity,
        "answered_per_s": float(np.mean([outcome.answered_per_s for outcome in outcomes])),
        "p50_us": arm.p50_us,
        "p99_us": arm.p99_us,
        "p99.9_us": arm.p999_us,
        "from_send_p99_us": float(np.median([np.quantile(outcome.from_send_us, 0.99) for outcome in outcomes])),
        "server_p50_us": arm.server_p50_us,
        "server_p99_us": arm.server_p99_us,
        "server_cpu_us": arm.cpu_us,
        "refused": float(np.mean([outcome.share(_REFUSED) for outcome in outcomes])),
        "degraded": sum(int(outcome.degraded.sum()) for outcome in outcomes) / asked,
        "client_late_p99_us": float(np.median([np.quantile(outcome.late_us, 0.99) for outcome in outcomes])),
    }


def _notes(layout: Layout, capacity: float, measured: Measured) -> list[str]:
    where = "on a core of its own" if layout == "two-cores" else "on the server's core"
    return [
        f"open loop, {CONNECTIONS} connections, client {where}; latency of successes, from the due time;",
        f"saturation: {capacity:,.0f} a second, the most of which {FOLLOWED:.0%} were answered in time and in full;",
        "refused and degraded: shares of what was asked.",
        *measured.notes(),
    ]
