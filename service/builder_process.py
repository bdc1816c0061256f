"""Keeps the builder running beside the server."""

from collections.abc import Iterator
from contextlib import contextmanager

from structlog.typing import FilteringBoundLogger

from service.indexer_process import is_written
from service.kept_process import kept
from service.settings import Settings


@contextmanager
def built(settings: Settings, *, log: FilteringBoundLogger) -> Iterator[None]:
    """Run the builder while the block runs, where the indexer runs too; it reads the settings itself."""
    if not is_written(settings):
        yield
        return
    lost = "the builder ended; what is served stays as it is until it is back"
    with kept("service.builder", [], log=log, lost=lost):
        yield
