"""The built-in image encoder on real photos: what it finds alike is alike."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.data.image_files import add_images
from models.data.importers import import_table
from models.data.schema import Dataset

DATA = os.environ.get("Q2S_TEST_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="Q2S_TEST_DATA does not name the real data")
MAP = Path(__file__).parents[3] / "docs/maps/livostyle.toml"


def test_neighbours_share_their_category_four_times_as_often_as_chance(tmp_path: Path) -> None:
    """Of each photo's ten nearest, the share of its own leaf category, against the sum of squared category shares."""
    assert DATA is not None
    source = Path(DATA) / "livostyle"
    import_table(source, tmp_path / "plain", column_map=MAP)
    report = add_images(Dataset.open(tmp_path / "plain"), source / "thumbnails", tmp_path / "seen")
    products = Dataset.open(tmp_path / "seen").products(["category", "image_vectors"])
    products = products.filter(pl.col("category").is_not_null() & (pl.col("image_vectors").list.len() > 0))
    vectors = np.stack(products["image_vectors"].list.first().to_list()).astype(np.float32)
    category = products["category"].to_numpy()
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    nearest = np.argpartition(-cosines, 10, axis=1)[:, :10]
    precision = (category[nearest] == category[:, None]).mean()
    chance = float(((products["category"].value_counts()["count"] / len(products)) ** 2).sum())

    assert (2764, 1) == (report.with_images, len(report.unreadable))
    assert precision >= 4 * chance
