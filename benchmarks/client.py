"""The least HTTP client that can measure: one kept connection, the bytes of a GET, the bytes of its answer.

httpx spends more on a request than the server does; measured with it, the client would be the figure.
"""

import socket
import struct
from types import TracebackType
from typing import Final, NamedTuple, Self

from benchmarks.answers import HEAD_ENDS, content_length, status_of
from service.client import ClientError

TIMEOUT_S: Final = 30
_CHUNK: Final = 1 << 16
SUCCESS: Final = 200


class Answered(NamedTuple):
    """The bytes of a successful answer."""

    head: bytes
    body: bytes


class KeptConnection:
    """One connection to a server, used again for every request."""

    def __init__(self, host: str, port: int) -> None:
        try:
            self._socket = socket.create_connection((host, port), timeout=TIMEOUT_S)
        except OSError as exc:
            raise ClientError(f"cannot reach {host}:{port}: {exc}; is `que2search serve` running there?") from exc
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Python's own timeout polls before every send and receive: two calls into the kernel more, in what is timed.
        self._socket.setblocking(True)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", TIMEOUT_S, 0))
        self._host = f"{host}:{port}".encode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def get(self, target: str) -> bytes:
        """The body of a successful answer; raises as `ask` does."""
        return self.ask(target).body

    def ask(self, target: str) -> Answered:
        """A successful answer.

        Raises:
            ClientError: the connection broke, or the answer is no success; says which.
        """
        try:
            self._socket.sendall(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target.encode(), self._host))
            head, _, body = self._until_head_ends().partition(HEAD_ENDS)
            missing = _length_of(head) - len(body)
            while missing > 0:
                chunk = self._received()
                body += chunk
                missing -= len(chunk)
        except OSError as exc:
            raise ClientError(f"GET {target} broke off: {exc}") from exc
        if status_of(head) != SUCCESS:
            raise ClientError(f"GET {target} answered {head.partition(bytes((13,)))[0].decode()}: {body[:200]!r}")
        return Answered(head, body)

    def _until_head_ends(self) -> bytes:
        received = b""
        while HEAD_ENDS not in received:
            received += self._received()
        return received

    def _received(self) -> bytes:
        chunk = self._socket.recv(_CHUNK)
        if not chunk:
            raise ConnectionResetError("the server closed the connection")
        return chunk


def _length_of(head: bytes) -> int:
    length = content_length(head)
    if length is None:
        raise ConnectionAbortedError("the answer does not say how long it is")
    return length
