"""One sample of the marketplace for all tests of this folder."""

from pathlib import Path

import pytest

from models.data.marketplace import sample
from models.data.schema import Dataset


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """3,000 products with events and judgements, seed 3."""
    path: Path = tmp_path_factory.mktemp("datasets") / "market"
    sample(path, products=3_000, seed=3)
    return Dataset.open(path)
