"""New generations beside writes: one moment for all parts, trained parts used again, older generations removed."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from index.build import build_generation
from index.catalogue import Catalogue
from index.errors import SpecError
from index.generations import (
    Generation,
    GenerationManifest,
    current_number,
    generation_path,
    manifests,
    open_current,
    open_generation,
)
from index.live import LiveIndex
from index.publications import Published
from index.reuse import factory_for, has_drifted
from index.succession import adopt, newest_usable, next_number, propose, refuse, remove_all_but, withdraw
from index.writes import Delete, Put, Write
from tests.helpers import product_vectors, query_vectors, small_catalogue, unit_rows

IVF = "IVF16,PQ16x4fsr,RFlat"


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    """1,200 products in a generation of 16 lists."""
    with small_catalogue(tmp_path / "catalogue", product_vectors(1_200)) as catalogue:
        build_generation(catalogue, release="r1", factory=IVF, threads=1)
        yield catalogue


def write(catalogue: Catalogue, product_id: str, vector: np.ndarray) -> None:
    write_all(catalogue, {product_id: vector})


def write_all(catalogue: Catalogue, vectors: Mapping[str, np.ndarray]) -> None:
    """Both transactions of some products."""
    outcomes = catalogue.write([Put({"product_id": product_id, "title": "new"}) for product_id in vectors])
    written = [outcome for outcome in outcomes if isinstance(outcome, Write)]
    catalogue.publish(
        [
            Published(one.number, one.sequence, {"r1": vector})
            for one, vector in zip(written, vectors.values(), strict=True)
        ]
    )


def compacted(catalogue: Catalogue) -> Generation:
    """The next generation, like the current one."""
    number = build_generation(catalogue, release="r1", like=open_current(catalogue.path), current=False, threads=1)
    return open_generation(generation_path(catalogue.path, number))


def test_a_snapshot_sees_one_moment(catalogue: Catalogue) -> None:
    """Products, vectors and counters stay as they were when it was taken; after it, everything is there."""
    vector = product_vectors(1)[0]
    with catalogue.snapshot():
        write(catalogue, "later", vector)
        catalogue.write([Delete("p0")])
        catalogue.put_vectors("r2", [1], product_vectors(1))  # a table that was not there
        inside = (catalogue.count, catalogue.vector_count("r1"), catalogue.vector_count("r2"), catalogue.product("p0"))

    assert inside[:3] == (1_200, 1_200, 0)
    assert inside[3] is not None
    assert (1_200, 1) == (catalogue.count, catalogue.vector_count("r2"))
    assert catalogue.product("p0") is None
    assert catalogue.product("later") is not None


def test_a_snapshot_that_fails_ends(catalogue: Catalogue) -> None:
    """Reads after it see what is there now; one within another ends with the outer one."""
    with pytest.raises(RuntimeError, match="power cut"), catalogue.snapshot(), catalogue.snapshot():
        raise RuntimeError("power cut")
    write(catalogue, "later", product_vectors(1)[0])

    assert catalogue.product("later") is not None


def test_without_changes_a_compaction_finds_the_same(catalogue: Catalogue) -> None:
    """Same lists, same codes: every score and every order, at one list of 16 as at all."""
    before, after = open_current(catalogue.path), compacted(catalogue)
    queries = query_vectors(20)

    for nprobe in (1, 4, 16):
        old = before.ann.search(queries, nprobe=nprobe, candidates=50)
        new = after.ann.search(queries, nprobe=nprobe, candidates=50)
        assert old.numbers.tolist() == new.numbers.tolist()
        assert old.scores.tolist() == new.scores.tolist()
    assert before.operating_points == after.operating_points


def test_a_compaction_takes_in_what_the_live_view_found(catalogue: Catalogue) -> None:
    """Upserts and deletions since: exact search over the new generation equals the live view over the old one."""
    vectors = product_vectors(60, seed=7)
    write_all(catalogue, {f"p{at}" if at % 2 else f"new{at}": vector for at, vector in enumerate(vectors)})
    catalogue.write([Delete(f"p{at}") for at in range(100, 130)])
    live = LiveIndex(open_current(catalogue.path), catalogue)
    live.catch_up()

    generation = compacted(catalogue)

    point = generation.operating_points["exact"]
    for query in query_vectors(10)[:, None]:
        found = generation.search(query, point)
        assert live.vectors.search(query, point).hits.numbers.tolist() == found.numbers.tolist()
    assert (1_200 + 30 - 30, catalogue.sequence) == (generation.manifest.count, generation.manifest.sequence)
    assert 0 == LiveIndex(generation, catalogue).refresh()


def test_a_compaction_is_not_current_by_itself(catalogue: Catalogue) -> None:
    """It is proposed, and adopted or withdrawn."""
    number = compacted(catalogue).number
    assert (1, None) == (current_number(catalogue.path), next_number(catalogue.path))
    propose(catalogue.path, number)
    assert (1, 2) == (current_number(catalogue.path), next_number(catalogue.path))
    withdraw(catalogue.path)
    assert (1, None) == (current_number(catalogue.path), next_number(catalogue.path))
    propose(catalogue.path, number)
    adopt(catalogue.path)
    assert (2, None) == (current_number(catalogue.path), next_number(catalogue.path))


def test_older_generations_are_removed(catalogue: Catalogue) -> None:
    """All but those kept; the last number stays given, even where it was refused."""
    for _ in range(3):
        compacted(catalogue)
    refuse(catalogue.path, 4, "it was broken")

    assert [1] == remove_all_but(catalogue.path, {2, 3})
    assert [2, 3, 4] == [manifest.generation for manifest in manifests(catalogue.path)]
    assert 5 == compacted_number(catalogue)


def compacted_number(catalogue: Catalogue) -> int:
    return build_generation(catalogue, release="r1", factory="Flat", current=False)


def test_only_a_usable_generation_is_gone_back_to(catalogue: Catalogue) -> None:
    """Of the same release, not refused, and with a log that goes on from it."""
    write(catalogue, "new", product_vectors(1)[0])
    compacted(catalogue)

    def newest(release: str, *, since: int = 0) -> int | None:
        found = newest_usable(catalogue.path, release=release, since=since)
        return None if found is None else found.generation

    assert (2, None) == (newest("r1"), newest("r2"))
    refuse(catalogue.path, 2, "it was broken")
    assert 1 == newest("r1", since=open_current(catalogue.path).manifest.sequence)
    assert newest("r1", since=catalogue.sequence) is None


def test_vectors_that_drifted_away_are_trained_on(catalogue: Catalogue) -> None:
    """Those of the same kind lose no more in the codes; those of another kind do."""
    write_all(catalogue, {f"same{at}": vector for at, vector in enumerate(product_vectors(200, seed=3))})
    assert not has_drifted(open_current(catalogue.path), catalogue)

    strange = unit_rows(np.random.default_rng(5).normal(size=(1_000, 32)))
    write_all(catalogue, {f"strange{at}": vector for at, vector in enumerate(strange)})
    assert has_drifted(open_current(catalogue.path), catalogue)


@pytest.mark.parametrize(
    ("factory", "nlist", "built_over", "count", "expected"),
    [
        ("Flat", None, 300, 9_999, "Flat"),
        ("Flat", None, 300, 10_000, "IVF256,PQ8x4fsr,RFlat"),
        ("IVF256,PQ8x4fsr,RFlat", 256, 10_000, 13_000, "IVF256,PQ8x4fsr,RFlat"),
        ("IVF256,PQ8x4fsr,RFlat", 256, 10_000, 60_000, "IVF1024,PQ16x4fsr,RFlat"),
        ("OPQ16,IVF256,PQ16", 256, 10_000, 60_000, "OPQ16,IVF1024,PQ16"),
        ("IVF4096,Flat", 4096, 10_000, 60_000, "IVF4096,Flat"),
    ],
)
def test_lists_are_outgrown_at_half_the_usual_number(
    factory: str, nlist: int | None, built_over: int, count: int, expected: str
) -> None:
    """A usual index becomes the usual one for so many; of one chosen by hand, only the lists grow."""
    manifest = GenerationManifest(
        generation=1,
        release="r1",
        sequence=0,
        factory=factory,
        dim=32,
        count=built_over,
        nlist=nlist,
        created="2026-01-01T00:00:00+00:00",
        faiss_version="",
        files={},
    )

    assert expected == factory_for(manifest, count=count)


def test_nothing_left_to_compact_is_an_error(catalogue: Catalogue) -> None:
    """Says so, and leaves no folder behind."""
    catalogue.write([Delete(f"p{at}") for at in range(1_200)])

    with pytest.raises(SpecError, match="no vectors of release 'r1' are left"):
        compacted(catalogue)
    assert [1] == [manifest.generation for manifest in manifests(catalogue.path)]


def test_a_vector_is_filled_in_only_where_it_fits(catalogue: Catalogue) -> None:
    """Not for a product that changed since it was read, was deleted, or has one already."""
    products = catalogue.unembedded([0, 1, 2, 3, 9_999])
    write(catalogue, "p1", product_vectors(1)[0])
    catalogue.write([Delete("p2")])
    catalogue.put_vectors("r2", [3], np.full((1, 8), 0.5))

    assert [0, 1, 2, 3] == [product.number for product in products]
    assert 1 == catalogue.fill_vectors("r2", products, np.ones((4, 8)))
    assert [0, 3] == [number for batch in catalogue.vectors("r2") for number in batch.numbers.tolist()]
    assert 0.5 == next(iter(catalogue.vectors("r2"))).vectors[1, 0]
