"""Bulk embedding gives each product the vector that serving gives it."""

from pathlib import Path

import numpy as np

from models.data.schema import Dataset
from models.embed import BATCH, ProductEmbedder, product_rows
from models.runtime import open_release


def test_products_are_read_in_file_order_without_nulls(dataset_dir: Path) -> None:
    """Chunks follow the file; a product without a description has no such key."""
    chunks = list(product_rows(Dataset.open(dataset_dir), rows=50))

    assert [50, 50, 50, 10] == [len(rows) for rows in chunks]
    assert [f"p{at}" for at in range(50)] == [row["product_id"] for row in chunks[0]]
    assert "description" not in chunks[0][0]
    assert "worn twice, like new" == chunks[0][1]["description"]


def test_bulk_vectors_are_the_served_ones_in_the_given_order(dataset_dir: Path, release_dir: Path) -> None:
    """Sorting by length and padding within a batch change no vector and no place."""
    release = open_release(release_dir)
    rows = next(product_rows(Dataset.open(dataset_dir)))[: BATCH + 10]

    vectors = ProductEmbedder(release, threads=1).embed(rows)

    for at in (0, 1, 2, BATCH, BATCH + 9):
        np.testing.assert_allclose(release.embed_product(rows[at]), vectors[at], atol=1e-5)
