"""/search over a real socket, one request after the other, beside an empty FastAPI route and a bare ASGI app."""

import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlencode

import numpy as np

from benchmarks.answers import is_degraded, server_total_us
from benchmarks.blocks import Arm, Block, Measured, Progress, interleave, timed
from benchmarks.client import Answered, KeptConnection
from benchmarks.conditions import conditions, kept_to, pinned
from benchmarks.floors import EMPTY_FASTAPI, FLOOR_TARGET, FLOORS, started_floor
from benchmarks.histograms import encoded
from benchmarks.queries import Query, choose
from benchmarks.report import Row
from benchmarks.server import PATIENT, Server, cpu_seconds, existing, started
from benchmarks.tails import TailResult
from models.runtime import open_release
from service.client import ClientError

FLOOR = "empty route"
EMPTY_ROUTE = "/livez"  # touches no release
LIVEZ, FIRST, LATER = "GET /livez", "search, first page", "search, later page"

Layout = Literal["one-core", "two-cores"]
# One client cannot overload a server, but others on the machine can make it look so: nothing is to be refused then.
LAYOUTS: tuple[Layout, ...] = ("one-core", "two-cores")


class Asked(NamedTuple):
    """One server's requests."""

    server: Server
    targets: Sequence[str]


def run(
    release: Path,
    catalogue: Path,
    *,
    data: Path | None = None,
    queries: int = 20_000,
    seed: int = 0,
    layouts: Sequence[Layout] = LAYOUTS,
    url: str | None = None,
    pid: int | None = None,
    blocks: int = 40,
    calls: int = 500,
    progress: Progress | None = None,
) -> TailResult:
    """Measure from one client that waits for every answer (a closed loop: no waiting counts).

    The servers share one core. The client is on it too, so that they alternate, or on another core, which has to be
    woken for every request; both layouts meet the same noise, in the same blocks.

    Args:
        release: its golden queries are asked, where no `data` is given.
        catalogue: what a server of our own serves.
        data, queries, seed: a dataset whose searched queries are asked, how many, and how they are drawn.
        layouts: where the client is.
        url: a running server to ask instead; it chose its core itself.
        pid: of that server's process on this machine, for its CPU time.
        blocks, calls: rounds, and calls of each arm in one.
        progress: called with (done, total) rounds.

    Raises:
        ReleaseError, DataError: the release or the dataset cannot be opened, or has too few queries.
        ClientError: a server does not start, cannot be reached, or answers a problem; or there is no second core.
    """
    opened = open_release(release)
    chosen = choose(opened, data, count=queries, seed=seed)
    with ExitStack() as stack:
        cores = cores_of(layouts)
        core = stack.enter_context(pinned())
        server = existing(url, pid=pid) if url else stack.enter_context(served(release, catalogue))
        asked = {name: Asked(stack.enter_context(started_floor(kind)), [FLOOR_TARGET]) for name, kind in FLOORS.items()}
        asked |= searches(server, chosen.queries)
        arms = {
            name_in(layout, name): partial(block_of, each, cores[layout], calls)
            for layout in layouts
            for name, each in asked.items()
        }
        measured = interleave(arms, blocks=blocks, progress=progress)
    return TailResult(
        bench="http",
        title="GET /search over one kept connection",
        rows=[_row(layout, name, measured) for layout in layouts for name in asked],
        conditions=conditions(
            threads=1,
            server_core=core if url is None else None,
            client_cores={layout: cores[layout] for layout in layouts},
            server=url or "started for this run, one worker, not watched, admission limits out of reach",
            release=opened.id,
            **chosen.conditions(),
            query_vector_cache="none",
            calls_per_block=calls,
            **measured.conditions(),
        ),
        notes=[
            "closed loop, one client on the server's core, or on another one where it says two cores;",
            "server: the total of its Server-Timing header; p99.9 is of all calls together;",
            "all: over every block, the disturbed ones among them.",
            *_degraded_notes(measured),
            *measured.notes(),
        ],
        histograms={name: encoded(arm.latencies_us) for name, arm in measured.arms.items()},
    )


def served(release: Path, catalogue: Path) -> AbstractContextManager[Server]:
    """A server of our own that answers every request, and searches nothing again for its watch."""
    return started(release, catalogue, watch_share=0.0, settings=PATIENT)


def cores_of(layouts: Sequence[Layout]) -> dict[Layout, int]:
    """The client's core by layout; the server's is that of `pinned`.

    Raises:
        ClientError: two are asked for, and only one is granted.
    """
    granted = sorted(os.sched_getaffinity(0))
    if "two-cores" in layouts and len(granted) < 2:
        raise ClientError(f"only core {granted[0]} is granted: ask for --layout one-core")
    return {"one-core": granted[-1], "two-cores": granted[0]}


def name_in(layout: Layout, name: str) -> str:
    """A row's name."""
    return name if layout == "one-core" else f"{name}, two cores"


def searches(server: Server, queries: Sequence[Query]) -> dict[str, Asked]:
    """What is asked of the service; later pages where there are any."""
    firsts = [first_target(query) for query in queries]
    with KeptConnection(server.host, server.port) as connection:
        laters = [target for first in firsts if (target := next_target(connection, first)) is not None]
    targets = {LIVEZ: [EMPTY_ROUTE], FIRST: firsts, LATER: laters}
    return {name: Asked(server, each) for name, each in targets.items() if each}


def first_target(query: Query) -> str:
    """The request for page 1."""
    return "/search?" + urlencode({"q": query.text, "country": query.country or ""})


def next_target(connection: KeptConnection, first: str) -> str | None:
    """The request that follows by cursor; None where page 1 shows all there is.

    Raises:
        ClientError: the answer is not that of a search.
    """
    answer = json.loads(connection.get(first))
    if not answer.keys() >= {"hits", "cursor"}:
        raise ClientError(f"{first} answered no search result: {list(answer)}")
    return None if answer["cursor"] is None else f"{first}&{urlencode({'cursor': answer['cursor']})}"


def block_of(asked: Asked, core: int, calls: int, block: int) -> Block:
    """A block of requests from a client on `core`, over a connection of its own: servers close those that wait long."""
    with kept_to(core), KeptConnection(asked.server.host, asked.server.port) as connection:
        connection.get(asked.targets[0])
        return timed_gets(connection, asked.server, asked.targets, calls, block)


def timed_gets(connection: KeptConnection, server: Server, targets: Sequence[str], calls: int, block: int) -> Block:
    """A block of requests for the targets in turn, with the server's CPU time where its process is known."""
    answers: list[Answered] = []

    def ask(at: int) -> None:
        answers.append(connection.ask(targets[at % len(targets)]))

    before = None if server.process is None else cpu_seconds(server.process)
    ran = timed(ask, calls=calls, first=block * calls)
    spent = None if server.process is None or before is None else cpu_seconds(server.process) - before
    totals = [total for answer in answers if (total := server_total_us(answer.head)) is not None]
    return Block(
        latencies_us=ran.latencies_us,
        cpu_us=None if spent is None else spent * 1e6 / calls,
        server_us=np.array(totals) if totals else None,
        degraded=sum(is_degraded(answer.body) for answer in answers),
    )


def _row(layout: Layout, name: str, measured: Measured) -> Row:
    arm, every = (arms[name_in(layout, name)] for arms in (measured.arms, measured.every_block))
    floor = measured.arms[name_in(layout, EMPTY_FASTAPI)]
    return {
        "name": name_in(layout, name),
        "p50_us": arm.p50_us,
        "p99_us": arm.p99_us,
        "p99.9_us": arm.p999_us,
        "p50_over_fastapi": arm.p50_us / floor.p50_us,
        "server_cpu_us": arm.cpu_us,
        "cpu_over_fastapi": cpu_ratio(arm, floor),
        "server_p50_us": arm.server_p50_us,
        "server_p99_us": arm.server_p99_us,
        "all_p50_us": every.p50_us,
        "all_p99_us": every.p99_us,
        "all_server_p99_us": every.server_p99_us,
    }


def cpu_ratio(arm: Arm, floor: Arm) -> float | None:
    """CPU time over CPU time; None where a server's process is not known."""
    return None if arm.cpu_us is None or floor.cpu_us is None else arm.cpu_us / floor.cpu_us


def _degraded_notes(measured: Measured) -> list[str]:
    degraded = sum(arm.degraded for arm in measured.arms.values())
    return [f"{degraded:,} answers were degraded"] * (degraded > 0)
