"""The builder: a process that makes new generations, and with them new releases, ready. Started by `serve`.

It looks about once a second whether a release was asked for, or whether the changes that every worker carries along
beside its generation have become many: then it builds one that holds them (a compaction). It yields to searches, and
ends when the server that started it is gone. Killed at any point, it goes on, or begins again, when it is back.
"""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from structlog.typing import FilteringBoundLogger

from index.build import build_generation
from index.catalogue import Catalogue
from index.errors import SearchIndexError
from index.generations import (
    Generation,
    current_number,
    generation_path,
    open_current,
    read_manifest,
    remove_unfinished,
)
from index.lock import exclusive
from index.reuse import factory_for, has_drifted
from index.succession import newest_usable, withdraw
from service.activation import Activation, asked, settle, tell
from service.activator import Activator
from service.errors import ServiceError, SettingsError
from service.logs import make_logger
from service.settings import Settings, load_settings

LOOK_EVERY_S: Final = 1.0
RETRY_S: Final = 600.0  # after a compaction that failed
TELL_EVERY_S: Final = 0.5
NICENESS: Final = 19  # searches and the indexer come first
LOCK_FILE: Final = "BUILDER"  # a builder whose server was killed may take a moment to end
ENTRIES_PER_CHANGE: Final = 2  # of the log: a write, and its publication


class Builder:
    """Does what is due, one thing at a time.

    Args:
        catalogue: opened for writing.
        activator: changes what is served.
        compact_at: share of a generation's products whose changes call for a compaction; 0: none ever does.
        compact_from: and at least so many changes.
        log: where it tells what it does.
        now: the clock, in seconds.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        activator: Activator,
        *,
        compact_at: float,
        compact_from: int,
        log: FilteringBoundLogger,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._catalogue = catalogue
        self._activator = activator
        self._compact_at = compact_at
        self._compact_from = compact_from
        self._log = log
        self._now = now
        self._not_before = -float("inf")

    def step(self) -> bool:
        """Do what is due, if anything; whether it was done."""
        name = asked(self._catalogue.path)
        if name is not None:
            return self._activate(name)
        if self._now() >= self._not_before and self._is_due():
            return self._compact()
        return False

    def _activate(self, name: str) -> bool:
        path = self._catalogue.path
        try:
            self._activator.activate(name, tell=_Teller(path, now=self._now).tell)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the old release goes on, and the new one is refused
            self._log.exception("release refused", release=name)
            settle(path, Activation(release=name, state="refused", error=f"{type(exc).__name__}: {exc}"))
            return False
        settle(path, Activation(release=name, state="active"))
        return True

    def _is_due(self) -> bool:
        """Whether a worker carries many changes along."""
        if self._compact_at == 0:
            return False
        manifest = read_manifest(generation_path(self._catalogue.path, current_number(self._catalogue.path)))
        changes = (self._catalogue.sequence - manifest.sequence) // ENTRIES_PER_CHANGE
        return changes > max(self._compact_at * manifest.count, self._compact_from)

    def _compact(self) -> bool:
        started = self._now()
        try:
            present = open_current(self._catalogue.path, verify=False)
            number = self._compacted(present)
            self._activator.hand_over(present.manifest, number)
        except Exception:  # noqa: BLE001 - what is served needs no compaction to go on
            self._not_before = self._now() + RETRY_S
            self._log.exception("not compacted", again_in_s=RETRY_S)
            return False
        self._log.info("compacted", generation=number, seconds=round(self._now() - started, 1))
        return True

    def _compacted(self, present: Generation) -> int:
        """A generation that holds the changes: trained as the present one was, unless that fits no more."""
        manifest = present.manifest
        ready = newest_usable(self._catalogue.path, release=manifest.release, since=manifest.sequence + 1)
        if ready is not None:  # built before a crash
            return ready.generation
        factory = factory_for(manifest, count=self._catalogue.vector_count(manifest.release))
        grows = factory != manifest.factory
        retrain = grows or has_drifted(present, self._catalogue)
        self._log.info("compacting", generation=manifest.generation, factory=factory, trained_again=retrain)
        return build_generation(
            self._catalogue,
            release=manifest.release,
            factory=factory,
            attributes=present.columns.attributes,
            like=None if retrain else present,
            points=None if grows else present.operating_points,  # measured with these lists
            current=False,
            threads=1,
        )


class _Teller:
    """Tells how far an activation is: every new state, and progress not too often."""

    def __init__(self, catalogue_path: Path, *, now: Callable[[], float]) -> None:
        self._path = catalogue_path
        self._now = now
        self._state: str | None = None
        self._told_at = 0.0

    def tell(self, activation: Activation) -> None:
        if activation.state != self._state or self._now() - self._told_at >= TELL_EVERY_S:
            tell(self._path, activation)
            self._state, self._told_at = activation.state, self._now()


def run(settings: Settings, *, log: FilteringBoundLogger) -> None:
    """Look and do until one thing is done; then return, for the memory that it took to be given back.

    Raises:
        SettingsError: no release or no catalogue is named.
        CatalogueError: another builder is still at work, or the catalogue cannot be written.
    """
    release, path = settings.release, settings.catalogue
    if release is None or path is None:
        raise SettingsError("the builder needs Q2S_RELEASE and Q2S_CATALOGUE")
    with exclusive(path, use="the builder of a server", lock=LOCK_FILE), Catalogue.open(path, readonly=False) as opened:
        withdraw(path)  # what a builder that was killed had proposed
        remove_unfinished(path)  # and what it was building
        activator = Activator(
            opened,
            releases=release.parent,
            engine=settings.engine,
            workers=settings.workers,
            threads=1,
            log=log,
        )
        builder = Builder(
            opened, activator, compact_at=settings.compact_at, compact_from=settings.compact_from, log=log
        )
        done = False
        while not done:
            sleep(LOOK_EVERY_S)  # first, so that workers see a withdrawal before the next proposal
            try:
                done = builder.step()
            except (SearchIndexError, ServiceError, OSError):
                log.exception("nothing was built", again_in_s=LOOK_EVERY_S)


def _end_with_the_server() -> None:
    """Its end of our standard input closes when it is gone, whatever we are doing then."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    run(load_settings(), log=make_logger("info"))
    os.execv(sys.executable, [sys.executable, "-m", "service.builder"])  # noqa: S606 - ourselves, without the memory
