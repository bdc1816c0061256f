"""Compaction beside searches and writes, and what happens when those who take part in a change of generation do not."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from time import sleep

import httpx
import psutil
import pytest

from index.build import build_generation
from index.catalogue import Catalogue
from index.generations import current_number, manifests
from index.succession import next_number, propose
from service.handover import HandoverError, UnservableError, Word, hand_over, say
from service.loading import load_pipeline, warm_up
from service.settings import Settings
from tests.helpers import product_vectors, small_catalogue, small_featurizer
from tests.service.real_server import PATIENCE_S, Server, processes, server, wait_until
from tests.service.traffic import traffic, wait_for_generation
from tests.small_release import small_catalogue as served_catalogue
from tests.small_release import small_release

LAMP = {"title": "violet lava lamp", "price": 12.5}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_release(tmp_path_factory.mktemp("releases"), featurizer=small_featurizer())


@pytest.fixture
def settings(release: Path, tmp_path: Path) -> Settings:
    """Two workers, and a compaction as soon as thirty products have changed."""
    catalogue = served_catalogue(tmp_path, release, products=400, factory="IVF16,Flat")
    return Settings(
        release=release,
        catalogue=catalogue,
        warmup_queries=3,
        timeout_ms=60_000,
        max_waiting_ms=10_000,  # a test machine that others use is no overload
        max_standing_ms=10_000,
        workers=2,
        watch_share=0,
        compact_at=0.01,
        compact_from=30,
    )


@pytest.fixture
def catalogue_path(tmp_path: Path) -> Path:
    """A catalogue with generation 1 current and generation 2 lying ready."""
    with small_catalogue(tmp_path / "catalogue", product_vectors(50)) as catalogue:
        build_generation(catalogue, release="r1")
        build_generation(catalogue, release="r1", current=False)
    return tmp_path / "catalogue"


def write(running: Server, ids: Iterator[str]) -> None:
    """Searchable when this returns."""
    lines = "\n".join(f'{{"id": "{product_id}", "title": "violet lava lamp"}}' for product_id in ids)
    assert 200 == httpx.post(f"{running.url}/products", content=lines).status_code
    httpx.put(f"{running.url}/products/last", params={"wait": "searchable"}, json=LAMP, timeout=PATIENCE_S)


def folder(settings: Settings) -> Path:
    """The catalogue's."""
    assert settings.catalogue is not None
    return settings.catalogue


def private_bytes(running: Server) -> int:
    return sum(process.memory_full_info().uss for process in processes(running, "multiprocessing.spawn"))


def test_compactions_lose_nothing_under_load(settings: Settings) -> None:
    """No request fails; each generation has the release's name; what was written is found before and after."""
    with server(settings) as running, traffic(running) as going:
        write(running, (f"lamp{at}" for at in range(40)))
        wait_for_generation(running, 2)
        found = httpx.get(f"{running.url}/search", params={"q": "lava", "mode": "lexical", "size": 100}).json()["hits"]
        write(running, (f"vase{at}" for at in range(40)))
        wait_for_generation(running, 3)

    assert {f"lamp{at}" for at in range(40)} <= {hit["id"] for hit in found}
    assert [] == going.failures
    assert {200} == {served.status for served in going.served}
    assert {("small", 1), ("small", 2), ("small", 3)} <= {served.pair for served in going.served}
    kept = manifests(folder(settings))
    assert 2 <= kept[0].generation
    with Catalogue.open(folder(settings)) as catalogue:
        assert kept[0].sequence == catalogue.log_start


def test_cursors_outlive_a_compaction(settings: Settings) -> None:
    """The next page of the same release, though another generation answers it."""
    with server(settings) as running:
        fields: dict[str, str | int] = {"q": "red dress", "size": 5}
        cursor = httpx.get(f"{running.url}/search", params=fields).json()["cursor"]
        write(running, (f"lamp{at}" for at in range(40)))
        wait_for_generation(running, 2)
        answer = httpx.get(f"{running.url}/search", params=fields | {"cursor": cursor})

    assert (200, 2) == (answer.status_code, answer.json()["page"])


def test_memory_comes_back_to_its_level(settings: Settings) -> None:
    """Of the workers, after five compactions: within a tenth of what it was after the first."""
    with server(settings) as running:
        levels = []
        for generation in range(2, 8):
            write(running, (f"{generation}-{at}" for at in range(40)))
            wait_for_generation(running, generation)
            levels.append(private_bytes(running))

    assert levels[-1] < 1.1 * levels[0], levels


def test_a_replaced_pipeline_is_let_go_of_at_once(settings: Settings) -> None:
    """Without a collection of garbage, which would hold up the searches: nothing in it refers to itself."""
    pipeline = load_pipeline(settings)
    asyncio.run(warm_up(pipeline, limit=3))
    generation, catalogue = pipeline.generation, pipeline.catalogue
    parts = [pipeline, pipeline.live, generation, generation.ann, generation.columns, generation.lexical]
    left = [weakref.ref(part) for part in parts]
    gc.collect()
    gc.disable()
    try:
        pipeline.retire()
        del pipeline, generation, parts
        assert [None] * 6 == [part() for part in left]
    finally:
        gc.enable()
        catalogue.close()


def test_a_killed_builder_begins_again(settings: Settings) -> None:
    """Killed as soon as it is about to build: the compaction comes all the same, and no half of one stays."""
    with server(settings) as running:
        write(running, (f"lamp{at}" for at in range(40)))
        generations = folder(settings) / "generations"
        wait_until(lambda: len(list(generations.iterdir())) > 1)
        for process in processes(running, "service.builder"):
            process.kill()
        wait_for_generation(running, 2)
        wait_until(lambda: not list(generations.glob("*.tmp")))


def test_a_killed_worker_comes_back_with_what_is_current(settings: Settings) -> None:
    """Whichever generation that is by then."""
    with server(settings) as running:
        write(running, (f"lamp{at}" for at in range(40)))
        processes(running, "multiprocessing.spawn")[0].kill()
        wait_for_generation(running, 2)
        running.wait_until_ready()


def test_workers_end_with_a_server_that_was_killed(settings: Settings) -> None:
    """And so do the processes beside it: none of them answers, or changes anything, after it."""
    with server(settings) as running:
        others = psutil.Process(running.process.pid).children()
        running.process.kill()
        running.process.wait()
        wait_until(lambda: not any(process.is_running() for process in others))


def test_all_workers_have_to_be_ready(catalogue_path: Path) -> None:
    """One of two is not: the proposal is withdrawn, what is current stays."""
    say_when_proposed(catalogue_path, Word(generation=2))

    with pytest.raises(HandoverError, match="1 of 2 workers got ready for generation 2"):
        hand_over(catalogue_path, 2, workers=2, patience_s=1.0)
    assert (1, None) == (current_number(catalogue_path), next_number(catalogue_path))


def test_one_worker_that_cannot_is_enough_to_refuse(catalogue_path: Path) -> None:
    """Its reason is told, at once."""
    say_when_proposed(catalogue_path, Word(generation=2, error="the index is cut short"))

    with pytest.raises(UnservableError, match="generation 2: the index is cut short"):
        hand_over(catalogue_path, 2, workers=2)
    assert (1, None) == (current_number(catalogue_path), next_number(catalogue_path))


def test_the_dead_and_those_of_other_generations_do_not_count(catalogue_path: Path) -> None:
    """A file of a process that is gone, and a word about generation 1."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    say_when_proposed(catalogue_path, Word(generation=1, serving=True), in_the_name_of=gone.pid)

    with pytest.raises(HandoverError, match="0 of 1 workers"):
        hand_over(catalogue_path, 2, workers=1, patience_s=1.0)


def test_without_workers_nobody_is_waited_for(catalogue_path: Path) -> None:
    """As when no server runs; what an earlier proposal left is gone."""
    propose(catalogue_path, 2)
    hand_over(catalogue_path, 2, workers=0)

    assert (2, None) == (current_number(catalogue_path), next_number(catalogue_path))


def say_when_proposed(catalogue_path: Path, word: Word, *, in_the_name_of: int | None = None) -> None:
    """As a worker, once generation 2 is proposed; and, in the name of another process, that it is ready for it."""

    def speak() -> None:
        while next_number(catalogue_path) is None:
            sleep(0.001)
        if in_the_name_of is not None:
            say(catalogue_path, Word(generation=2))
            (catalogue_path / "workers" / str(os.getpid())).rename(catalogue_path / "workers" / str(in_the_name_of))
        say(catalogue_path, word)

    threading.Thread(target=speak, daemon=True).start()
