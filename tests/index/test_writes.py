"""Writes: durable groups, versions, deletions, requests that are resumed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from index.catalogue import Catalogue
from index.errors import CatalogueError, RequestConflictError
from index.publications import Published
from index.writes import ABSENT, INVALID, NOT_FOUND, OTHER_VERSION, Delete, Put, RequestProgress, Write, WriteProblem
from tests.helpers import product_vectors

LAMP = {"product_id": "lamp", "title": "Lamp", "price": 9.5}
SOFA = {"product_id": "sofa", "title": "Sofa"}


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with Catalogue.create(tmp_path / "catalogue") as opened:
        yield opened


def publish_all(catalogue: Catalogue, *, release: str = "r1") -> int:
    waiting = catalogue.pending(100)
    return catalogue.publish([Published(one.number, one.sequence, {release: np.ones(4)}) for one in waiting])


def kinds(outcomes: list[Write | WriteProblem]) -> list[str]:
    return [outcome.kind if isinstance(outcome, WriteProblem) else "written" for outcome in outcomes]


def test_a_written_product_waits_until_it_is_published(catalogue: Catalogue) -> None:
    """Acknowledged with number and version; searches find it only later."""
    assert [Write(number=0, sequence=1, changed=True)] == catalogue.write([Put(LAMP)])
    assert (LAMP, 1, False, None) == catalogue.newest("lamp")
    assert (0, None) == (catalogue.count, catalogue.product("lamp"))

    assert 1 == publish_all(catalogue)

    assert (LAMP, 1, True, None) == catalogue.newest("lamp")
    assert (1, LAMP) == (catalogue.count, catalogue.product("lamp"))


def test_the_former_version_stays_searchable_until_the_next_is(catalogue: Catalogue) -> None:
    """Record, fragment and vector change in one step."""
    catalogue.put_products([LAMP])
    catalogue.put_vectors("r1", [0], np.zeros((1, 4)))
    catalogue.write([Put(LAMP | {"price": 8.0})])

    assert (9.5, 8.0) == (catalogue.product("lamp")["price"], catalogue.newest("lamp").product["price"])
    assert b"9.5" in catalogue.fragments([0])[0]

    publish_all(catalogue)

    assert b"8.0" in catalogue.fragments([0])[0]
    assert [1, 1, 1, 1] == next(catalogue.vectors("r1")).vectors[0].tolist()


def test_an_unchanged_product_is_not_written_again(catalogue: Catalogue) -> None:
    """It keeps its version, pending or published; in one group too."""
    assert [(0, 1, True), (0, 1, False)] == catalogue.write([Put(LAMP), Put(LAMP)])
    publish_all(catalogue)
    assert [(0, 1, False)] == catalogue.write([Put(LAMP)])
    assert [] == catalogue.pending(10)


def test_a_deletion_is_at_once_and_for_all_releases(catalogue: Catalogue) -> None:
    """Record, fragment and vectors go in the transaction that acknowledges."""
    catalogue.put_products([LAMP, SOFA])
    for release in ("r1", "r2"):
        catalogue.put_vectors(release, [0, 1], product_vectors(2, dim=4))

    (deleted,) = catalogue.write([Delete("lamp")])

    assert (0, 3, True) == deleted
    assert (None, None) == (catalogue.product("lamp"), catalogue.newest("lamp"))
    assert (1, 1, 1) == (catalogue.count, catalogue.vector_count("r1"), catalogue.vector_count("r2"))
    assert [None] == catalogue.fragments_if_any([0])


def test_a_deleted_product_gets_no_vector(catalogue: Catalogue) -> None:
    """Somebody embedded it in bulk meanwhile."""
    catalogue.put_products([LAMP, SOFA])
    catalogue.write([Delete("lamp")])

    catalogue.put_vectors("r1", [0, 1], product_vectors(2, dim=4))

    assert [1] == next(catalogue.vectors("r1")).numbers.tolist()


def test_a_product_that_comes_back_has_its_number_again(catalogue: Catalogue) -> None:
    """And no other product ever gets it."""
    catalogue.write([Put(LAMP), Delete("lamp")])

    assert [(1, 3, True), (0, 4, True)] == catalogue.write([Put(SOFA), Put(LAMP)])
    assert 2 == catalogue.numbers_given


def test_a_deletion_also_ends_the_wait(catalogue: Catalogue) -> None:
    """What was read for embedding before it is not published after it."""
    catalogue.write([Put(LAMP)])
    (waiting,) = catalogue.pending(1)
    catalogue.write([Delete("lamp")])

    assert 0 == catalogue.publish([Published(waiting.number, waiting.sequence, {"r1": np.ones(4)})])
    assert (0, []) == (catalogue.count, catalogue.pending(10))


def test_a_wrong_change_spoils_no_other(catalogue: Catalogue) -> None:
    """Each has its own answer; the right ones are stored."""
    changes = [Put({"product_id": ""}), Put(LAMP), Put(SOFA | {"extra": object()}), Delete("chair"), Put(SOFA)]

    outcomes = catalogue.write(changes)

    assert [INVALID, "written", INVALID, NOT_FOUND, "written"] == kinds(outcomes)
    assert (outcomes[1].sequence, outcomes[4].sequence) == (1, 2)
    assert "'sofa' cannot be stored" in outcomes[2].message


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (Put(LAMP | {"price": 1.0}, expected=1), "written"),
        (Put(LAMP | {"price": 1.0}, expected=2), OTHER_VERSION),
        (Put(LAMP, expected=2), OTHER_VERSION),
        (Put(LAMP, expected=ABSENT), OTHER_VERSION),
        (Put(SOFA, expected=ABSENT), "written"),
        (Put(SOFA, expected=1), OTHER_VERSION),
        (Delete("lamp", expected=1), "written"),
        (Delete("lamp", expected=2), OTHER_VERSION),
        (Delete("sofa", expected=1), NOT_FOUND),
    ],
)
def test_an_expected_version_must_be_the_present_one(catalogue: Catalogue, change: Put | Delete, kind: str) -> None:
    """Lamp has version 1, there is no sofa."""
    catalogue.write([Put(LAMP)])

    assert [kind] == kinds(catalogue.write([change]))


def test_a_version_problem_names_both_versions(catalogue: Catalogue) -> None:
    catalogue.write([Put(LAMP)])

    (problem,) = catalogue.write([Delete("lamp", expected=7)])

    assert "version 7 was expected, but it has version 1" in problem.message


def test_a_bulk_load_gives_versions_too(catalogue: Catalogue) -> None:
    """And what it replaces waits no longer."""
    catalogue.write([Put(LAMP | {"title": "waits"})])
    catalogue.put_products([LAMP, SOFA])

    assert (LAMP, 2, True, None) == catalogue.newest("lamp")
    assert (SOFA, 3, True, None) == catalogue.newest("sofa")
    assert [] == catalogue.pending(10)


# Requests


def test_a_request_is_resumed_where_its_last_group_ended(catalogue: Catalogue) -> None:
    """Lines and progress are one transaction, over a restart too."""
    catalogue.write([Put(LAMP), Put(SOFA)], request=RequestProgress("key", first=0, done=2))
    catalogue.close()
    with Catalogue.open(catalogue.path, readonly=False) as reopened:
        assert (2, 0) == (reopened.request_progress("key"), reopened.request_progress("other"))


def test_a_group_that_does_not_follow_is_refused_whole(catalogue: Catalogue) -> None:
    """Another connection has gone on with the request: nothing of the late group may undo what came after it."""
    catalogue.write([Put(LAMP)], request=RequestProgress("key", first=0, done=1))

    with pytest.raises(RequestConflictError, match="has 1 lines done, not 0"):
        catalogue.write([Put(SOFA)], request=RequestProgress("key", first=0, done=1))
    assert (1, None) == (catalogue.sequence, catalogue.newest("sofa"))


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_an_impossible_request_key_is_refused(catalogue: Catalogue, key: str) -> None:
    with pytest.raises(CatalogueError, match="1 to 255"):
        catalogue.write([Put(LAMP)], request=RequestProgress(key, first=0, done=1))
    assert 0 == catalogue.sequence


def test_old_requests_are_forgotten(catalogue: Catalogue) -> None:
    """Those that went on later stay."""
    catalogue.write([], request=RequestProgress("key", first=0, done=1))

    assert 0 == catalogue.forget_requests(before=1_000_000_000.0)
    assert 1 == catalogue.forget_requests(before=1e11)
    assert 0 == catalogue.request_progress("key")
