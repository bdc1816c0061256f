"""The least HTTP client that can measure: one kept connection, the bytes of a GET, the bytes of its answer.

httpx spends more on a request than the server does; measured with it, the client would be the figure.
"""

import socket
from types import TracebackType
from typing import Self

from service.client import ClientError

TIMEOUT_S = 30.0
_CHUNK = 1 << 16


class KeptConnection:
    """One connection to a server, used again for every request."""

    def __init__(self, host: str, port: int) -> None:
        try:
            self._socket = socket.create_connection((host, port), timeout=TIMEOUT_S)
        except OSError as exc:
            raise ClientError(f"cannot reach {host}:{port}: {exc}; is `que2search serve` running there?") from exc
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._host = f"{host}:{port}".encode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def get(self, target: str) -> bytes:
        """The body of a successful answer.

        Raises:
            ClientError: the connection broke, or the answer is no success; says which.
        """
        try:
            self._socket.sendall(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target.encode(), self._host))
            head, _, body = self._until_head_ends().partition(b"\r\n\r\n")
            missing = _content_length(head) - len(body)
            while missing > 0:
                chunk = self._received()
                body += chunk
                missing -= len(chunk)
        except OSError as exc:
            raise ClientError(f"GET {target} broke off: {exc}") from exc
        if head[9:12] != b"200":
            raise ClientError(f"GET {target} answered {head.partition(bytes((13,)))[0].decode()}: {body[:200]!r}")
        return body

    def _until_head_ends(self) -> bytes:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._received()
        return received

    def _received(self) -> bytes:
        chunk = self._socket.recv(_CHUNK)
        if not chunk:
            raise ConnectionResetError("the server closed the connection")
        return chunk


def _content_length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    lengths = [int(value) for name, _, value in lines if name.lower() == b"content-length"]
    if not lengths:
        raise ConnectionAbortedError("the answer does not say how long it is")
    return lengths[0]
