"""From one generation to the next without a gap: first all workers make it ready, then all serve it.

catalogue/workers/PID    what a worker says of the generation that `NEXT` or `CURRENT` names
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import msgspec

from index.succession import adopt, propose, withdraw
from service.errors import ServiceError

WORKERS_FOLDER: Final = "workers"
PATIENCE_S: Final = 300.0
SETTLE_S: Final = 10.0  # for the workers to serve what they have made ready
LOOK_EVERY_S: Final = 0.02


class HandoverError(ServiceError):
    """The workers go on with what they serve."""


class UnservableError(HandoverError):
    """A worker cannot serve the generation: it tells why."""


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of a generation: that it is ready, that it serves it, or what is wrong with it."""

    generation: int
    serving: bool = False
    error: str | None = None


def say(catalogue_path: Path, word: Word) -> None:
    """As a worker, let whoever hands over know."""
    folder = catalogue_path / WORKERS_FOLDER
    folder.mkdir(exist_ok=True)
    beside = folder / f"{os.getpid()}.tmp"
    beside.write_bytes(msgspec.json.encode(word))
    beside.replace(folder / str(os.getpid()))


def fall_silent(catalogue_path: Path) -> None:
    """As a worker that ends."""
    (catalogue_path / WORKERS_FOLDER / str(os.getpid())).unlink(missing_ok=True)


def hand_over(catalogue_path: Path, number: int, *, workers: int, patience_s: float = PATIENCE_S) -> None:
    """Make a generation the current one, once all workers are ready for it; returns when they serve it.

    Args:
        catalogue_path: the catalogue's folder.
        number: the generation's.
        workers: how many there are.
        patience_s: how long they may take to make it ready.

    Raises:
        UnservableError: a worker cannot open it; then all go on with what they serve.
        HandoverError: not all were ready in time; the same.
    """
    for path in (catalogue_path / WORKERS_FOLDER).glob("*"):
        path.unlink(missing_ok=True)  # what was said of an earlier proposal of the same generation
    propose(catalogue_path, number)
    try:
        _wait_until_ready(catalogue_path, number, workers=workers, give_up=monotonic() + patience_s)
    except HandoverError:
        withdraw(catalogue_path)
        raise
    adopt(catalogue_path)
    give_up = monotonic() + SETTLE_S
    while sum(word.serving for word in _words(catalogue_path, number)) < workers and monotonic() < give_up:
        sleep(LOOK_EVERY_S)  # one that restarts meanwhile opens it anyway


def _wait_until_ready(catalogue_path: Path, number: int, *, workers: int, give_up: float) -> None:
    while True:
        words = list(_words(catalogue_path, number))
        for word in words:
            if word.error is not None:
                raise UnservableError(f"a worker cannot serve generation {number}: {word.error}")
        if len(words) >= workers:
            return
        if monotonic() >= give_up:
            raise HandoverError(f"{len(words)} of {workers} workers got ready for generation {number} in time")
        sleep(LOOK_EVERY_S)


def _words(catalogue_path: Path, number: int) -> Iterator[Word]:
    """What living workers say of a generation; the others' files are removed."""
    for path in (catalogue_path / WORKERS_FOLDER).glob("[0-9]*"):
        if not path.name.isdecimal():
            continue
        if not _is_alive(int(path.name)):
            path.unlink(missing_ok=True)
            continue
        with suppress(FileNotFoundError, msgspec.DecodeError):
            word = msgspec.json.decode(path.read_bytes(), type=Word)
            if word.generation == number:
                yield word


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
