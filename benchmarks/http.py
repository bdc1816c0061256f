"""/search over a real socket: first and later pages, with an empty route of the same server as the floor."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.blocks import Arm, Block, Measured, Progress, interleave, timed
from benchmarks.client import KeptConnection
from benchmarks.conditions import conditions, pinned
from benchmarks.report import BenchResult, Row
from benchmarks.server import Server, cpu_seconds, existing, started
from models.runtime import GoldenQuery, open_release
from service.client import ClientError

FLOOR = "empty route"
EMPTY_ROUTE = "/livez"  # touches no release


def run(
    release: Path,
    catalogue: Path,
    *,
    url: str | None = None,
    pid: int | None = None,
    blocks: int = 30,
    calls: int = 200,
    progress: Progress | None = None,
) -> BenchResult:
    """Measure from a client on the server's own core, one request after the other (a closed loop: no waiting counts).

    Args:
        release: its golden queries are asked.
        catalogue: what a server of our own serves.
        url: a running server to ask instead; it chose its core itself.
        pid: of that server's process on this machine, for its CPU time.

    Raises:
        ReleaseError: the release cannot be opened.
        ClientError: the server does not start, cannot be reached, or answers a problem.
    """
    opened = open_release(release)
    with ExitStack() as stack:
        core = stack.enter_context(pinned())
        server = existing(url, pid=pid) if url else stack.enter_context(started(release, catalogue, watch_share=0.0))
        connection = stack.enter_context(KeptConnection(server.host, server.port))
        firsts = [first_target(query) for query in opened.golden_queries()]
        laters = [target for first in firsts if (target := next_target(connection, first)) is not None]
        targets = {FLOOR: [EMPTY_ROUTE], "search, first page": firsts, "search, later page": laters}
        measured = interleave(
            {name: _arm(connection, server, each, calls=calls) for name, each in targets.items() if each},
            blocks=blocks,
            progress=progress,
        )
    return BenchResult(
        bench="http",
        title="GET /search over one kept connection, client and server on one core",
        rows=_rows(measured),
        conditions=conditions(
            threads=1,
            core=core,
            server=url or "started for this run, one worker, not watched",
            release=opened.id,
            golden_queries=len(firsts),
            query_vector_cache="none",
            calls_per_block=calls,
            **measured.conditions(),
        ),
        notes=["closed loop, one client: service time, not time under load", *measured.notes()],
    )


def first_target(query: GoldenQuery) -> str:
    """The request for page 1."""
    return "/search?" + urlencode({"q": query.query, "country": query.country or ""})


def next_target(connection: KeptConnection, first: str) -> str | None:
    """The request that follows by cursor; None where page 1 shows all there is.

    Raises:
        ClientError: the answer is not that of a search.
    """
    answer = json.loads(connection.get(first))
    if not answer.keys() >= {"hits", "cursor"}:
        raise ClientError(f"{first} answered no search result: {list(answer)}")
    return None if answer["cursor"] is None else f"{first}&{urlencode({'cursor': answer['cursor']})}"


def _arm(connection: KeptConnection, server: Server, targets: Sequence[str], *, calls: int) -> Callable[[int], Block]:
    return partial(timed_gets, connection, server, targets, calls)


def timed_gets(connection: KeptConnection, server: Server, targets: Sequence[str], calls: int, block: int) -> Block:
    """A block of requests for the targets in turn, with the server's CPU time where its process is known."""

    def ask(at: int) -> None:
        connection.get(targets[at % len(targets)])

    before = None if server.process is None else cpu_seconds(server.process)
    ran = timed(ask, calls=calls, first=block * calls)
    spent = None if server.process is None or before is None else cpu_seconds(server.process) - before
    return Block(latencies_us=ran.latencies_us, cpu_us=None if spent is None else spent * 1e6 / calls)


def _rows(measured: Measured) -> list[Row]:
    floor = measured.arms[FLOOR]
    return [_row(name, arm, floor) for name, arm in measured.arms.items()]


def _row(name: str, arm: Arm, floor: Arm) -> Row:
    return {
        "name": name,
        "p50_us": arm.p50_us,
        "p99_us": arm.p99_us,
        "p50_over_floor": arm.p50_us / floor.p50_us,
        "p50_above_floor_us": arm.p50_us - floor.p50_us,
        "server_cpu_us": arm.cpu_us,
    }
