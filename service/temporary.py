"""Temporary folders that are removed however a server ends: by itself, or by the next one where it was killed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from structlog.typing import FilteringBoundLogger

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


@contextmanager
def shared_folder(use: str, *, variable: str, without: str, log: FilteringBoundLogger) -> Iterator[Path | None]:
    """A temporary folder that workers find by an environment variable; None, which is told, where none can be had.

    Args:
        use: see `temporary_folder`.
        variable: names the folder while the block runs.
        without: what it means that there is none, for the log.
        log: where it is told.
    """
    os.environ.pop(variable, None)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder(use))
        except OSError as exc:  # a read-only root without a /tmp
            log.warning(without, reason=str(exc))
            yield None
            return
        os.environ[variable] = str(folder)
        stack.callback(os.environ.pop, variable)
        yield folder


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
