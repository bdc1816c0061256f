"""A server of our own for a measurement: started, waited for, and stopped."""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil  # type: ignore[import-untyped]  # it ships no types

from benchmarks.conditions import ROOT
from service.client import ClientError
from service.server import listen

HOST = "127.0.0.1"
SEARCH_ONLY = {"Q2S_WRITES": "false"}  # several servers of one measurement share a catalogue
NO_CACHE = {"Q2S_QUERY_CACHE": "0"}  # queries asked twice would measure it
# One client at a time cannot overload a server, but a machine that others take away looks as if it did.
PATIENT = {"Q2S_MAX_WAITING_MS": "10000", "Q2S_MAX_STANDING_MS": "10000"}
START_S = 120.0
STOP_S = 40.0


class Server(NamedTuple):
    """Where it listens, and the process that answers; None where it is not ours to look at."""

    host: str
    port: int
    process: psutil.Process | None


@contextmanager
def started(
    release: Path, catalogue: Path, *, watch_share: float | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """`que2search serve` with one worker on a free port, warmed up, its query-vector cache off.

    It inherits this thread's cores.

    Args:
        release, catalogue: what it serves.
        watch_share: of the searches that its sampler searches again (0: none); None: the server's default.
        settings: other `Q2S_` variables for its environment; they may switch the cache on again.

    Raises:
        ClientError: it ended or was not ready in time; tells its last words.
    """
    port = free_port()
    watch = {} if watch_share is None else {"Q2S_WATCH_SHARE": str(watch_share)}
    chosen = SEARCH_ONLY | NO_CACHE | watch | dict(settings or {})
    with launched(serve_command(release, catalogue, port=port), port=port, ready="/readyz", settings=chosen) as server:
        yield server


def serve_command(release: Path, catalogue: Path, *, port: int, workers: int = 1) -> list[str]:
    """The command line of `que2search serve`, listening on `HOST`."""
    options = ["--release", release, "--catalogue", catalogue, "--host", HOST, "--port", port, "--workers", workers]
    return [str(part) for part in (sys.executable, ROOT / "que2search.py", "serve", *options)]


@contextmanager
def launched(
    command: Sequence[str],
    *,
    port: int,
    ready: str,
    settings: Mapping[str, str] | None = None,
    log_file: Path | None = None,
) -> Iterator[Server]:
    """Any server of this machine as a process, once it answers `ready`; it inherits this thread's cores.

    Args:
        command: starts it.
        port: where it was told to listen on `HOST`.
        ready: a path that it answers with success as soon as it can be measured.
        settings: for its environment.
        log_file: where its words are kept, after those that are there; None: they are forgotten.

    Raises:
        ClientError: it ended or was not ready in time; tells its last words.
    """
    with tempfile.TemporaryFile("w+") if log_file is None else log_file.open("a+") as log:
        running = subprocess.Popen(  # noqa: S603 - our own
            [*command], stdout=log, stderr=subprocess.STDOUT, env=os.environ | dict(settings or {})
        )
        try:
            if not _ready(running, f"http://{HOST}:{port}{ready}"):
                log.seek(0)
                raise ClientError(f"{command[1:4]} did not become ready: {log.read()[-2000:]}")
            yield Server(HOST, port, psutil.Process(running.pid))
        finally:
            _stop(running)


def free_port() -> int:
    """Of `HOST`; nobody listens there yet."""
    with listen(HOST, 0) as free:
        port: int = free.getsockname()[1]
    return port


def existing(url: str, *, pid: int | None = None) -> Server:
    """A server that runs already; with the `pid` of its process on this machine, its CPU time is measured too.

    Raises:
        ClientError: it does not answer that it is ready, or there is no such process.
    """
    try:
        parsed = httpx.URL(url)
        ready = httpx.get(parsed.copy_with(path="/readyz"), timeout=5.0)
        process = None if pid is None else psutil.Process(pid)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise ClientError(f"cannot reach {url}: {exc}; is `que2search serve` running there?") from exc
    except psutil.NoSuchProcess as exc:
        raise ClientError(f"there is no process {pid}") from exc
    if ready.is_error:
        raise ClientError(f"{url} is not ready: {ready.text}")
    return Server(parsed.host, parsed.port or 80, process)


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a server's process and its workers since they started."""
    return sum(own_cpu_seconds(each) for each in (process, *process.children(recursive=True)))


def own_cpu_seconds(process: psutil.Process) -> float:
    """CPU time of one process alone; Linux: of the scheduler's clock, since /proc counts in steps of 10 ms."""
    if platform.system() == "Linux":
        # The id that clock_getcpuclockid(3) gives: CLOCK_PROCESS_CPUTIME_ID of another process.
        return time.clock_gettime_ns((~process.pid << 3) | 2) / 1e9
    spent = process.cpu_times()
    return float(spent.user + spent.system)


def _ready(running: "subprocess.Popen[bytes]", url: str) -> bool:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up and running.poll() is None:
        try:
            if httpx.get(url, timeout=5.0).is_success:
                return True
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    return False


def _stop(running: "subprocess.Popen[bytes]") -> None:
    running.terminate()
    try:
        running.wait(STOP_S)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
