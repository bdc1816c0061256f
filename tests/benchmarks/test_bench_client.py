import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil
import pytest

from benchmarks.client import KeptConnection
from benchmarks.server import cpu_seconds, existing
from service.client import ClientError


@contextmanager
def answering(pieces: Sequence[bytes]) -> Iterator[int]:
    """A server of one connection: to each request it sends the next answer, byte by byte; then it hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for piece in pieces:
                    connection.recv(4096)
                    for byte in piece:
                        connection.send(bytes([byte]))

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def test_answers_are_read_whole_over_one_connection() -> None:
    """However the bytes arrive, and whatever the header's case."""
    answers = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 0\r\n\r\n",
    ]

    with answering(answers) as port, KeptConnection("127.0.0.1", port) as connection:
        assert [b"hello", b""] == [connection.get("/a"), connection.get("/b")]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nlate", "503 Service Unavailable: b'late'"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "how long"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", "closed the connection"),
    ],
)
def test_anything_but_a_whole_success_is_an_error(answer: bytes, says: str) -> None:
    """A benchmark never times failures as if they were answers."""
    with (
        answering([answer]) as port,
        KeptConnection("127.0.0.1", port) as connection,
        pytest.raises(ClientError, match=says),
    ):
        connection.get("/search")


def test_nobody_there_is_said_in_one_line() -> None:
    """With what to do."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

    with pytest.raises(ClientError, match="que2search serve"):
        KeptConnection("127.0.0.1", port)
    with pytest.raises(ClientError, match="que2search serve"):
        existing(f"http://127.0.0.1:{port}")


def test_cpu_time_is_that_of_the_process() -> None:
    """Seconds since it started, finer than the hundredths of /proc: a millisecond of work shows."""
    process = psutil.Process(os.getpid())
    before, until = cpu_seconds(process), time.process_time() + 0.001
    while time.process_time() < until:
        pass

    assert 0.001 <= cpu_seconds(process) - before
