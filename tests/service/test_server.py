"""The server as it really runs: processes, sockets, signals."""

import contextlib
import json
import signal
import socket
from collections.abc import Iterator

import httpx
import pytest

from service.errors import ListenError
from service.server import listen
from service.settings import Settings
from tests.service.real_server import PATIENCE_S, Server, server


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def running(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Server]:
    with server(settings.model_copy(update={"workers": request.param})) as running:
        yield running


def test_sigterm_answers_what_is_in_flight_and_ends_with_0(running: Server) -> None:
    """Half a request is in when the signal comes: new connections are refused, the other half is answered."""
    body = json.dumps({"q": "green guitar", "size": 1}).encode()
    with socket.create_connection(running.address) as connection:
        head = f"POST /search HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode() + body[:10])
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")  # a worker waits for the rest
        running.process.send_signal(signal.SIGTERM)
        running.wait_until_refusing()
        connection.sendall(body[10:])
        answer = connection.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b'"green guitar"' in answer
    assert 0 == running.process.wait(timeout=PATIENCE_S)


def test_garbage_on_the_socket_harms_nobody_else(settings: Settings) -> None:
    """No HTTP at all, a header flood, a connection closed in mid-body: the next search is answered."""
    with server(settings) as running:
        for garbage in (b"\x00\xff" * 500, b"GET / HTTP/9\r\n\r\n", b"GET /\r\n" + b"A: b\r\n" * 10_000):
            with contextlib.suppress(ConnectionError), socket.create_connection(running.address) as connection:
                connection.sendall(garbage)
        with socket.create_connection(running.address) as connection:
            connection.sendall(b"POST /search HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n{")

        assert 200 == httpx.get(f"{running.url}/search", params={"q": "lamp"}).status_code
        assert 0 == running.stop()


def test_metrics_sum_over_the_workers(settings: Settings) -> None:
    """Searches until both workers have answered some; then any worker tells the number of all."""
    with server(settings.model_copy(update={"workers": 2})) as running:
        workers: set[str] = set()
        sent = 0
        while len(workers) < 2 or sent < 20:
            answer = httpx.get(f"{running.url}/search", params={"q": "lamp"})  # a new connection each time
            workers.add(answer.headers["x-request-id"].split("-")[0])
            sent += 1
            assert sent < 2_000, "one worker answers everything"
        refused = [httpx.get(f"{running.url}/search").status_code for _ in range(8)]
        assert [422] * 8 == refused
        scrapes = [httpx.get(f"{running.url}/metrics").text for _ in range(6)]

        for text in scrapes:
            assert f'q2s_effort_total{{degraded="false",effort="low"}} {sent}.0' in text
            assert f'q2s_request_seconds_count{{effort="low",mode="vector",page="first"}} {sent}.0' in text
            assert 'q2s_problems_total{status="422"} 8.0' in text
            assert 'q2s_release_info{engine="onnx",generation="1",release="small"} 1.0' in text
        assert 0 == running.stop()


def test_a_taken_address_is_a_clear_error() -> None:
    """Says which, and what to do."""
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .*in use; choose another"):
            listen("127.0.0.1", port)


def test_a_foreign_address_is_a_clear_error() -> None:
    """A name that does not exist, an address of another machine."""
    for host in ("no-such-host.invalid", "192.0.2.1"):
        with pytest.raises(ListenError, match=f"cannot listen on {host}:8000"):
            listen(host, 8000)
