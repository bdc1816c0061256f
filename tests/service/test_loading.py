"""Start-up: ready after real searches; without a usable release alive, and clear about the reason."""

import io
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from index.build import build_generation
from index.catalogue import Catalogue
from index.operating_points import EFFORTS
from models.runtime import open_release
from service.pipeline import Pipeline
from service.settings import Settings
from tests.service.fakes import LengthRelease, listed_pipeline
from tests.service.harness import Client, application

LISTS = dict.fromkeys(EFFORTS, range(50))
RELEASE_FILES = ["query_tower.onnx", "document_tower.onnx", "features.json", "tokenizer.model", "golden_queries.jsonl"]
GENERATION_FILES = ["index.faiss", "numbers.npy", "operating_points.json", "manifest.json"]


def reason(settings: Settings) -> str:
    """Why it does not serve; /livez is 200 and everything that needs a release 503, each with the reason."""
    with application(settings) as client:
        assert 200 == client.get("/livez").status_code
        answers = [
            client.get("/readyz"),
            client.get("/search", params={"q": "lamp"}),
            client.post("/search", json={"q": "lamp"}),
            client.post("/embed", json={"query": "lamp"}),
        ]
        assert [503] * 4 == [answer.status_code for answer in answers]
        details = {answer.json()["detail"] for answer in answers}
        assert 1 == len(details)
        return str(details.pop())


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def copies(tmp_path: Path, release_path: Path, catalogue_path: Path) -> Settings:
    """Settings over a release and a catalogue that a test may damage."""
    release, catalogue = tmp_path / release_path.name, tmp_path / "catalogue"
    shutil.copytree(release_path, release)
    shutil.copytree(catalogue_path, catalogue)
    return Settings(release=release, catalogue=catalogue, warmup_queries=2)


def test_undamaged_copies_are_served(copies: Settings) -> None:
    """So what the tests below see comes from their damage."""
    with application(copies) as client:
        assert 200 == client.get("/readyz").status_code
        assert 200 == client.get("/search", params={"q": "lamp"}).status_code


def test_unset_paths_are_named() -> None:
    """The variable to set."""
    assert "Q2S_RELEASE is not set" in reason(Settings())
    assert "Q2S_CATALOGUE is not set" in reason(Settings(release=Path("somewhere")))


def test_a_missing_release_is_named(copies: Settings, tmp_path: Path) -> None:
    """Path, what is wrong, what to do."""
    found = reason(copies.model_copy(update={"release": tmp_path / "nowhere"}))

    assert str(tmp_path / "nowhere") in found
    assert "que2search export" in found


def test_a_missing_catalogue_is_named(copies: Settings, tmp_path: Path) -> None:
    """Path and remedy."""
    found = reason(copies.model_copy(update={"catalogue": tmp_path / "nowhere"}))

    assert str(tmp_path / "nowhere") in found
    assert "que2search build" in found


@pytest.mark.parametrize("name", RELEASE_FILES)
def test_a_release_with_one_byte_changed_is_refused(copies: Settings, name: str) -> None:
    """The altered file is named."""
    assert copies.release is not None
    flip_a_byte(copies.release / name)

    found = reason(copies)

    assert name in found
    assert "altered" in found


def test_a_release_with_an_altered_manifest_is_refused(copies: Settings) -> None:
    """The manifest's own checksums no longer hold, or it cannot be read."""
    assert copies.release is not None
    flip_a_byte(copies.release / "manifest.json")

    assert str(copies.release) in reason(copies)


@pytest.mark.parametrize("name", GENERATION_FILES)
def test_a_generation_with_one_byte_changed_is_refused(copies: Settings, name: str) -> None:
    """The altered file is named, and what makes it anew."""
    assert copies.catalogue is not None
    flip_a_byte(copies.catalogue / "generations" / "1" / name)

    found = reason(copies)

    assert name in found
    assert "que2search" in found


def test_a_generation_of_another_release_is_refused(copies: Settings, tmp_path: Path) -> None:
    """Vectors of two models must never meet. The release that it is of does not lie beside the one named."""
    assert copies.release is not None
    other = tmp_path / "elsewhere" / "other"
    shutil.copytree(copies.release, other)
    manifest = other / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"id":"small"', b'"id":"other"'))

    assert "was built for release 'small', not 'other'" in reason(copies.model_copy(update={"release": other}))


def test_an_unexpected_error_is_logged_and_not_shown() -> None:
    """The reason points to the log, which has the traceback."""
    log = io.BytesIO()

    def load(_: Settings) -> Pipeline:
        raise RuntimeError("secret detail")

    with application(Settings(), load=load, log=log) as client:
        found = client.get("/readyz").json()["detail"]

    assert "log says why" in found
    assert "secret detail" not in found
    assert b"secret detail" in log.getvalue()


def test_ready_means_that_golden_queries_were_answered() -> None:
    """Without golden queries nothing can be warmed up, so it is never ready."""
    release = LengthRelease()
    release.golden_queries = list  # type: ignore[method-assign]

    with application(Settings(), load=lambda _: listed_pipeline(LISTS, parts={"release": release})) as client:
        assert "no golden queries" in client.get("/readyz").json()["detail"]


def test_every_mode_is_warm_before_the_first_request() -> None:
    """Golden queries went through words alone and through a filtered hybrid, so that no user's search is the first."""
    pipeline = listed_pipeline(LISTS)
    words: Any = pipeline.generation.lexical
    filters: Any = pipeline.generation.filters

    with application(Settings(), load=lambda _: pipeline):
        assert ["red dress", "red dress"] == words.asked
        assert ["price >= 0"] == list(map(str, filters.asked))


def test_while_it_loads_it_is_alive_but_not_ready() -> None:
    """Loading runs beside the event loop: /livez answers at once, /readyz and /search say why not yet."""
    with loading_until_told() as (client, finish):
        assert 200 == client.get("/livez").status_code
        for path in ("/readyz", "/search?q=lamp"):
            answer = client.get(path)
            assert 503 == answer.status_code
            assert "being loaded" in answer.json()["detail"]
        finish.set()


@contextmanager
def loading_until_told() -> Iterator[tuple[Client, threading.Event]]:
    finish = threading.Event()

    def load(_: Settings) -> Pipeline:
        finish.wait(timeout=60)
        return listed_pipeline(LISTS)

    with application(Settings(), load=load, wait=False) as client:
        try:
            yield client, finish
        finally:
            finish.set()


def test_a_bulk_load_that_was_killed_is_to_be_run_again(copies: Settings) -> None:
    """Before its index was built: what is served no longer fits the products. `build` goes on where it was."""
    assert copies.release is not None
    assert copies.catalogue is not None
    with Catalogue.open(copies.catalogue, readonly=False) as catalogue:
        numbers = catalogue.put_products([{"product_id": "new", "title": "violet lava lamp"}])
    assert "que2search build` again" in reason(copies)

    with Catalogue.open(copies.catalogue, readonly=False) as catalogue:
        release = open_release(copies.release)
        catalogue.put_vectors(release.id, numbers, release.embed_products([{"title": "violet lava lamp"}]))
        build_generation(catalogue, release=release.id)
    with application(copies) as client:
        answer = client.get("/search", params={"q": "violet lava lamp", "effort": "exact"}).json()
        assert "new" in [hit["id"] for hit in answer["hits"]]
