"""The indexer: a process that embeds what was written and publishes it. Started by `serve`, one for each catalogue.

It takes the oldest products that wait, runs the document tower over them together, and commits their vectors: the
second of the two transactions of a write. What it was about to do when it was killed still waits when it comes back. A
product that the tower cannot take is set aside with its error, and the others go on.
"""

import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from index.catalogue import Catalogue
from index.errors import CatalogueError, IndexFileError
from index.log import Pending
from index.publications import Published
from models.runtime import Release
from service.backfill import embed
from service.embedders import Embedders
from service.logs import make_logger

BATCH = 16  # products in one run of the tower: its time is what the first of them waits for the last
GATHER_S = 0.1  # from one look to the next: what one product costs more alone than among ten is twice its embedding
RETRY_S = 1.0  # after the disk failed
NICENESS = 5  # searches come first


class Indexer:
    """Embeds and publishes.

    Args:
        catalogue: opened for writing.
        releases: whose document towers embed, as of now; the first is served, and a product that it cannot take is set
            aside. The others may do without one.
        log: where it tells what it set aside.
    """

    def __init__(
        self, catalogue: Catalogue, releases: Callable[[], Sequence[Release]], *, log: FilteringBoundLogger
    ) -> None:
        self._catalogue = catalogue
        self._releases = releases
        self._log = log

    def step(self) -> int:
        """Publish the oldest products that wait, at most `BATCH`; returns how many there were.

        Raises:
            CatalogueError: the disk fails; what waits goes on waiting.
            ModelsError: the served release cannot be opened; the same.
        """
        served, *others = self._releases()
        waiting = self._catalogue.pending(BATCH)
        if waiting:
            self._catalogue.publish(self._embedded(waiting, served, others))
        return len(waiting)

    def _embedded(self, waiting: Sequence[Pending], served: Release, others: Sequence[Release]) -> list[Published]:
        products = [one.product for one in waiting]
        try:
            vectors = {release.id: embed(release, products) for release in (served, *others)}
        except Exception:  # noqa: BLE001 - whatever a product's content does to the featuriser or the tower
            return [published for one in waiting for published in self._carefully_embedded(one, served, others)]
        return [
            Published(one.number, one.sequence, {release: rows[at] for release, rows in vectors.items()})
            for at, one in enumerate(waiting)
        ]

    def _carefully_embedded(self, one: Pending, served: Release, others: Sequence[Release]) -> Iterator[Published]:
        """One product by itself, after a batch has failed."""
        try:
            vectors = {served.id: embed(served, [one.product])[0]}
        except Exception as exc:  # noqa: BLE001 - as above
            self._set_aside(one, exc)
            return
        for release in others:
            try:
                vectors[release.id] = embed(release, [one.product])[0]
            except Exception as exc:  # noqa: BLE001 - as above; whoever wants to serve that release will be told
                self._log.warning(
                    "product not embedded by a release that is not served",
                    release=release.id,
                    product=one.product["product_id"],
                    error=f"{type(exc).__name__}: {exc}",
                )
        yield Published(one.number, one.sequence, vectors)

    def _set_aside(self, one: Pending, exc: Exception) -> None:
        error = f"{type(exc).__name__}: {exc}"
        self._catalogue.set_aside(one.number, one.sequence, error)
        self._log.warning("product set aside", product=one.product["product_id"], error=error)


def run(release_path: Path, catalogue_path: Path, *, log: FilteringBoundLogger) -> None:
    """Work until the server that started this process is gone: then its end of our standard input closes."""
    os.nice(NICENESS)
    embedders = Embedders(catalogue_path, release_path, log=log)
    embedders.look()  # loaded now, not when the first write waits for it
    with Catalogue.open(catalogue_path, readonly=False) as catalogue:
        indexer = Indexer(catalogue, embedders.look, log=log)
        log.info("indexing", waiting=catalogue.backlog_count)
        while True:
            try:
                hurries = indexer.step() == BATCH  # more may wait
            except (CatalogueError, IndexFileError) as exc:
                log.exception("nothing was published", reason=str(exc))
                time.sleep(RETRY_S)
                continue
            if select.select([sys.stdin], [], [], 0 if hurries else GATHER_S)[0]:
                return


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), log=make_logger("info"))
