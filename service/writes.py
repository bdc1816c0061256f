"""What the write routes need of this worker: the catalogue, who commits, who waits, and what the release can read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from index.catalogue import Catalogue
from service.commits import commits_of
from service.pipeline import Pipeline
from service.products import Product, check_images
from service.visibility import Waiter
from service.writer import Writer


@dataclass(frozen=True, kw_only=True)
class Writes:
    """Made once, when a worker starts to serve a catalogue that can be written."""

    catalogue: Catalogue
    writer: Writer
    waiter: Waiter
    image_dim: int  # of the release; 0: it reads no images

    @classmethod
    def of(cls, pipeline: Pipeline, applied: Callable[[], int], *, max_backlog: int, timeout_ms: float) -> Self:
        """For what a pipeline serves.

        Args:
            pipeline: its catalogue is open for writing.
            applied: the sequence number that this worker's searches have come to, also by a later pipeline.
            max_backlog: products that may wait to be embedded.
            timeout_ms: how long a write may wait until it is searchable.
        """
        catalogue = pipeline.catalogue
        return cls(
            catalogue=catalogue,
            writer=Writer(catalogue, commits_of(catalogue), max_backlog=max_backlog),
            waiter=Waiter(catalogue, applied, patience_s=timeout_ms / 1000),
            image_dim=pipeline.release.featurizer.spec.image_dim,
        )

    def by(self, pipeline: Pipeline) -> Self:
        """The same, once another pipeline serves: writes that are under way go on."""
        return replace(self, image_dim=pipeline.release.featurizer.spec.image_dim)

    def check_images(self, product: Product) -> None:
        """Raises InvalidFieldError for image vectors that the release cannot read."""
        check_images(product.image_vectors, field="image_vectors", dim=self.image_dim)
