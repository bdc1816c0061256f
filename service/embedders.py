"""Which releases the indexer embeds by: the served one, the one that is to be served next, and the one before.

So a release that is being prepared misses no write, and one that was served last can be gone back to at once.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from structlog.typing import FilteringBoundLogger

from index.generations import CURRENT_FILE, current_number, generation_path, read_manifest
from models.errors import ModelsError, ReleaseError
from models.runtime import Release, open_release
from service.activation import asked, previous_release
from service.releases import named, release_for, with_id


class Embedders:
    """Opens the releases as they are needed, and lets go of them.

    Args:
        catalogue_path: the catalogue's folder, whose files tell which.
        usual: the release that the server was started with; the others lie beside it.
        log: where it tells of a release that cannot be opened.
    """

    def __init__(self, catalogue_path: Path, usual: Path, *, log: FilteringBoundLogger) -> None:
        self._catalogue_path = catalogue_path
        self._usual = usual
        self._log = log
        self._seen: _Named | None = None
        self._releases: list[Release] = []

    def look(self) -> list[Release]:
        """The releases as of now, the served one first. Takes microseconds while they stay the same.

        Raises:
            ModelsError: the served one cannot be opened. Others that cannot are left out.
            IndexFileError: the current generation cannot be read.
        """
        path = self._catalogue_path
        wanted = _Named(_current(path), asked(path), previous_release(path))
        if wanted != self._seen:
            self._releases = self._opened(wanted)
            self._seen = wanted
            self._log.info("embedding", releases=[release.id for release in self._releases])
        return self._releases

    def _opened(self, wanted: "_Named") -> list[Release]:
        served, *others = dict.fromkeys(self._paths(wanted))
        known = {release.path: release for release in self._releases}
        releases = [known.get(served) or _open(served)]
        for path in others:
            try:
                releases.append(known.get(path) or _open(path))
            except ModelsError as exc:
                self._log.warning("not embedding for a release", release=str(path), reason=str(exc))
        return releases

    def _paths(self, wanted: "_Named") -> Iterator[Path]:
        if wanted.generation is None:
            yield self._usual
        else:
            manifest = read_manifest(generation_path(self._catalogue_path, wanted.generation))
            yield release_for(manifest.release, usual=self._usual)
        if wanted.asked is not None:
            with suppress(ReleaseError):  # the builder refuses it, and says why
                yield named(self._usual.parent, wanted.asked)
        if wanted.previous is not None:
            before = with_id(self._usual.parent, wanted.previous)
            if before is not None:
                yield before


class _Named(NamedTuple):
    """What the files of the catalogue's folder name."""

    generation: int | None
    asked: str | None
    previous: str | None


def _current(catalogue_path: Path) -> int | None:
    """None: no index was built yet."""
    return current_number(catalogue_path) if (catalogue_path / CURRENT_FILE).exists() else None


def _open(path: Path) -> Release:
    release = open_release(path)
    release.document_tower()  # loaded now, not when the first write waits for it
    return release
