"""`bench load`: Locust with what it needs around it: a server where none is running, cores of their own, the result."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from benchmarks.conditions import ROOT, kept_to
from benchmarks.load_queries import read_golden_queries
from benchmarks.load_schedule import Arrivals
from benchmarks.server import existing, started
from service.client import ClientError

LOCUSTFILE = ROOT / "benchmarks" / "locustfile.py"
MAX_USERS = 500  # `select` watches 1,024 files


class LoadRun(NamedTuple):
    """How a load ended."""

    exit_code: int  # 0 when within the budget and without failures
    result: dict[str, Any] | None  # what load.json holds; None where the run did not get that far


class Cores(NamedTuple):
    """Where each side runs: numbers as the kernel counts them."""

    client: int
    server: int


def run(
    release: Path,
    catalogue: Path,
    out: Path,
    *,
    url: str = "http://127.0.0.1:8000",
    rate: float = 200.0,
    users: int = 8,
    seconds: float = 60.0,
    arrivals: Arrivals = "poisson",
    seed: int = 0,
    p99_budget_ms: float = 1.5,
    one_core: bool = False,
) -> LoadRun:
    """Load the server at `url`; where nobody answers there, one started for this run on a free port.

    Args:
        release: its golden queries are asked.
        catalogue: what a server of our own serves.
        out: folder for load.json, load.md and load.png.
        url: of a server.
        rate: searches a second.
        users: how many searches may be under way at once.
        seconds: measured, after one of warm-up.
        arrivals: how due times follow each other.
        seed: of due times and queries.
        p99_budget_ms: what the first page's P99 may take in the server.
        one_core: keep client and server of our own on one core, for latency; on two, as by default, for throughput.

    Raises:
        ReleaseError: the release has no golden queries.
        ClientError: the server does not start, or what answers at `url` is not ready.
        ValueError: more users than one process can watch.
    """
    if not 1 <= users <= MAX_USERS:
        raise ValueError(f"users={users}; from 1 to {MAX_USERS}")
    read_golden_queries(release)
    cores = choose_cores(os.sched_getaffinity(0), one_core=one_core)
    written = out / "load.json"
    written.unlink(missing_ok=True)
    with ExitStack() as stack:
        target, server = stack.enter_context(answering(url, release, catalogue, core=cores.server))
        options: dict[str, object] = {
            "--host": target,
            "--users": users + 1,  # one asks the empty route
            "--spawn-rate": users + 1,
            "--rate": rate,
            "--duration": seconds,
            "--arrivals": arrivals,
            "--seed": seed,
            "--p99-budget-ms": p99_budget_ms,
            "--release": release.resolve(),
            "--out": out.resolve(),
            "--server": server,
        }
        exit_code = locust(options, core=cores.client)
    if not written.exists():
        return LoadRun(exit_code or 1, None)
    return LoadRun(exit_code, json.loads(written.read_bytes()))


def choose_cores(granted: set[int], *, one_core: bool) -> Cores:
    """The last core for the server (the first also serves interrupts); the client shares it or has the first."""
    return Cores(client=max(granted) if one_core else min(granted), server=max(granted))


@contextmanager
def answering(url: str, release: Path, catalogue: Path, *, core: int) -> Iterator[tuple[str, str]]:
    """A ready server's URL, and what it is in words: the one at `url`, else one of our own on that core.

    Raises:
        ClientError: nobody answers at an address that is not this machine's own, or what answers is not ready.
    """
    if somebody_listens(url):
        existing(url)
        yield url, f"{url}, running before; it chose its cores itself"
        return
    if not is_loopback(url):
        raise ClientError(f"nobody answers at {url}; start a server there, or leave --url out to have one started")
    with ExitStack() as stack:
        with kept_to(core):
            server = stack.enter_context(started(release, catalogue))
        yield f"http://{server.host}:{server.port}", f"started for this run, one worker on core {core}"


def somebody_listens(url: str) -> bool:
    """Whether a connection is accepted there; what answers is looked at later."""
    try:
        httpx.get(url, timeout=5.0)
    except httpx.ConnectError:
        return False
    except (httpx.HTTPError, httpx.InvalidURL):
        pass
    return True


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine's own interface."""
    host = httpx.URL(url).host
    return host == "localhost" or (host.replace(".", "").isdigit() and ip_address(host).is_loopback) or host == "::1"


def locust(options: dict[str, object], *, core: int) -> int:
    """Run the locustfile on a core; its exit code."""
    arguments = [str(part) for option in options.items() for part in option]
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary", "-L", "WARNING"]
    # Fine timers (see the locustfile); one thread, since numpy's would take the server's core.
    environment = os.environ | {"GEVENT_BACKEND": "select", "OMP_NUM_THREADS": "1"}
    with kept_to(core):
        return subprocess.run([*command, *arguments], cwd=ROOT, env=environment, check=False).returncode  # noqa: S603
