"""The builder and the indexer without a server: what is due, what is refused, and for which releases is embedded."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.build import build_generation
from index.catalogue import Catalogue
from index.generations import current_number, generation_path, manifests, open_current, open_generation
from index.live import LiveIndex
from index.succession import newest_usable
from index.writes import Delete, Put
from models.runtime import open_release
from service.activation import ask, asked, note_previous, previous_release, told
from service.activator import Activator
from service.builder import RETRY_S, Builder
from service.embedders import Embedders
from service.indexer import Indexer
from service.logs import make_logger
from tests.helpers import small_featurizer
from tests.small_release import small_catalogue, small_release

LOG = make_logger("debug", io.BytesIO())
IMAGES = [[1.0, 2.0, 3.0, 4.0]]


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small` and `other`, which both read images of four numbers, and `wide`, which reads them of eight."""
    root = tmp_path_factory.mktemp("releases")
    small_release(root, featurizer=small_featurizer())
    small_release(root, featurizer=small_featurizer(), name="other", dim=24)
    small_release(root, featurizer=small_featurizer(image_dim=8), name="wide")
    return root


@pytest.fixture
def catalogue(releases: Path, tmp_path: Path) -> Iterator[Catalogue]:
    path = small_catalogue(tmp_path, releases / "small", products=100, factory="IVF4,Flat")
    with Catalogue.open(path, readonly=False) as catalogue:
        yield catalogue


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def builder(catalogue: Catalogue, releases: Path, *, clock: Clock | None = None, **when: Any) -> Builder:
    """Without workers: what it builds is current at once."""
    activator = Activator(catalogue, releases=releases, engine="onnx", workers=0, threads=1, log=LOG)
    compact = {"compact_at": 0.05, "compact_from": 10} | when
    return Builder(catalogue, activator, log=LOG, now=clock or Clock(), **compact)


def indexer(catalogue: Catalogue, releases: Path) -> Indexer:
    return Indexer(catalogue, Embedders(catalogue.path, releases / "small", log=LOG).look, log=LOG)


def write(catalogue: Catalogue, releases: Path, count: int, **fields: Any) -> None:
    """New products, searchable."""
    catalogue.write([Put({"product_id": f"new{at}", "title": f"lava lamp {at}", **fields}) for at in range(count)])
    index = indexer(catalogue, releases)
    while index.step():
        pass


@pytest.mark.parametrize(("changes", "when", "due"), [
    (10, {}, False),
    (11, {}, True),
    (11, {"compact_from": 11}, False),
    (11, {"compact_at": 0.11}, False),
    (11, {"compact_at": 0.0}, False),
])  # fmt: skip
def test_a_compaction_is_due_by_share_and_number(
    catalogue: Catalogue, releases: Path, changes: int, when: dict[str, Any], due: bool
) -> None:
    """Of 100 products: above 5 % and above ten, unless that is set otherwise; a share of 0 means never."""
    write(catalogue, releases, changes)

    assert due == builder(catalogue, releases, **when).step()
    assert (2 if due else 1) == current_number(catalogue.path)


def test_a_compaction_that_fails_is_tried_again_later(catalogue: Catalogue, releases: Path) -> None:
    """Not before ten minutes have passed; what is current stays."""
    write(catalogue, releases, 5)
    catalogue.write([Delete(f"p{at}") for at in range(100)] + [Delete(f"new{at}") for at in range(5)])
    clock = Clock()
    compacting = builder(catalogue, releases, clock=clock)
    assert not compacting.step()
    write(catalogue, releases, 5)

    assert not compacting.step()
    clock.now = RETRY_S
    assert compacting.step()
    assert (2, 5) == (open_current(catalogue.path).number, open_current(catalogue.path).manifest.count)


def test_what_a_killed_builder_had_built_is_used(catalogue: Catalogue, releases: Path) -> None:
    """It lies there, and was not refused; nothing is built again."""
    write(catalogue, releases, 20)
    build_generation(catalogue, release="small", like=open_current(catalogue.path), current=False, threads=1)

    assert builder(catalogue, releases).step()
    assert [1, 2] == [manifest.generation for manifest in manifests(catalogue.path)]
    assert 2 == current_number(catalogue.path)


def test_the_log_is_kept_for_the_way_back(catalogue: Catalogue, releases: Path) -> None:
    """Up to the generation before, which a live view can still follow; the one before that is gone."""
    before = open_current(catalogue.path)
    for _ in range(2):
        write(catalogue, releases, 20, price=float(catalogue.sequence))
        assert builder(catalogue, releases).step()

    assert [2, 3] == [manifest.generation for manifest in manifests(catalogue.path)]
    assert before.manifest.sequence < catalogue.log_start
    live = LiveIndex(open_generation(generation_path(catalogue.path, 2)), catalogue)
    live.catch_up()
    assert 120 == live.count


def test_a_release_is_activated_with_what_was_written(catalogue: Catalogue, releases: Path) -> None:
    """All products have its vectors, its generation is current, the one before is kept."""
    write(catalogue, releases, 5)
    ask(catalogue.path, "other")

    assert builder(catalogue, releases).step()
    generation = open_current(catalogue.path)
    assert ("other", 24, 105) == (generation.manifest.release, generation.manifest.dim, generation.manifest.count)
    assert 105 == catalogue.vector_count("other")
    assert (None, "small") == (asked(catalogue.path), previous_release(catalogue.path))


def test_the_way_back_builds_nothing(catalogue: Catalogue, releases: Path) -> None:
    """The generation is still there, and what was published since was embedded by both releases."""
    ask(catalogue.path, "other")
    builder(catalogue, releases).step()
    write(catalogue, releases, 5)
    ask(catalogue.path, "small")

    assert builder(catalogue, releases, compact_at=0.0).step()
    assert (1, "other") == (current_number(catalogue.path), previous_release(catalogue.path))
    assert [1, 2] == [manifest.generation for manifest in manifests(catalogue.path)]
    live = LiveIndex(open_current(catalogue.path), catalogue)
    live.catch_up()
    assert 105 == live.count


def test_a_release_that_cannot_embed_a_product_is_refused(catalogue: Catalogue, releases: Path) -> None:
    """The product is named; what is current stays, and so does what could be gone back to."""
    note_previous(catalogue.path, "older")
    write(catalogue, releases, 3)
    write(catalogue, releases, 1, image_vectors=IMAGES)
    ask(catalogue.path, "wide")

    assert not builder(catalogue, releases).step()
    refused = told(catalogue.path)
    assert refused is not None
    assert "refused" == refused.state
    assert "cannot embed product 'new0': ValueError" in str(refused.error)
    assert (1, None, "older") == (
        current_number(catalogue.path),
        asked(catalogue.path),
        previous_release(catalogue.path),
    )


def test_a_generation_that_is_damaged_is_not_gone_back_to(catalogue: Catalogue, releases: Path) -> None:
    """It is refused for good, and another one is built."""
    ask(catalogue.path, "other")
    builder(catalogue, releases).step()
    file = generation_path(catalogue.path, 1) / "numbers.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    ask(catalogue.path, "small")

    assert builder(catalogue, releases).step()
    assert 3 == current_number(catalogue.path)
    assert newest_usable(catalogue.path, release="small", since=0) == open_current(catalogue.path).manifest


def test_vectors_of_releases_that_cannot_be_gone_back_to_are_removed(catalogue: Catalogue, releases: Path) -> None:
    """With the third one the first one's go; who goes back to that has all products embedded anew."""
    small_release(releases, featurizer=small_featurizer(), name="third", dim=8)
    for name in ("other", "third"):
        ask(catalogue.path, name)
        assert builder(catalogue, releases).step()

    assert {"small": 0, "other": 100, "third": 100} == {
        name: catalogue.vector_count(name) for name in ("small", "other", "third")
    }
    write(catalogue, releases, 3)
    assert (0, 103, 103) == tuple(catalogue.vector_count(name) for name in ("small", "other", "third"))
    ask(catalogue.path, "small")
    assert builder(catalogue, releases).step()
    assert (103, 0, 103) == tuple(catalogue.vector_count(name) for name in ("small", "other", "third"))
    assert "small" == open_current(catalogue.path).manifest.release


def test_one_activation_at_a_time(catalogue: Catalogue) -> None:
    """Another one is turned down, the same one is not; how far it is can be read."""
    assert ask(catalogue.path, "other")
    assert ask(catalogue.path, "other")
    assert not ask(catalogue.path, "small")

    assert "other" == asked(catalogue.path)
    under_way = told(catalogue.path)
    assert under_way is not None
    assert ("other", "asked") == (under_way.release, under_way.state)


def test_what_is_written_is_embedded_by_both_releases(catalogue: Catalogue, releases: Path) -> None:
    """By the served one and the one asked for; and by the previous one, once there is one."""
    ask(catalogue.path, "other")
    write(catalogue, releases, 3)

    numbers = [catalogue.number_of(f"new{at}") for at in range(3)]
    (batch,) = catalogue.vectors("other")
    assert numbers == batch.numbers.tolist()
    other = open_release(releases / "other")
    assert np.allclose(other.embed_product({"title": "lava lamp 0"}), batch.vectors[0], atol=1e-6)


def test_what_only_the_next_release_cannot_embed_is_searchable(catalogue: Catalogue, releases: Path) -> None:
    """It is not set aside; the one beside it has its vector of that release, too."""
    ask(catalogue.path, "wide")
    catalogue.write(
        [
            Put({"product_id": "plain", "title": "lamp"}),
            Put({"product_id": "image", "title": "x", "image_vectors": IMAGES}),
        ]
    )
    indexer(catalogue, releases).step()

    assert ([], 102, 1) == (catalogue.failed(), catalogue.vector_count("small"), catalogue.vector_count("wide"))


def test_what_the_served_release_cannot_embed_is_set_aside(catalogue: Catalogue, releases: Path) -> None:
    """With its error; the others go on."""
    catalogue.write(
        [
            Put({"product_id": "plain", "title": "lamp"}),
            Put({"product_id": "bad", "title": "x", "image_vectors": [[1.0, 2.0]]}),
        ]
    )
    indexer(catalogue, releases).step()

    assert ["bad"] == [failed.product_id for failed in catalogue.failed()]
    assert catalogue.product("plain") is not None
