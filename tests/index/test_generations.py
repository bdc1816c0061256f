"""Generations: built beside, switched at once, and refused when a byte has changed."""

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from index.build import build_generation, sample, training_points
from index.catalogue import Catalogue
from index.errors import IndexFileError, SpecError
from index.exact import ExactIndex
from index.files import read_sealed_json, sha256_of_file, write_sealed_json
from index.generations import current_number, generation_path, new_generation, open_current, open_generation
from index.operating_points import OperatingPoints
from index.spec import choose_spec
from index.vector_tables import VectorBatch
from tests.helpers import product_vectors, query_vectors, small_catalogue
from tests.index import elsewhere

DIM = 32
FILES = [
    "index.faiss",
    "numbers.npy",
    "vectors.f32",
    "columns/fields.json",
    "columns/0.ranks.npy",
    "lexical/scores.npy",
    "manifest.json",
    "operating_points.json",
]


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with small_catalogue(tmp_path / "catalogue", product_vectors(300, dim=DIM)) as opened:
        yield opened


@pytest.mark.parametrize("factory", [None, "IVF8,PQ8x4fsr,RFlat", "PCA24,IVF8,PQ8x4"])
def test_a_built_generation_searches(catalogue: Catalogue, factory: str | None) -> None:
    """At full effort it finds the nearest; `exact` agrees with brute force, whatever the index keeps."""
    build_generation(catalogue, release="r1", factory=factory)
    generation = open_current(catalogue.path)
    queries = query_vectors(5, dim=DIM)
    expected = ExactIndex(product_vectors(300, dim=DIM)).search(queries, candidates=1_000)

    exact = generation.search(queries, generation.operating_points["exact"])

    assert expected.numbers.tolist() == exact.numbers.tolist()
    np.testing.assert_allclose(expected.scores[:, :300], exact.scores[:, :300], atol=1e-6)
    found = generation.ann.search(queries, nprobe=generation.ann.nlist, candidates=100).numbers
    assert np.isin(expected.numbers[:, 0], found).all()


def test_the_manifest_says_what_was_built(catalogue: Catalogue) -> None:
    """Enough to know whether it still fits the catalogue and the release."""
    build_generation(catalogue, release="r1", factory="IVF8,Flat")
    manifest = open_current(catalogue.path).manifest

    assert (1, "r1", 300, 300, DIM, 8) == (
        manifest.generation, manifest.release, manifest.sequence, manifest.count, manifest.dim, manifest.nlist,
    )  # fmt: skip
    assert "IVF8,Flat" == manifest.factory
    assert {"index.faiss", "numbers.npy"} <= manifest.files.keys()


def test_rows_map_to_product_numbers(catalogue: Catalogue) -> None:
    """A product without a vector leaves a gap: the rows after it carry their own numbers."""
    catalogue.put_products([{"product_id": "p100", "title": "changed, so its vector is gone"}])
    build_generation(catalogue, release="r1")
    generation = open_current(catalogue.path)

    own = product_vectors(300, dim=DIM)[[99, 101, 299]]
    found = generation.search(own, generation.operating_points["low"])

    assert 299 == generation.manifest.count
    assert [99, 101, 299] == found.numbers[:, 0].tolist()


def test_the_next_build_becomes_current(catalogue: Catalogue) -> None:
    """Numbers rise, the previous generation stays."""
    assert 1 == build_generation(catalogue, release="r1")
    assert 2 == build_generation(catalogue, release="r1")

    assert 2 == current_number(catalogue.path) == open_current(catalogue.path).number
    assert (catalogue.path / "generations" / "1").is_dir()


def test_a_failed_build_changes_nothing(catalogue: Catalogue) -> None:
    """The current generation stays, no half-written folder is left, and the number is free again."""
    build_generation(catalogue, release="r1")

    def write_half(folder: Path) -> None:
        (folder / "index.faiss").write_bytes(b"half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"), new_generation(catalogue.path) as folder:
        write_half(folder)

    assert 1 == current_number(catalogue.path)
    assert ["1"] == [path.name for path in (catalogue.path / "generations").iterdir()]


def test_leftovers_of_a_crash_are_removed(catalogue: Catalogue) -> None:
    """A `.tmp` folder is nobody's; a finished one that never became current keeps its number."""
    (catalogue.path / "generations" / "4.tmp").mkdir(parents=True)
    (catalogue.path / "generations" / "7").mkdir()

    assert 8 == build_generation(catalogue, release="r1")
    assert not (catalogue.path / "generations" / "4.tmp").exists()


def test_a_fresh_generation_has_default_efforts(catalogue: Catalogue) -> None:
    """Until tuned; tuned points replace them for whoever opens it next."""
    build_generation(catalogue, release="r1", factory="IVF8,Flat")
    generation = open_current(catalogue.path)
    assert OperatingPoints.default(nlist=8) == generation.operating_points

    tuned = OperatingPoints(generation.operating_points.points, tuning={"notes": []})
    generation.save_operating_points(tuned)

    assert tuned == open_current(catalogue.path).operating_points


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_noticed(catalogue: Catalogue, name: str) -> None:
    """In any file; the message names it and the remedy."""
    build_generation(catalogue, release="r1", factory="PCA24,IVF8,Flat")
    path = catalogue.path / "generations" / "1" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(IndexFileError, match=rf"{name} (was altered|is not valid JSON).*que2search build"):
        open_current(catalogue.path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_file_is_named(catalogue: Catalogue, name: str, verify: bool) -> None:
    """Even when the checksums are taken on trust."""
    build_generation(catalogue, release="r1", factory="PCA24,IVF8,Flat")
    (catalogue.path / "generations" / "1" / name).unlink()

    with pytest.raises(IndexFileError, match=f"{name} is missing.*que2search build"):
        open_current(catalogue.path, verify=verify)


def test_a_truncated_index_is_noticed(catalogue: Catalogue) -> None:
    """With checksums, and without them by Faiss itself."""
    build_generation(catalogue, release="r1")
    path = catalogue.path / "generations" / "1" / "index.faiss"
    os.truncate(path, path.stat().st_size // 2)

    with pytest.raises(IndexFileError, match=r"index\.faiss was altered"):
        open_current(catalogue.path)
    with pytest.raises(IndexFileError, match=r"cannot read .*index\.faiss"):
        open_current(catalogue.path, verify=False)


def test_without_a_build_there_is_nothing_to_open(catalogue: Catalogue) -> None:
    """The message says what to run."""
    with pytest.raises(IndexFileError, match=r"no index was built .* run `que2search build`"):
        open_current(catalogue.path)


@pytest.mark.parametrize("content", ["", "two", "99\n"])
def test_a_spoilt_current_file_is_refused(catalogue: Catalogue, content: str) -> None:
    """No number, or the number of a generation that is not there."""
    build_generation(catalogue, release="r1")
    (catalogue.path / "CURRENT").write_text(content)

    with pytest.raises(IndexFileError, match="que2search build"):
        open_current(catalogue.path)


def test_a_release_without_vectors_cannot_be_built(catalogue: Catalogue) -> None:
    """Named, with what to do first."""
    with pytest.raises(SpecError, match="no vectors of release 'other'; embed"):
        build_generation(catalogue, release="other")
    assert not (catalogue.path / "generations").exists()


def test_a_factory_that_does_not_fit_is_refused_before_work(catalogue: Catalogue) -> None:
    """300 vectors are too few for 1,024 lists."""
    with pytest.raises(SpecError, match="asks for 1024 lists"):
        build_generation(catalogue, release="r1", factory="IVF1024,PQ8")


def test_progress_ends_at_its_total(catalogue: Catalogue) -> None:
    """300 products to train on, to add, to put into the columns and to read the words of."""
    seen: list[tuple[int, int]] = []

    build_generation(
        catalogue, release="r1", factory="IVF8,Flat", progress=lambda done, total: seen.append((done, total))
    )

    assert [(300, 1200), (600, 1200), (900, 1200), (1200, 1200)] == seen


def test_the_sample_is_drawn_over_all_batches() -> None:
    """Ten of a hundred rows in batches of 30: the same ten for the same seed, in order, each once."""
    vectors = np.arange(100, dtype=np.float32).reshape(100, 1)
    batches = [VectorBatch(np.arange(i, min(i + 30, 100)), vectors[i : i + 30]) for i in range(0, 100, 30)]

    drawn = sample(batches, count=100, size=10)[:, 0].tolist()

    assert 10 == len(set(drawn))
    assert sorted(drawn) == drawn
    assert drawn[-1] > 60
    assert drawn == sample(batches, count=100, size=10)[:, 0].tolist()
    assert vectors.tolist() == sample(batches, count=100, size=100).tolist()


def test_a_million_vectors_train_on_a_quarter() -> None:
    """64 for each of 4,096 lists; a small catalogue trains on all it has."""
    assert 262_144 == training_points(choose_spec(count=1_000_000, dim=128))
    assert 20_000 == training_points(choose_spec(count=20_000, dim=128))


def test_processes_share_one_generation(catalogue: Catalogue) -> None:
    """Two processes map the same files and answer the same."""
    build_generation(catalogue, release="r1", factory="IVF8,PQ8x4fsr,RFlat")
    generation = open_current(catalogue.path)
    queries = query_vectors(3, dim=DIM)
    spawn = multiprocessing.get_context("spawn")
    answer = spawn.Queue()

    worker = spawn.Process(target=elsewhere.search, args=(catalogue.path, queries, answer))
    worker.start()
    found = answer.get(timeout=240)
    worker.join(60)

    assert generation.search(queries, generation.operating_points["low"]).numbers.tolist() == found


def test_the_catalogue_may_stay_open_for_reading(catalogue: Catalogue) -> None:
    """Building needs no writing to the store: a read-only catalogue will do."""
    path = catalogue.path
    catalogue.close()

    with Catalogue.open(path) as readonly:
        assert 1 == build_generation(readonly, release="r1")


@pytest.mark.parametrize("name", ["../../cursor.key", "/etc/passwd", "a\0b", "columns/../../../x"])
def test_a_generation_that_names_files_elsewhere_is_refused(catalogue: Catalogue, name: str) -> None:
    """Even where its manifest was sealed anew: nothing outside of its folder is looked at."""
    build_generation(catalogue, release="r1")
    path = generation_path(catalogue.path, 1)
    content = read_sealed_json(path / "manifest.json", remedy="")
    write_sealed_json(path / "manifest.json", content | {"files": content["files"] | {name: "0"}})

    with pytest.raises(IndexFileError, match="names files outside the generation"):
        open_generation(path)


def test_an_array_of_pickled_objects_is_not_read(catalogue: Catalogue) -> None:
    """Even where it is sealed: reading it would run what its writer liked."""
    build_generation(catalogue, release="r1")
    path = generation_path(catalogue.path, 1)
    np.save(path / "numbers.npy", np.array([print], dtype=object), allow_pickle=True)
    content = read_sealed_json(path / "manifest.json", remedy="")
    files = content["files"] | {"numbers.npy": sha256_of_file(path / "numbers.npy")}
    write_sealed_json(path / "manifest.json", content | {"files": files})

    with pytest.raises(IndexFileError, match=r"numbers\.npy"):
        open_generation(path)
