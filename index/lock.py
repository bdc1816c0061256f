"""The lock of a catalogue: one server, or one command that changes it in bulk, at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from index.errors import CatalogueError

LOCK_FILE = "LOCK"


@contextmanager
def exclusive(path: Path, *, use: str, lock: str = LOCK_FILE) -> Iterator[None]:
    """Hold the catalogue's folder, made if it is not there, until the block ends or this process is gone.

    The kernel lets go of the lock however a process ends, so a file that was left behind locks nothing. A forked child
    holds it too; one that was started anew does not.

    Args:
        path: the catalogue's folder.
        use: what for, told to whoever comes second.
        lock: the file in it that is locked.

    Raises:
        CatalogueError: another process holds it, or the folder cannot be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / lock).open("ab+", buffering=0)
    except OSError as exc:
        raise CatalogueError(f"cannot write to {path}: {exc}") from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            file.seek(0)
            holder = file.read().decode(errors="replace").strip() or "another process"
            raise CatalogueError(f"{path} is in use by {holder}; stop that first") from exc
        with suppress(OSError):  # a full disk: whoever is to free it needs the lock, not its text
            file.truncate(0)
            file.write(f"{use}, process {os.getpid()}\n".encode())
        yield
