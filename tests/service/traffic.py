"""Searches and writes that go on while something else happens to a server."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection
from time import monotonic, sleep
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx

from tests.helpers import COLOURS, THINGS
from tests.service.real_server import Server

CONNECTIONS = 4
SEARCHES_PER_S = 25  # of each
WRITES_PER_S = 10
PATIENCE_S = 90.0


class Served(NamedTuple):
    """What a search was answered with."""

    query: str
    status: int
    answer: dict[str, Any]

    @property
    def pair(self) -> tuple[str, int]:
        """Release and generation."""
        return self.answer["search"]["release"], self.answer["search"]["generation"]


class Traffic:
    """What was asked of a server, and what it answered; failures of connections are kept too."""

    def __init__(self, running: Server) -> None:
        self._address = running.address
        self._stopping = threading.Event()
        self.served: list[Served] = []
        self.writes: list[int] = []  # their statuses
        self.failures: list[str] = []
        kinds = [self._search] * CONNECTIONS + [self._write]
        self._threads = [threading.Thread(target=kind, args=(at,), daemon=True) for at, kind in enumerate(kinds)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _search(self, at: int) -> None:
        queries = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
        with closing(HTTPConnection(*self._address, timeout=30)) as connection:
            for turn in itertools.count(at):
                self._tried(partial(self._ask, connection, queries[turn % len(queries)]))
                if self._stopping.wait(1 / SEARCHES_PER_S):
                    return

    def _ask(self, connection: HTTPConnection, query: str) -> None:
        fields = {"q": query, "country": "GB", "effort": "exact", "size": 20}
        connection.request("GET", f"/search?{urlencode(fields)}")
        response = connection.getresponse()
        self.served.append(Served(query, response.status, json.loads(response.read())))

    def _write(self, _: int) -> None:
        with closing(HTTPConnection(*self._address, timeout=30)) as connection:
            for turn in itertools.count():
                self._tried(partial(self._change, connection, turn))
                if self._stopping.wait(1 / WRITES_PER_S):
                    return

    def _change(self, connection: HTTPConnection, turn: int) -> None:
        """Two new products, then one of them deleted."""
        if turn % 3 == 2:
            connection.request("DELETE", f"/products/w{turn - 1}")
        else:
            product = {"title": f"{COLOURS[turn % len(COLOURS)]} lamp written {turn}", "country": "GB"}
            connection.request("PUT", f"/products/w{turn}", body=json.dumps(product))
        response = connection.getresponse()
        response.read()
        self.writes.append(response.status)

    def _tried(self, request: Callable[[], None]) -> None:
        try:
            request()
        except Exception as exc:  # noqa: BLE001 - whatever it is, the test is told
            self.failures.append(f"{type(exc).__name__}: {exc}")


@contextmanager
def traffic(running: Server) -> Iterator[Traffic]:
    """Searches over connections of their own, and writes, while the block runs."""
    going = Traffic(running)
    try:
        yield going
    finally:
        going.stop()


def wait_for_generation(running: Server, number: int) -> None:
    """Until every worker that answers has come to a generation of that number or a later one."""
    give_up = monotonic() + PATIENCE_S
    in_a_row = 0
    while in_a_row < 4 * running.workers:
        reached = 0
        with suppress(httpx.TransportError):  # of a worker that was killed
            reached = httpx.get(f"{running.url}/readyz").json().get("generation", 0)  # none while one starts
        in_a_row = in_a_row + 1 if reached >= number else 0
        assert monotonic() < give_up, f"still {reached}"
        sleep(0.02)


def activate(running: Server, name: str) -> dict[str, Any]:
    """Ask for a release and wait until that has ended; how it did."""
    asked = httpx.post(f"{running.url}/admin/release", json={"release": name})
    assert 202 == asked.status_code, asked.text
    give_up = monotonic() + PATIENCE_S
    while monotonic() < give_up:
        activation: dict[str, Any] = httpx.get(f"{running.url}/admin/release").json()["activation"]
        if activation["state"] in {"active", "refused"}:
            return activation
        sleep(0.05)
    raise AssertionError(f"still {activation}")
