"""Copies of a whole catalogue: a backup of one that is in use, its restoration, and compaction in place."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from index.catalogue import STORE_FILE, Catalogue
from index.errors import CatalogueError, IndexFileError
from index.files import sync_file
from index.generations import CURRENT_FILE, current_number, generation_path
from index.lock import LOCK_FILE, exclusive

_GENERATION_TRIES = 5
_NOT_COPIED = {STORE_FILE, f"{STORE_FILE}-lock", LOCK_FILE, CURRENT_FILE}

Progress = Callable[[int, int], None]  # files done, all files


class Backup(NamedTuple):
    """What a copy holds."""

    products: int
    sequence: int
    generation: int | None  # None: no index was built yet
    bytes: int


class Compaction(NamedTuple):
    """Sizes of the store's file in bytes."""

    before: int
    after: int


def back_up(path: Path, out: Path, *, progress: Progress | None = None) -> Backup:
    """Copy a catalogue as of one moment, while it is read and written; `out` appears when it is whole.

    The store is copied in one snapshot, the current generation linked where `out` is on the same file system: its
    files never change.

    Raises:
        CatalogueError: `out` is there already, cannot be written, or generations came faster than they were copied.
    """
    with _appearing(out) as beside, Catalogue.open(path) as catalogue:
        # The generation first: the store's log then reaches back to it, for it is trimmed only behind the current one.
        for _ in range(_GENERATION_TRIES):
            number = _current(path)
            shutil.rmtree(beside / "generations", ignore_errors=True)
            (beside / STORE_FILE).unlink(missing_ok=True)
            if number is not None and not _copied_generation(path, beside, number, progress):
                continue
            catalogue.copy_to(beside / STORE_FILE)
            if _current(path) == number:
                break
        else:
            raise CatalogueError(f"{path} got {_GENERATION_TRIES} new generations during the backup; try again")
        for file in path.iterdir():
            if file.is_file() and file.name not in _NOT_COPIED and file.suffix != ".tmp":
                shutil.copy2(file, beside / file.name)
        if number is not None:
            (beside / CURRENT_FILE).write_text(f"{number}\n")
    with Catalogue.open(out) as copy:
        return Backup(copy.count, copy.sequence, number, sum(f.stat().st_size for f in out.rglob("*") if f.is_file()))


def restore(backup: Path, path: Path, *, progress: Progress | None = None) -> Backup:
    """Make a catalogue of a backup; the backup stays as it is.

    Raises:
        CatalogueError: `backup` is none, `path` holds something already or cannot be written.
    """
    if not (backup / STORE_FILE).is_file():
        raise CatalogueError(f"{backup} is no backup: it has no {STORE_FILE}")
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
    with _appearing(path) as beside:
        files = [file for file in sorted(backup.rglob("*")) if file.is_file() and file.name != f"{STORE_FILE}-lock"]
        if links := [file for file in files if file.is_symlink()]:
            raise CatalogueError(f"{links[0]} is a link, which no backup holds; copy the file in its place")
        for done, file in enumerate(files, start=1):
            target = beside / file.relative_to(backup)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
            if progress is not None:
                progress(done, len(files))
    with Catalogue.open(path) as catalogue:
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return Backup(catalogue.count, catalogue.sequence, _current(path), size)


def compact(path: Path) -> Compaction:
    """Write the store anew without its free pages, and put it in the place of the old one; no server may run.

    One of an older format is brought to the present one first.

    Raises:
        CatalogueError: the catalogue is in use, not there, or the disk is full; the old store is then in its place.
    """
    if not (path / STORE_FILE).is_file():
        raise CatalogueError(f"there is no catalogue at {path}")
    beside = path / f"{STORE_FILE}.tmp"
    with exclusive(path, use="que2search catalogue compact"):
        beside.unlink(missing_ok=True)
        before = (path / STORE_FILE).stat().st_size
        try:
            with Catalogue.open(path, readonly=False) as catalogue:
                catalogue.copy_to(beside)
            beside.replace(path / STORE_FILE)
        finally:
            beside.unlink(missing_ok=True)
        sync_file(path)
        return Compaction(before=before, after=(path / STORE_FILE).stat().st_size)


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A folder beside `path` that is made durable and gets its name when the block ends well."""
    if path.exists():
        raise CatalogueError(f"{path} is there already; name a folder that is not")
    beside = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        yield beside
        for file in (*beside.rglob("*"), beside):
            sync_file(file)
        (beside / f"{STORE_FILE}-lock").unlink(missing_ok=True)
        beside.rename(path)
        sync_file(path.parent)
    except OSError as exc:
        raise CatalogueError(f"cannot write {path}: {exc}") from exc
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _current(path: Path) -> int | None:
    if not (path / CURRENT_FILE).exists():
        return None
    try:
        return current_number(path)
    except IndexFileError as exc:
        raise CatalogueError(str(exc)) from exc


def _copied_generation(path: Path, beside: Path, number: int, progress: Progress | None) -> bool:
    """Whether it was there to the end: a compaction may remove it meanwhile."""
    source = generation_path(path, number)
    files = [file for file in sorted(source.rglob("*")) if file.is_file()]
    for done, file in enumerate(files, start=1):
        target = generation_path(beside, number) / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _link_or_copy(file, target)
        except FileNotFoundError:
            return False
        if progress is not None:
            progress(done, len(files))
    return source.is_dir()


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
