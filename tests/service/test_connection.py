"""At the socket: searches that would wait too long are refused unread, and those whose clients left are not begun."""

import json
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic, sleep
from typing import Any

import httpx
import uvicorn

from index.operating_points import EFFORTS
from models.features import QueryFeatures
from service.app import create_app
from service.connection import Connection
from service.server import listen
from service.settings import Settings
from tests.service.fakes import LengthRelease, listed_pipeline

LISTS = dict.fromkeys(EFFORTS, range(50))
PATIENCE_S = 60.0


class SlowRelease(LengthRelease):
    """Takes as many milliseconds as its query says, without giving the event loop a turn."""

    def _features(self, text: str, country: str | None) -> QueryFeatures:
        if text.isdigit():
            sleep(int(text) / 1000)
        return super()._features(text, country)


@contextmanager
def serving(settings: Settings, *, connection: type[Connection] = Connection) -> Iterator[tuple[str, int]]:
    """The application behind a real socket, on an event loop in a thread; gives its address."""
    app = create_app(settings, load=lambda _: listed_pipeline(LISTS, parts={"release": SlowRelease()}))
    config = uvicorn.Config(app, http=connection, loop="uvloop", lifespan="on", log_level="critical", access_log=False)
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        host, port = listening.getsockname()
        try:
            wait_until_ready(f"http://{host}:{port}/readyz")
            yield host, port
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)


def wait_until_ready(url: str) -> None:
    give_up = monotonic() + PATIENCE_S
    while monotonic() < give_up:
        if httpx.get(url).status_code == 200:
            return
        sleep(0.02)
    raise AssertionError("not ready")


def ask(connection: socket.socket, milliseconds: int, *, head: str = "") -> None:
    connection.sendall(f"GET /search?q={milliseconds} HTTP/1.1\r\nHost: test\r\n{head}\r\n".encode())


def answer(connection: socket.socket) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and document of one answer."""
    file = connection.makefile("rb")
    status = int(file.readline().split()[1])
    lines = iter(lambda: file.readline().decode().strip(), "")
    headers = dict(line.split(": ", 1) for line in lines)
    return status, headers, json.loads(file.read(int(headers["content-length"])))


def metric(address: tuple[str, int], line: str) -> float:
    text = httpx.get("http://{}:{}/metrics".format(*address)).text
    return next(float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(f"{line} "))


def test_searches_that_would_wait_too_long_are_refused_at_the_door() -> None:
    """Thirty at once, 20 ms each, limit 100 ms: some are served, the others refused, in the same words each."""
    settings = Settings(max_waiting_ms=100, max_standing_ms=100, timeout_ms=60_000)
    with serving(settings) as address, ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address)) for _ in range(30)]
        for _ in range(30):  # the mean time of a search becomes known
            ask(clients[0], 20)
            assert 200 == answer(clients[0])[0]
        for client in clients:
            ask(client, 20)
        answers = [answer(client) for client in clients]
        refused = [(headers, document) for status, headers, document in answers if status == 429]

        assert {200, 429} == {status for status, _, _ in answers}
        assert len(refused) == metric(address, 'q2s_problems_total{status="429"}')
        for headers, document in refused:
            assert ("1", "application/problem+json") == (headers["retry-after"], headers["content-type"])
            assert 429 == document["status"]
            assert headers["x-request-id"] == document["request_id"]
        assert len(refused) == len({document["request_id"] for _, document in refused})


def test_a_refused_connection_goes_on() -> None:
    """It stays open, and what comes next is read as ever: a search, a body in two parts, a request to close."""
    settings = Settings(max_waiting_ms=0.001, max_standing_ms=0.001, timeout_ms=60_000)
    with serving(settings) as address, ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address)) for _ in range(8)]
        statuses: list[int] = []
        for _ in range(40):
            for client in clients:
                ask(client, 1)
            statuses += [answer(client)[0] for client in clients]

        assert {200, 429} == set(statuses)
        sleep(0.05)  # the loop is at rest again
        body = b'{"q": "GET /search? HTTP/1.1"}'
        clients[0].sendall(b"POST /search HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:7])
        sleep(0.05)
        clients[0].sendall(body[7:])
        assert 200 == answer(clients[0])[0]
        ask(clients[0], 1, head="Connection: close\r\n")
        assert answer(clients[0])[0] in {200, 429}
        assert b"" == clients[0].recv(1)


def test_a_search_whose_client_left_is_not_begun() -> None:
    """While one search takes 300 ms five clients ask for as much and hang up; two others stay and are answered."""
    settings = Settings(max_waiting_ms=60_000, max_standing_ms=60_000, timeout_ms=60_000)
    with serving(settings) as address:
        with ExitStack() as stack:
            first, *others = (stack.enter_context(socket.create_connection(address)) for _ in range(8))
            ask(first, 300)
            sleep(0.1)
            for client in others:
                ask(client, 300 if client in others[:5] else 1)
            for client in others[:5]:
                client.close()

            assert [200] * 3 == [answer(client)[0] for client in (first, *others[5:])]
        assert 5 == metric(address, "q2s_dropped_total")
        assert 3 == metric(address, 'q2s_request_seconds_count{effort="low",mode="vector",page="first"}')


class ImpatientConnection(Connection):
    """Waits for the next request for an instant only."""

    idle_timeout_s = 0.1


def test_an_idle_connection_is_closed() -> None:
    """One that never asked, and one that was answered: a search that takes longer is waited for."""
    with serving(Settings(timeout_ms=60_000), connection=ImpatientConnection) as address, ExitStack() as stack:
        silent, slow = (stack.enter_context(socket.create_connection(address)) for _ in range(2))
        ask(slow, 300)

        assert 200 == answer(slow)[0]
        assert [b"", b""] == [client.recv(1) for client in (silent, slow)]


class HastyConnection(Connection):
    """Waits for the rest of a head for an instant only."""

    head_timeout_s = 0.01


def test_a_request_line_or_headers_without_an_end_are_refused() -> None:
    """431 at 64 kB, whatever goes on: one header, many, or the line; the connection is closed, others are served."""
    with serving(Settings(timeout_ms=60_000)) as address:
        for begin, more in (
            (b"GET /search?q=", b"x"),
            (b"GET / HTTP/1.1\r\na: ", b"x"),
            (b"GET / HTTP/1.1\r\n", b"a:b\r\n"),
        ):
            with socket.create_connection(address) as client:
                client.sendall(begin)
                with suppress(ConnectionError):
                    for _ in range(200):
                        client.sendall(more * 1_000)
                        if select.select([client], [], [], 0.001)[0]:
                            break
                status, headers, document = answer(client)

                assert (431, 431) == (status, document["status"])
                assert "application/problem+json" == headers["content-type"]
                assert "more than 65536 bytes" in document["detail"]
        assert 200 == httpx.get("http://{}:{}/search?q=1".format(*address)).status_code


def test_headers_may_come_in_pieces_and_be_long() -> None:
    """Sixty thousand bytes in sixty pieces are a request like any other; so are two requests behind each other."""
    with serving(Settings(timeout_ms=60_000)) as address, socket.create_connection(address) as client:
        for _ in range(2):
            client.sendall(b"GET /search?q=1 HTTP/1.1\r\nHost: test\r\n")
            for at in range(60):
                client.sendall(b"h%d: %s\r\n" % (at, 990 * b"x"))
            client.sendall(b"\r\n")
            assert 200 == answer(client)[0]


def test_headers_that_never_end_do_not_hold_a_connection() -> None:
    """Nobody is told; the connection ends."""
    with (
        serving(Settings(timeout_ms=60_000), connection=HastyConnection) as address,
        socket.create_connection(address) as client,
    ):
        client.sendall(b"GET /search?q=1 HTTP/1.1\r\nHost: ")
        assert b"" == client.recv(1)
