"""Keeps the sampler running beside the server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from structlog.typing import FilteringBoundLogger

from index.errors import IndexFileError
from index.generations import current_number
from service.kept_process import kept
from service.settings import Settings
from service.temporary import shared_folder
from service.watch import WATCH_DIR
from service.watch_report import REPORT_FILE


@contextmanager
def watched(settings: Settings, *, log: FilteringBoundLogger) -> Iterator[None]:
    """Run the sampler while the block runs. Without one, which the log then tells, the server serves all the same."""
    os.environ.pop(WATCH_DIR, None)
    if settings.watch_share == 0 or not _has_generation(settings):
        yield
        return
    without = "searches are not watched: no folder for the samples"
    with shared_folder("watch", variable=WATCH_DIR, without=without, log=log) as folder:
        if folder is None:
            yield
            return
        report = folder / REPORT_FILE
        with kept(
            "service.sampler",
            [str(folder), str(settings.catalogue), str(settings.watch_cpu)],
            log=log,
            lost="the watch ended; searches go on without it",
            ended=lambda: report.unlink(missing_ok=True),  # nobody keeps it true
        ):
            yield


def _has_generation(settings: Settings) -> bool:
    """Whether there is one that the workers will open; where there is none, that is theirs to tell."""
    try:
        return settings.catalogue is not None and current_number(settings.catalogue) > 0
    except IndexFileError:
        return False
