"""Keeps the indexer running beside the server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from structlog.typing import FilteringBoundLogger

from service.kept_process import kept
from service.settings import Settings


@contextmanager
def indexed(settings: Settings, *, log: FilteringBoundLogger) -> Iterator[None]:
    """Run the indexer while the block runs, where there is a release and a catalogue that can be written."""
    if not is_written(settings):
        yield
        return
    lost = "the indexer ended; what is written waits until it is back"
    with kept("service.indexer", [str(settings.release), str(settings.catalogue)], log=log, lost=lost):
        yield


def is_written(settings: Settings) -> bool:
    """Whether this server makes what is written searchable, and builds what is to be served next."""
    release, catalogue = settings.release, settings.catalogue
    return settings.writes and release is not None and catalogue is not None and os.access(catalogue, os.W_OK)
