"""Health check of a container: exit 0 when a path of the server in it answers 200.

Run as `python -IS`, and on a bare socket: it shares the cores with the searches, so it starts in milliseconds.
"""

import os
import socket
import sys

TIMEOUT_S = 2


def answers(path: str, *, port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return connection.recv(64).startswith((b"HTTP/1.0 200 ", b"HTTP/1.1 200 "))


if __name__ == "__main__":
    sys.exit(not answers(sys.argv[1], port=int(os.environ.get("Q2S_PORT", "8000"))))
