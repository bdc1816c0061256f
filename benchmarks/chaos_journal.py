"""What an outside client sent and was told: on its own disk before it goes on, out of reach of whatever is killed."""

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Final, Literal

import msgspec

Event = Literal["sent", "acknowledged", "absent", "refused", "wrong"]
_NEWLINE: Final = b"\n"


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened to one change of one product."""

    event: Event  # absent: a deletion was told that there is no such product; refused: nothing was written
    product: str = ""
    serial: int | None = None  # of the write; None: a deletion
    version: int | None = None  # as it was acknowledged; None: by an earlier request
    says: str = ""  # what is wrong
    at: float = 0.0  # seconds of the monotonic clock, which all processes of a machine share


class Journal:
    """Takes entries from all threads; each is on disk when `note` returns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()

    def note(self, *entries: Entry) -> None:
        """Append them, with the time."""
        with self._lock:
            at = monotonic()
            self._file.write(b"".join(_line(msgspec.structs.replace(entry, at=at)) for entry in entries))
            os.fdatasync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class JournalReader:
    """Reads a journal while it is written."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("rb")
        self._rest = b""

    def new(self) -> Iterator[Entry]:
        """The entries since the last call."""
        *lines, self._rest = (self._rest + self._file.read()).split(_NEWLINE)
        return (msgspec.json.decode(line, type=Entry) for line in lines)

    def close(self) -> None:
        self._file.close()


def read_journal(path: Path) -> list[Entry]:
    """All entries of a journal."""
    with closing(JournalReader(path)) as reader:
        return list(reader.new())


def _line(entry: Entry) -> bytes:
    return msgspec.json.encode(entry) + _NEWLINE
