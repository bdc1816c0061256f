"""What a server that writes its catalogue does beside its workers: it holds it alone, commits, embeds and builds."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from index.generations import remove_unfinished
from index.lock import exclusive
from service.commit_wire import COMMITS_DIR
from service.kept_process import kept
from service.settings import Settings
from service.temporary import shared_folder

_COMMITTER_LOST = "the committer ended; nothing can be written until it is back"
_INDEXER_LOST = "the indexer ended; what is written waits until it is back"
_BUILDER_LOST = "the builder ended; what is served stays as it is until it is back"


@contextmanager
def kept_up(settings: Settings, *, log: FilteringBoundLogger) -> Iterator[None]:
    """While the block runs, keep up the catalogue that this server writes; nothing where it writes none.

    Raises:
        CatalogueError: another server, or a command that changes it in bulk, holds the catalogue.
    """
    release, catalogue = settings.release, settings.catalogue
    if not is_written(settings) or release is None or catalogue is None:
        yield
        return
    with exclusive(catalogue, use="que2search serve"):
        with (
            _committing(catalogue, log=log),
            kept("service.indexer", [str(release), str(catalogue)], log=log, lost=_INDEXER_LOST),
            kept("service.builder", [], log=log, lost=_BUILDER_LOST),  # it reads the settings itself
        ):
            yield
        remove_unfinished(catalogue)  # what the builder was at


@contextmanager
def _committing(catalogue: Path, *, log: FilteringBoundLogger) -> Iterator[None]:
    without = "each worker commits by itself, between its searches: no folder for the committer's socket"
    with shared_folder("commits", variable=COMMITS_DIR, without=without, log=log) as folder:
        if folder is None:
            yield
            return
        with kept("service.committer", [str(folder), str(catalogue)], log=log, lost=_COMMITTER_LOST):
            yield


def is_written(settings: Settings) -> bool:
    """Whether this server makes what is written searchable, and builds what is to be served next."""
    release, catalogue = settings.release, settings.catalogue
    return settings.writes and release is not None and catalogue is not None and os.access(catalogue, os.W_OK)
