"""Products and their vectors into the catalogue: what `build` does before it indexes."""

from typing import TYPE_CHECKING

from commands.progress import ProgressCallback

if TYPE_CHECKING:
    from index.catalogue import Catalogue
    from models.data.schema import Dataset
    from models.runtime import Release


def fill_catalogue(store: "Catalogue", dataset: "Dataset", release: "Release", progress: ProgressCallback) -> None:
    """Store the products and the vectors that they lack; what an earlier, killed build did is kept."""
    from models.embed import ProductEmbedder, product_rows

    embedder, done = ProductEmbedder(release), 0
    for rows in product_rows(dataset):
        numbers = store.put_products(rows)
        missing = set(store.missing_vectors(release.id, numbers).tolist())
        lacking = [at for at, number in enumerate(numbers.tolist()) if number in missing]
        if lacking:
            store.put_vectors(release.id, numbers[lacking], embedder.embed([rows[at] for at in lacking]))
        done += len(rows)
        progress(done, dataset.product_count)


def embed_missing(store: "Catalogue", release: "Release", progress: ProgressCallback) -> None:
    """Store the vectors that searchable products lack, wherever the products came from."""
    from models.embed import CHUNK, ProductEmbedder

    embedder, missing = ProductEmbedder(release), store.missing_vectors(release.id)
    for start in range(0, len(missing), CHUNK):
        numbers = missing[start : start + CHUNK]
        store.put_vectors(release.id, numbers, embedder.embed(store.records(numbers.tolist())))
        progress(start + len(numbers), len(missing))
