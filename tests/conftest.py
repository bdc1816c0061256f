"""What many tests share: one small dataset, run and release, made once, and only where a test asks for them."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# `make test` keeps every core busy, so no library needs threads of its own. Where Faiss is told to take some, they must
# not spin while they wait: on a shared core that makes an index of the tests up to thirty times as dear.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

settings.register_profile("patient", deadline=None)  # a busy core is no failure
settings.load_profile("patient")


@pytest.hookimpl(trylast=True)  # behind the shuffling
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that no process is left alone with one of them at the end."""
    items.sort(key=lambda item: "integration" not in item.path.parts)


@pytest.fixture(scope="session")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.helpers import small_dataset

    return small_dataset(tmp_path_factory.mktemp("datasets") / "things").path


@pytest.fixture(scope="session")
def run_dir(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from models.data.schema import Dataset
    from models.training.train import train
    from tests.helpers import small_config

    folder = tmp_path_factory.mktemp("runs")
    return train(Dataset.open(dataset_dir), folder / "things", small_config(folder)).path


@pytest.fixture(scope="session")
def release_dir(run_dir: Path, dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from models.data.schema import Dataset
    from models.export import export
    from models.training.run import Run

    out = tmp_path_factory.mktemp("releases") / "things"
    export(Run.open(run_dir), Dataset.open(dataset_dir), out)
    return out
