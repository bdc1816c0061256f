"""One worker in this process: what it does when a generation is proposed, adopted, withdrawn, damaged or tuned."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from index.build import build_generation
from index.catalogue import Catalogue
from index.generations import generation_path, open_current
from index.operating_points import OperatingPoints
from index.succession import adopt, propose, withdraw
from service.pipeline import Pipeline
from service.settings import Settings
from tests.helpers import small_featurizer
from tests.service.harness import Client, answer_to, application
from tests.small_release import small_catalogue, small_release


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_release(tmp_path_factory.mktemp("releases"), featurizer=small_featurizer())


@pytest.fixture
def client(release: Path, tmp_path: Path) -> Iterator[Client]:
    path = small_catalogue(tmp_path, release, products=200, factory="IVF8,Flat")
    with application(Settings(release=release, catalogue=path, warmup_queries=2, timeout_ms=60_000)) as client:
        yield client


def served(client: Client) -> Pipeline:
    pipeline: Pipeline = client.app.state.serving.require()
    return pipeline


def new_generation(client: Client) -> int:
    """Lying ready, over what is in the catalogue."""
    catalogue: Catalogue = served(client).catalogue
    return build_generation(catalogue, release="small", factory="IVF8,Flat", current=False, threads=1)


def words(client: Client) -> list[bytes]:
    """What the worker says."""
    return [path.read_bytes() for path in (served(client).catalogue.path / "workers").iterdir()]


def wait_until_it_says(client: Client, part: bytes) -> None:
    give_up = monotonic() + 60
    while not any(part in word for word in words(client)):
        assert monotonic() < give_up, words(client)
        client.run(lambda _: asyncio.sleep(0.02))


def generation_of(client: Client) -> int:
    """That a search is answered by."""
    number: int = answer_to(client, q="red dress")["search"]["generation"]
    return number


def test_a_proposal_is_made_ready_and_served_when_it_is_current(client: Client) -> None:
    """Not before, however long it is ready."""
    path, number = served(client).catalogue.path, new_generation(client)
    wait_until_it_says(client, b'"generation":1,"serving":true')
    propose(path, number)
    wait_until_it_says(client, b'"generation":2,"serving":false')
    assert 1 == generation_of(client)
    adopt(path)
    wait_until_it_says(client, b'"generation":2,"serving":true')

    assert 2 == generation_of(client)


def test_a_withdrawn_proposal_is_let_go_of(client: Client) -> None:
    """And made ready again when it is proposed again."""
    path, number = served(client).catalogue.path, new_generation(client)
    for _ in range(2):
        propose(path, number)
        wait_until_it_says(client, b'"generation":2,"serving":false,"error":null')
        withdraw(path)
        wait_until_it_says(client, b'"generation":1,"serving":true')

    assert 1 == generation_of(client)


def test_a_proposal_is_answered_again_where_the_answer_was_forgotten(client: Client) -> None:
    """A builder that was killed may propose the same generation anew before a busy worker saw that it was withdrawn."""
    path, number = served(client).catalogue.path, new_generation(client)
    propose(path, number)
    for _ in range(2):
        wait_until_it_says(client, b'"generation":2,"serving":false,"error":null')
        for word in (path / "workers").iterdir():
            word.unlink()
    wait_until_it_says(client, b'"generation":2,"serving":false,"error":null')


def test_a_damaged_proposal_is_told_of(client: Client) -> None:
    """With the file that is missing; searches go on."""
    path, number = served(client).catalogue.path, new_generation(client)
    (generation_path(path, number) / "numbers.npy").unlink()
    propose(path, number)
    wait_until_it_says(client, b"numbers.npy is missing")

    assert 1 == generation_of(client)


def test_release_and_query_vectors_stay_where_they_are_the_same(client: Client) -> None:
    """A compaction opens neither the towers again nor forgets what they made."""
    before, path, number = served(client), served(client).catalogue.path, new_generation(client)
    answer_to(client, q="red dress")
    propose(path, number)
    adopt(path)
    wait_until_it_says(client, b'"generation":2,"serving":true')

    assert before.release is served(client).release
    assert before.query_vectors is served(client).query_vectors
    assert before is not served(client)


def test_new_operating_points_are_taken_up(client: Client) -> None:
    """Of the same generation, as `tune` writes them beside a running server."""
    generation = open_current(served(client).catalogue.path)
    points: dict[str, Any] = dict(generation.operating_points.points)
    points["low"] = replace(points["low"], nprobe=5, candidates=150)
    assert 5 != answer_to(client, q="red dress")["search"]["nprobe"]
    generation.save_operating_points(OperatingPoints(points))

    give_up = monotonic() + 60
    while answer_to(client, q="red dress")["search"]["nprobe"] != 5:
        assert monotonic() < give_up
        client.run(lambda _: asyncio.sleep(0.02))
    assert (1, 150) == (generation_of(client), answer_to(client, q="red dress")["search"]["candidates"])
