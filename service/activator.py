"""Brings a release into service: validated, its vectors and its generation made, then handed over to.

Each step leaves what it did on disk, so one that was killed goes on when it is begun again.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from structlog.typing import FilteringBoundLogger

from index.build import build_generation
from index.catalogue import Catalogue
from index.errors import IndexFileError
from index.generations import GenerationManifest, generation_path, open_current, open_generation
from index.reuse import factory_for
from index.succession import newest_usable, refuse, remove_all_but
from models.errors import ReleaseError
from models.runtime import Engine, Release, open_release
from service.activation import Activation, State, note_previous, previous_release
from service.backfill import fill, is_complete
from service.handover import UnservableError, hand_over
from service.releases import named

Tell = Callable[[Activation], None]


class Activator:
    """Changes what a catalogue's workers serve; one change at a time.

    Args:
        catalogue: opened for writing; nobody else changes its generations.
        releases: the folder that the releases lie in.
        engine: that the workers run the query tower with.
        workers: how many there are; 0: no server runs.
        threads: of the document tower and the builds; as many as there are cores when None.
        log: where changes are told.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        releases: Path,
        engine: Engine,
        workers: int,
        threads: int | None,
        log: FilteringBoundLogger,
    ) -> None:
        self._catalogue = catalogue
        self._path = catalogue.path
        self._releases = releases
        self._engine = engine
        self._workers = workers
        self._threads = threads
        self._log = log

    def activate(self, name: str, *, tell: Tell) -> None:
        """Serve the release in the folder `name`; what is served now stays to be gone back to.

        Args:
            name: of the folder beside the other releases.
            tell: is told how far it is.

        Raises:
            ModelsError: the release is broken, or cannot embed what the catalogue holds.
            SearchIndexError: its index cannot be built.
            HandoverError: the workers cannot serve it.
        """

        def telling(state: State) -> Callable[[int, int], None]:
            tell(Activation(release=name, state=state))
            return lambda done, total: tell(Activation(release=name, state=state, done=done, total=total))

        telling("validating")
        release = open_release(named(self._releases, name), engine=self._engine)
        release.document_tower(threads=self._threads or len(os.sched_getaffinity(0)))
        _check(release)
        present = open_current(self._path, verify=False).manifest
        if present.release == release.id:
            return
        embedding = telling("embedding")
        fill(self._catalogue, release, progress=embedding)
        number = self._usable(release.id)
        if number is None:
            number = self._built(release, embedding, telling("building"))
        # The indexer embeds by this release, too, since it was asked for; what it was at just then is made up for here.
        fill(self._catalogue, release, progress=embedding)
        telling("switching")
        self._switch(present, number, release.id)

    def hand_over(self, present: GenerationManifest, number: int) -> None:
        """Serve another generation of the same release, and remove what lies behind the one served now.

        Raises:
            HandoverError: the workers cannot serve it.
        """
        try:
            hand_over(self._path, number, workers=self._workers)
        except UnservableError as exc:
            refuse(self._path, number, str(exc))
            raise
        kept = open_generation(generation_path(self._path, number), verify=False).manifest
        trimmed = self._catalogue.trim(min(present.sequence, kept.sequence))
        removed = remove_all_but(self._path, {present.generation, number})
        in_use = {present.release, kept.release, previous_release(self._path) or kept.release}
        forgotten = self._catalogue.forget_vectors(kept=in_use)
        self._log.info(
            "generation changed",
            generation=number,
            release=kept.release,
            products=kept.count,
            removed=removed,
            log_entries_removed=trimmed,
            vectors_removed=forgotten,
        )

    def _switch(self, present: GenerationManifest, number: int, release_id: str) -> None:
        before = previous_release(self._path)
        note_previous(self._path, present.release)
        try:
            self.hand_over(present, number)
        except Exception:
            note_previous(self._path, before)
            raise
        self._log.info("release changed", release=release_id, previous=present.release)

    def _usable(self, release_id: str) -> int | None:
        """A generation of the release that is still there, as after it was served before."""
        while manifest := newest_usable(self._path, release=release_id, since=self._catalogue.log_start):
            try:
                open_generation(generation_path(self._path, manifest.generation))
            except IndexFileError as exc:
                refuse(self._path, manifest.generation, str(exc))
            else:
                return manifest.generation
        return None

    def _built(
        self, release: Release, embedding: Callable[[int, int], None], building: Callable[[int, int], None]
    ) -> int:
        """The release's first generation: over a moment at which no product lacks a vector."""
        present = open_current(self._path, verify=False)
        while True:
            with self._catalogue.snapshot():
                if is_complete(self._catalogue, release.id):
                    same_size = present.manifest.dim == release.dim
                    return build_generation(
                        self._catalogue,
                        release=release.id,
                        factory=factory_for(present.manifest, count=self._catalogue.count) if same_size else None,
                        attributes=present.columns.attributes,
                        current=False,
                        threads=self._threads,
                        progress=building,
                    )
            fill(self._catalogue, release, progress=embedding)


def _check(release: Release) -> None:
    """Raises ReleaseError unless both towers make vectors of the size that the manifest says, of finite numbers."""
    golden = release.golden_queries()
    if not golden:
        raise ReleaseError(f"{release.path} has no golden queries to warm up with; export it again")
    made = {
        "query": release.embed_query(golden[0].query, golden[0].country),
        "document": release.embed_product({"title": golden[0].query}),
    }
    for tower, vector in made.items():
        if vector.shape != (release.dim,) or not np.isfinite(vector).all():
            raise ReleaseError(
                f"the {tower} tower of {release.path} makes vectors of shape {vector.shape}, not of {release.dim} "
                "finite numbers; export it again"
            )
