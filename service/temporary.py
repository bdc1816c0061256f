"""Temporary folders that are removed however a server ends: by itself, or by the next one where it was killed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "q2s-"


@contextmanager
def temporary_folder(use: str, *, within: Path | None = None) -> Iterator[Path]:
    """A new folder while the block runs. Those for the same use whose process is gone are removed.

    A lock tells whose process is there: the kernel lets go of it however that ends, and it holds from container to
    container where they share a folder, as process ids do not.

    Args:
        use: a part of its name.
        within: where it is made; by default where temporary files lie.

    Raises:
        OSError: there is no folder for temporary files, or it cannot be written to.
    """
    prefix = f"{PREFIX}{use}-"
    place = within or Path(tempfile.gettempdir())
    for left in place.glob(f"{prefix}*"):
        _remove_if_left(left)
    path, lock = _made(place, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _made(place: Path, prefix: str) -> tuple[Path, int]:
    """A new folder and its lock; again where another server took it for one that was left."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                return path, lock
            os.close(lock)


def _remove_if_left(path: Path) -> None:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # gone meanwhile, another user's, or no folder
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        pass  # its server runs
    finally:
        os.close(lock)
