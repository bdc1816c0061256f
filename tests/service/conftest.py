"""A small release and catalogue on disk, made once, and the application over them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import Settings
from tests.helpers import small_featurizer
from tests.market import market_catalogue, products
from tests.service.harness import Client, application
from tests.small_release import small_catalogue, small_release


@pytest.fixture(scope="session")
def release_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_release(tmp_path_factory.mktemp("releases"), featurizer=small_featurizer())


@pytest.fixture(scope="session")
def catalogue_path(tmp_path_factory: pytest.TempPathFactory, release_path: Path) -> Path:
    return small_catalogue(tmp_path_factory.mktemp("home"), release_path, products=300, factory="IVF16,Flat")


@pytest.fixture(scope="session")
def market_path(tmp_path_factory: pytest.TempPathFactory, release_path: Path) -> Path:
    """The catalogue of `tests.market`, 240 products of it; a process may have it open once at a time."""
    return market_catalogue(tmp_path_factory.mktemp("market"), release_path, products(240), factory="IVF8,Flat")


@pytest.fixture(scope="session")
def settings(release_path: Path, catalogue_path: Path) -> Settings:
    return Settings(
        release=release_path,
        catalogue=catalogue_path,
        warmup_queries=3,
        timeout_ms=60_000,
        max_waiting_ms=10_000,  # a test machine that others use is no overload
        max_standing_ms=10_000,
    )


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    with application(settings) as client:
        yield client
