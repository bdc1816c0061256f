"""What a worker and the committer tell each other: a group of changes, and what became of them.

A frame is the length of what follows, 4 bytes big-endian, and MessagePack. A worker has one connection; its frames are
answered in order.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from index.errors import CatalogueError, RequestConflictError
from index.writes import Prepared, RequestProgress, Write, WriteProblem
from service.group_commit import Group, Outcomes

COMMITS_DIR: Final = "Q2S_COMMITS_DIR"  # set by the server for its workers: where the committer's socket is
SOCKET_FILE: Final = "commits"
_LENGTH_BYTES: Final = 4

_Kind = Literal["done", "conflict", "failed"]


class _Sent(NamedTuple):
    changes: list[list[Any]]
    request: RequestProgress | None
    after_others: bool


_encode = msgspec.msgpack.Encoder().encode
_sent = msgspec.msgpack.Decoder(_Sent)
_answer = msgspec.msgpack.Decoder(tuple[_Kind, Any])


@contextmanager
def address_in(folder: Path) -> Iterator[str]:
    """The socket's, through an open descriptor: by path the kernel takes 107 bytes, and the folder's may be longer."""
    descriptor = os.open(folder, os.O_PATH)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_FILE}"
    finally:
        os.close(descriptor)


class Frames:
    """Puts together what arrives in pieces."""

    def __init__(self) -> None:
        self._arrived = bytearray()

    def take(self, piece: bytes) -> Iterator[bytes]:
        """The bodies that are whole now."""
        self._arrived += piece
        while len(self._arrived) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(self._arrived[:_LENGTH_BYTES], "big")
            if len(self._arrived) < end:
                return
            body = bytes(self._arrived[_LENGTH_BYTES:end])
            del self._arrived[:end]
            yield body

    @property
    def within(self) -> bool:
        """Whether the rest of one is still to come."""
        return len(self._arrived) > 0


def group_frame(group: Group) -> bytes:
    """To be sent by a worker."""
    return _frame(group)


def read_group(body: bytes) -> Group:
    """What a worker sent."""
    sent = _sent.decode(body)
    changes = [Prepared(*one) if len(one) == len(Prepared._fields) else WriteProblem(*one) for one in sent.changes]
    return Group(changes, sent.request, sent.after_others)


def outcomes_frame(outcomes: Outcomes) -> bytes:
    """The answer to it."""
    if isinstance(outcomes, CatalogueError):
        return _frame(("conflict" if isinstance(outcomes, RequestConflictError) else "failed", str(outcomes)))
    return _frame(("done", outcomes))


def read_outcomes(body: bytes) -> Outcomes:
    """What the committer answered."""
    kind, told = _answer.decode(body)
    if kind == "conflict":
        return RequestConflictError(told)
    if kind == "failed":
        return CatalogueError(told)
    return [Write(*one) if len(one) == len(Write._fields) else WriteProblem(*one) for one in told]


def _frame(content: object) -> bytes:
    body = _encode(content)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body
