"""Products through a release's document tower, many at a time."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from models.data.schema import Dataset
from models.engines import OnnxTower
from models.runtime import DOCUMENT_ONNX_FILE, Release

BATCH = 64  # products per run of the tower; larger ones leave the processor's caches
CHUNK = 1024  # products read, and sorted by length, at a time


def product_rows(dataset: Dataset, *, rows: int = CHUNK) -> Iterator[list[dict[str, Any]]]:
    """The products in file order as mappings, `rows` at a time, null fields left out."""
    for batch in dataset.product_batches(rows):
        products = batch.to_pylist(maps_as_pydicts="strict")
        yield [{name: value for name, value in product.items() if value is not None} for product in products]


class ProductEmbedder:
    """The document tower on all cores, for bulk work; serving keeps to `Release.embed_product`."""

    def __init__(self, release: Release, *, threads: int | None = None) -> None:
        self._featurizer = release.featurizer
        self._tower = OnnxTower(release.path / DOCUMENT_ONNX_FILE, threads=threads or len(os.sched_getaffinity(0)))
        self._dim = release.dim

    def embed(self, products: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Vectors (n, d) float32 in the given order, from the fields that `Release.embed_product` reads.

        Texts of like length share a batch, so little is padding.
        """
        vectors = np.zeros((len(products), self._dim), dtype=np.float32)
        order = sorted(range(len(products)), key=lambda at: len(products[at].get("description") or ""))
        for start in range(0, len(products), BATCH):
            at = order[start : start + BATCH]
            vectors[at] = self._tower.embed(self._featurizer.products([products[row] for row in at]))
        return vectors
