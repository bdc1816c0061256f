"""The floors under /search: an empty FastAPI route and a bare ASGI application, each in a server process of its own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from benchmarks.conditions import ROOT
from benchmarks.floor_apps import TARGET
from benchmarks.server import HOST, Server, free_port, launched

Floor = Literal["fastapi", "asgi"]
EMPTY_FASTAPI, BARE_ASGI = "empty FastAPI route", "bare ASGI app"  # rows
FLOORS: dict[str, Floor] = {EMPTY_FASTAPI: "fastapi", BARE_ASGI: "asgi"}
FLOOR_TARGET = TARGET


@contextmanager
def started_floor(kind: Floor) -> Iterator[Server]:
    """A floor's server on a free port, answering; it inherits this thread's cores. Ask it for `FLOOR_TARGET`.

    Raises:
        ClientError: it ended or did not answer in time; tells its last words.
    """
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.floor_apps", kind, HOST, str(port)]
    with launched(command, port=port, ready=TARGET, settings={"PYTHONPATH": str(ROOT)}) as server:
        yield server
