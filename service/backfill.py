"""Embeds the products that lack a vector of a release, while others write."""

from collections.abc import Callable, Sequence

import numpy as np

from index.catalogue import Catalogue
from index.records import decode_record
from index.vector_tables import Unembedded
from models.errors import ReleaseError
from models.runtime import Release

BATCH = 32  # products in one run of the tower, and in one transaction

Progress = Callable[[int, int], None]  # products that have a vector, all products


def fill(catalogue: Catalogue, release: Release, *, progress: Progress) -> None:
    """Embed until no product lacks a vector. Killed and begun again, it goes on where it was.

    Raises:
        ReleaseError: a product cannot be embedded by this release; names it.
        CatalogueError: the disk is full or fails, or the vectors are of another dimension than those there.
    """
    while len(missing := catalogue.missing_vectors(release.id)):
        for start in range(0, len(missing), BATCH):
            products = catalogue.unembedded(missing[start : start + BATCH].tolist())
            if products:
                catalogue.fill_vectors(release.id, products, _embedded(release, products))
            progress(catalogue.vector_count(release.id), catalogue.count)


def is_complete(catalogue: Catalogue, release_id: str) -> bool:
    """Whether every searchable product has a vector of the release."""
    return catalogue.vector_count(release_id) == catalogue.count


def _embedded(release: Release, products: Sequence[Unembedded]) -> np.ndarray:
    records = [decode_record(product.record) for product in products]
    try:
        return embed(release, records)
    except Exception as exc:
        if len(products) > 1:
            return np.concatenate([_embedded(release, [product]) for product in products])
        raise ReleaseError(
            f"{release.path} cannot embed product {records[0]['product_id']!r}: {type(exc).__name__}: {exc}"
        ) from exc


def embed(release: Release, records: Sequence[dict[str, object]]) -> np.ndarray:
    """(n, d) float32. Raises whatever a product's content does to the featuriser or the tower; ValueError for nan."""
    vectors = release.embed_products(records)
    if not np.isfinite(vectors).all():
        raise ValueError("its vector is not finite")
    return vectors
