"""The log: what waits, what became visible, what is set aside, and what may be dropped."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from index.catalogue import Catalogue
from index.errors import CatalogueError, LogTrimmedError
from index.log import Backlog
from index.publications import Published
from index.writes import Delete, Put


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with Catalogue.create(tmp_path / "catalogue") as opened:
        yield opened


def product(name: str, title: str = "") -> dict[str, str]:
    return {"product_id": name, "title": title or name}


def put(catalogue: Catalogue, *names: str) -> None:
    catalogue.write([Put(product(name)) for name in names])


def publish(catalogue: Catalogue, *releases: str) -> int:
    """Everything that waits; a product's vector is (number, version)."""
    return catalogue.publish(
        [
            Published(one.number, one.sequence, {release: np.array([one.number, one.sequence]) for release in releases})
            for one in catalogue.pending(1_000)
        ]
    )


def test_what_waits_is_read_in_the_order_of_the_writes(catalogue: Catalogue) -> None:
    """A product that is written again goes to the end, once; piece by piece nothing is left out."""
    put(catalogue, "a", "b", "c")
    catalogue.write([Put(product("a", "again"))])

    waiting = catalogue.pending(2)
    assert [(1, 2, "b"), (2, 3, "c")] == [(one.number, one.sequence, one.product["title"]) for one in waiting]
    for one in waiting:
        catalogue.set_aside(one.number, one.sequence, "no")

    assert [(0, 4, product("a", "again"))] == catalogue.pending(2)


def test_what_can_wait_comes_after_all_others(catalogue: Catalogue) -> None:
    """Also after those written later; it keeps its own order, and the backlog is as old as the oldest of all."""
    catalogue.write([Put(product("load 1")), Put(product("load 2"))], after_others=True)
    put(catalogue, "single")

    assert ["single", "load 1", "load 2"] == [one.product["product_id"] for one in catalogue.pending(10)]
    assert (3, 1) == (catalogue.backlog.count, catalogue.backlog.oldest)


@pytest.mark.parametrize("after_others", [False, True])
def test_a_product_waits_once_whoever_wrote_it(catalogue: Catalogue, *, after_others: bool) -> None:
    """It has the turn of its last write; published, set aside or deleted it has none."""
    for name in ("published", "set aside", "deleted"):
        catalogue.write([Put(product(name))], after_others=not after_others)
        catalogue.write([Put(product(name, "again"))], after_others=after_others)
        last = catalogue.sequence
        assert (False, True) == (catalogue.waits(last - 1), catalogue.waits(last))

        (waiting,) = catalogue.pending(10)
        assert product(name, "again") == waiting.product
        if name == "published":
            publish(catalogue)
        elif name == "set aside":
            catalogue.set_aside(waiting.number, waiting.sequence, "no")
        else:
            catalogue.write([Delete(name)])
        assert ([], 0) == (catalogue.pending(10), catalogue.backlog.count)
        assert not catalogue.waits(last)


def test_only_the_version_that_was_embedded_is_published(catalogue: Catalogue) -> None:
    """A later write makes the vector worthless; the rest of the group is published."""
    put(catalogue, "a", "b")
    embedded = [Published(one.number, one.sequence, {"r1": np.ones(2)}) for one in catalogue.pending(10)]
    catalogue.write([Put(product("a", "later"))])

    assert 1 == catalogue.publish(embedded)
    assert (None, product("b")) == (catalogue.product("a"), catalogue.product("b"))
    assert ["later"] == [one.product["title"] for one in catalogue.pending(10)]
    assert 0 == catalogue.publish(embedded)


def test_a_release_that_was_not_embedded_loses_its_vector(catalogue: Catalogue) -> None:
    """A vector of what the product was must not stay beside what it is."""
    catalogue.put_products([product("a")])
    for release in ("r1", "r2"):
        catalogue.put_vectors(release, [0], np.ones((1, 2)))
    catalogue.write([Put(product("a", "new"))])

    publish(catalogue, "r1")

    assert (1, 0) == (catalogue.vector_count("r1"), catalogue.vector_count("r2"))


@pytest.mark.parametrize("vector", [np.full(2, np.inf), np.ones((1, 2)), np.ones(3)])
def test_a_wrong_vector_publishes_nothing(catalogue: Catalogue, vector: np.ndarray) -> None:
    """Not finite, not one row, or of another dimension than the release's."""
    put(catalogue, "a")
    publish(catalogue, "r1")
    put(catalogue, "b")

    with pytest.raises(CatalogueError, match=r"finite|do not fit"):
        catalogue.publish([Published(1, 3, {"r1": vector})])
    assert (1, None) == (len(catalogue.pending(10)), catalogue.product("b"))


# Set aside


def test_a_product_set_aside_waits_no_longer(catalogue: Catalogue) -> None:
    """The others go on; it is listed with its error, and searches keep its former version."""
    catalogue.put_products([product("a")])
    catalogue.write([Put(product("a", "poison")), Put(product("b"))])

    assert catalogue.set_aside(0, 2, "too long")

    assert ["b"] == [one.product["product_id"] for one in catalogue.pending(10)]
    (failed,) = catalogue.failed()
    assert (0, 2, "a", "too long") == (failed.number, failed.sequence, failed.product_id, failed.error)
    assert (product("a", "poison"), 2, False, "too long") == catalogue.newest("a")
    assert product("a") == catalogue.product("a")
    assert 1 == catalogue.backlog.count


@pytest.mark.parametrize("change", [Put(product("a", "mended")), Delete("a")])
def test_the_next_change_clears_what_was_set_aside(catalogue: Catalogue, change: Put | Delete) -> None:
    put(catalogue, "a")
    catalogue.set_aside(0, 1, "too long")
    catalogue.write([change])

    assert [] == catalogue.failed()
    assert isinstance(change, Put) == (len(catalogue.pending(10)) == 1)


def test_a_product_written_meanwhile_is_not_set_aside(catalogue: Catalogue) -> None:
    """The error is about a version that nobody waits for."""
    put(catalogue, "a")
    catalogue.write([Put(product("a", "mended"))])

    assert not catalogue.set_aside(0, 1, "too long")
    assert (1, []) == (len(catalogue.pending(10)), catalogue.failed())


# Changes


def test_changes_tell_what_became_visible(catalogue: Catalogue) -> None:
    """Writes (1 to 3) are passed over, publications (4 to 6) come with product and vector, deletions (7) without."""
    put(catalogue, "a", "b", "c")
    publish(catalogue, "r1")
    catalogue.write([Delete("b")])

    changes = catalogue.changes(0, 100, release="r1")

    assert 7 == changes.upto
    assert [(0, 4), (2, 6), (1, 7)] == [(change.number, change.sequence) for change in changes.entries]
    assert [product("a"), product("c"), None] == [change.product for change in changes.entries]
    assert [[0, 1], [2, 3]] == [change.vector.tolist() for change in changes.entries[:2]]
    assert changes.entries[2].vector is None


def test_changes_are_collapsed_to_the_last_one_of_a_product(catalogue: Catalogue) -> None:
    """However often it was written."""
    for title in ("one", "two", "three"):
        catalogue.write([Put(product("a", title))])
        publish(catalogue, "r1")

    ((number, sequence, found, _),) = catalogue.changes(0, 100, release="r1").entries

    assert (0, 6, "three") == (number, sequence, found["title"])


def test_changes_are_read_on_from_where_they_ended(catalogue: Catalogue) -> None:
    """Two at a time, mere writes (1 to 3) not counted; nothing is left out, and at the end there is nothing."""
    put(catalogue, "a", "b", "c")
    publish(catalogue, "r1")

    first, second = (catalogue.changes(after, 2, release="r1") for after in (0, 5))

    assert (5, [0, 1]) == (first.upto, [change.number for change in first.entries])
    assert (6, [2]) == (second.upto, [change.number for change in second.entries])
    assert (6, []) == catalogue.changes(6, 2, release="r1")


def test_many_mere_writes_are_passed_over_in_pieces(catalogue: Catalogue) -> None:
    """64 for each change that is asked for: searches wait meanwhile."""
    put(catalogue, *(str(number) for number in range(100)))
    publish(catalogue, "r1")

    assert (64, []) == catalogue.changes(0, 1, release="r1")
    upto, entries = catalogue.changes(64, 1, release="r1")
    assert (101, 1) == (upto, len(entries))


def test_a_release_without_vectors_tells_products_alone(catalogue: Catalogue) -> None:
    """It has not been back-filled yet."""
    put(catalogue, "a")
    publish(catalogue, "r1")

    ((_, _, found, vector),) = catalogue.changes(0, 10, release="r2").entries

    assert (product("a"), None) == (found, vector)


def test_a_piece_that_was_overtaken_tells_how_things_are_now(catalogue: Catalogue) -> None:
    """Entry 2 published what entry 3 deleted: reading only up to 2 must not bring it back."""
    put(catalogue, "a")
    publish(catalogue, "r1")
    catalogue.write([Delete("a")])

    assert (2, [(0, 2, None, None)]) == catalogue.changes(0, 1, release="r1")


def test_a_trimmed_log_says_so(catalogue: Catalogue) -> None:
    """Whoever stands before its start must begin anew; from the start on all is there."""
    put(catalogue, "a", "b")
    publish(catalogue, "r1")

    assert 3 == catalogue.trim(3)

    assert 3 == catalogue.log_start
    assert [1] == [change.number for change in catalogue.changes(3, 10, release="r1").entries]
    with pytest.raises(LogTrimmedError, match="no log of changes 3 to 3"):
        catalogue.changes(2, 10, release="r1")


def test_trimming_loses_nothing_that_waits(catalogue: Catalogue) -> None:
    """The log is for followers; what is to be embedded is kept apart. Beyond the end there is nothing to drop."""
    put(catalogue, "a", "b")

    assert 2 == catalogue.trim(100)
    assert (2, 2, 2) == (len(catalogue.pending(10)), catalogue.log_start, catalogue.sequence)
    assert 2 == publish(catalogue, "r1")


def test_a_bulk_load_cannot_be_followed(catalogue: Catalogue) -> None:
    """It writes no entries, so the log begins behind it; one that changes nothing leaves it alone."""
    put(catalogue, "a")
    publish(catalogue, "r1")
    catalogue.put_products([product("a")])
    assert 0 == catalogue.log_start

    catalogue.put_products([product("b")])

    assert 3 == catalogue.log_start == catalogue.sequence


def test_the_backlog_tells_how_many_wait_since_when(catalogue: Catalogue) -> None:
    assert Backlog(count=0, oldest=None, age_s=0.0) == catalogue.backlog

    put(catalogue, "a", "b")

    backlog = catalogue.backlog
    assert (2, 1) == (backlog.count, backlog.oldest)
    assert backlog.age_s >= 0
