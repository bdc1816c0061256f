"""A copy of a catalogue to write to: the measured one is left as it was."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from index.backup import back_up
from index.catalogue import STORE_FILE
from index.generations import current_number, generation_path
from service.client import ClientError


@contextmanager
def copied(catalogue: Path) -> Iterator[Path]:
    """A copy in a folder beside the catalogue, on the same disk; gone when the block ends.

    Raises:
        ClientError: the disk has no room for it, or the folder cannot be written to.
        CatalogueError, IndexFileError: there is no such catalogue, or it has no index yet.
    """
    needed, free = room_for(catalogue), shutil.disk_usage(catalogue.parent).free
    if needed > free:
        raise ClientError(
            f"a copy of {catalogue} to write to takes up to {needed / 1e9:.1f} GB beside it, and {free / 1e9:.1f} GB "
            "are free; free some, or measure a copy that lies elsewhere"
        )
    try:
        folder = TemporaryDirectory(dir=catalogue.parent, prefix="bench-writes-")
    except OSError as exc:
        raise ClientError(f"no copy of {catalogue} can be made beside it: {exc}") from exc
    with folder as beside:
        copy = Path(beside) / catalogue.name
        back_up(catalogue, copy)
        yield copy


def room_for(catalogue: Path) -> int:
    """Bytes that a copy takes at most: its store, grown to twice its size, and two generations that are built of it.

    Raises:
        IndexFileError: the catalogue has no index yet.
    """
    generation = folder_bytes(generation_path(catalogue, current_number(catalogue)))
    return 2 * (catalogue / STORE_FILE).stat().st_size + 2 * generation


def folder_bytes(folder: Path) -> int:
    """Of all files in it."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
