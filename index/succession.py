"""Which generation follows which: the next one, those that were refused, and those that are kept to go back to.

catalogue/NEXT                     the number of a generation that all search workers are to make ready
catalogue/generations/N/REFUSED    why generation N could not be served: it is not tried again
"""

import shutil
from collections.abc import Collection
from pathlib import Path

from index.errors import IndexFileError
from index.files import sync_file, write_atomically
from index.generations import CURRENT_FILE, GenerationManifest, generation_path, manifests

NEXT_FILE = "NEXT"
REFUSED_FILE = "REFUSED"


def next_number(catalogue_path: Path) -> int | None:
    """The number in `NEXT`; None while there is none. Raises IndexFileError when it is no number."""
    path = catalogue_path / NEXT_FILE
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as exc:
        raise IndexFileError(f"{path} does not hold a generation's number; delete it") from exc


def propose(catalogue_path: Path, number: int) -> None:
    """Ask all workers to make a generation ready."""
    write_atomically(catalogue_path / NEXT_FILE, f"{number}\n".encode())


def withdraw(catalogue_path: Path) -> None:
    """Go on with the current generation."""
    (catalogue_path / NEXT_FILE).unlink(missing_ok=True)


def adopt(catalogue_path: Path) -> None:
    """Make the proposed generation the current one, at once for whoever looks."""
    (catalogue_path / NEXT_FILE).replace(catalogue_path / CURRENT_FILE)
    sync_file(catalogue_path)


def refuse(catalogue_path: Path, number: int, reason: str) -> None:
    """Never propose this generation again."""
    write_atomically(generation_path(catalogue_path, number) / REFUSED_FILE, f"{reason}\n".encode())


def newest_usable(catalogue_path: Path, *, release: str, since: int) -> GenerationManifest | None:
    """The newest generation of a release that was not refused and that the log, kept from `since` on, goes on from."""
    usable = [
        manifest
        for manifest in manifests(catalogue_path)
        if manifest.release == release
        and manifest.sequence >= since
        and not (generation_path(catalogue_path, manifest.generation) / REFUSED_FILE).exists()
    ]
    return usable[-1] if usable else None


def remove_all_but(catalogue_path: Path, kept: Collection[int]) -> list[int]:
    """Remove the other generations, but never the last number given, so that it is not given again; returns theirs."""
    folders = {int(path.name): path for path in (catalogue_path / "generations").iterdir() if path.name.isdecimal()}
    removed = sorted(folders.keys() - set(kept) - {max(folders, default=0)})
    for number in removed:
        doomed = folders[number].with_suffix(".tmp")  # what a crash leaves of it, `remove_unfinished` removes
        folders[number].rename(doomed)
        shutil.rmtree(doomed)
    return removed
