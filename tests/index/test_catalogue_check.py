"""The check: a sound catalogue passes, and every kind of damage is told."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from index.build import build_generation
from index.catalogue import STORE_FILE, Catalogue
from index.catalogue_check import SHOWN, check_catalogue
from index.cursor_key import KEY_FILE
from index.errors import CatalogueError
from index.generations import CURRENT_FILE
from index.publications import Published
from index.records import encode_record
from index.store import Store
from index.tables import (
    DELETED,
    PUBLISHED,
    WRITTEN,
    Tables,
    log_entry,
    number_key,
    pending_head,
    put_counter,
    sequence_key,
    turn_key,
    version_entry,
)
from index.writes import Delete, Put, RequestProgress
from tests.helpers import product_vectors, small_catalogue

Damage = Callable[[object, Tables, object], object]  # transaction, tables, vectors of r1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """p0 and p1 published, p2 pending, p3 set aside, p4 deleted: the log has eight entries."""
    with Catalogue.create(tmp_path) as catalogue:
        catalogue.write(
            [Put({"product_id": f"p{i}", "title": str(i)}) for i in range(5)],
            request=RequestProgress("key", first=0, done=5),
        )
        catalogue.publish([Published(number, number + 1, {"r1": np.ones(4)}) for number in (0, 1)])
        catalogue.set_aside(3, 4, "poison")
        catalogue.write([Delete("p4")])
    return tmp_path


def damage(path: Path, change: Damage) -> None:
    store = Store.open(path / STORE_FILE, readonly=False)
    tables, vectors = Tables.open(store), store.table("vectors:r1")
    store.write(lambda txn: change(txn, tables, vectors))
    store.close()


def test_a_sound_catalogue_passes(path: Path) -> None:
    """And says what it holds."""
    report = check_catalogue(path)

    assert [] == report.problems
    assert (2, 2, 1, 8) == (report.products, report.pending, report.failed, report.log_entries)
    assert {"r1": 2} == report.vectors


def test_what_waits_after_all_others_passes_too(path: Path) -> None:
    with Catalogue.open(path, readonly=False) as catalogue:
        catalogue.write([Put({"product_id": "p5", "title": "a load's"})], after_others=True)

    report = check_catalogue(path)

    assert ([], 3) == (report.problems, report.pending)


def test_progress_ends_at_its_total(path: Path) -> None:
    """Every row of every table but the counters': 5 ids, 2 each of products, fragments, vectors, pending, ..."""
    told: list[tuple[int, int]] = []
    check_catalogue(path, progress=lambda done, total: told.append((done, total)))

    assert [(5 + 2 + 2 + 2 + 2 + 1 + 1 + 5 + 8 + 1,) * 2] == told


n = number_key
s = sequence_key


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, x, _: t.delete(b"p0", db=x.ids), "number 0 was given, but no product id has it"),
        (lambda t, x, _: t.put(b"p9", n(0), db=x.ids), "'p9' shares number 0"),
        (lambda t, x, _: t.put(b"p9", n(7), db=x.ids), "number 7, but only 5 were given"),
        (lambda t, x, _: t.put(n(0), b"\xc1", db=x.products), "number 0: its record cannot be read"),
        (lambda t, x, _: t.put(n(0), encode_record({"product_id": "p1"}), db=x.products), "says it is 'p1'"),
        (lambda t, x, _: t.put(n(0), b'"id":"p1"', db=x.fragments), "number 0: its hit fragment"),
        (lambda t, x, _: t.delete(n(0), db=x.fragments), "number 0: its hit fragment is missing"),
        (lambda t, x, _: t.put(n(2), b'"id":"p2"', db=x.fragments), "number 2 has a hit fragment, but no product"),
        (lambda t, x, _: t.delete(n(0), db=x.products), "number 0 was never deleted, but is gone"),
        (lambda t, _, v: t.put(n(4), bytes(16), db=v), "number 4 has a vector of release 'r1', but no product"),
        (lambda t, _, v: t.put(n(1), bytes(8), db=v), "has 8 bytes, the first one 16"),
        (lambda t, _, v: t.put(n(1), np.full(4, np.nan, "<f4").tobytes(), db=v), "is not finite"),
        (lambda t, x, _: t.put(n(2), b"short", db=x.pending), "number 2: what is pending cannot be read"),
        (lambda t, x, _: t.put(n(2), pending_head.pack(3, 0.0) + b"\xc1", db=x.pending), "pending cannot be read"),
        (lambda t, x, _: t.delete(n(2), db=x.pending), "entry 3 is queued, but product number 2 does not wait"),
        (lambda t, x, _: t.delete(s(3), db=x.queue), "neither queued nor set aside"),
        (lambda t, x, _: t.put(s(4), n(3), db=x.queue), "both queued and set aside"),
        (lambda t, x, _: t.put(turn_key(4, after_others=True), n(3), db=x.queue), "both queued and set aside"),
        (lambda t, x, _: t.put(turn_key(3, after_others=True), n(2), db=x.queue), "both queued and set aside"),
        (lambda t, x, _: t.put(n(0), t.get(n(3), db=x.failed), db=x.failed), "number 0 is set aside, but"),
        (
            lambda t, x, _: t.put(n(2), version_entry.pack(4, WRITTEN), db=x.versions),
            "waits as of 3, but has version 4",
        ),
        (lambda t, x, _: t.put(n(0), version_entry.pack(99, WRITTEN), db=x.versions), "version 99"),
        (lambda t, x, _: t.put(n(0), b"", db=x.versions), "number 0: its version cannot be read"),
        (lambda t, x, _: t.put(n(0), version_entry.pack(1, DELETED), db=x.versions), "was deleted, but is there"),
        (lambda t, x, _: t.delete(s(5), db=x.log), "the log lacks entries 5 to 5"),
        (lambda t, x, _: t.delete(s(8), db=x.log), "the log ends at 7, but 8 is the last"),
        (lambda t, x, _: t.put(s(5), b"?", db=x.log), "log entry 5 cannot be read"),
        (lambda t, x, _: t.put(s(5), log_entry.pack(PUBLISHED, n(5)), db=x.log), "log entry 5 cannot be read"),
        (lambda t, x, _: put_counter(t, x.meta, b"next_number", 6), "number 5 was given, but no product id"),
        (lambda t, x, _: put_counter(t, x.meta, b"sequence", 9), "the log ends at 8, but 9"),
        (lambda t, x, _: t.put(b"key", b"\xc1", db=x.requests), "request 'key'"),
    ],
)
def test_damage_is_told(path: Path, change: Damage, says: str) -> None:
    """Written into the tables past the catalogue."""
    damage(path, change)

    report = check_catalogue(path)

    assert any(says in problem for problem in report.problems), report.problems
    assert report.problem_count == len(report.problems)


def test_much_damage_is_counted_and_the_first_of_it_told(tmp_path: Path) -> None:
    with small_catalogue(tmp_path, product_vectors(300)):
        pass
    damage(tmp_path, lambda txn, tables, _: txn.drop(tables.fragments, delete=False))

    report = check_catalogue(tmp_path)

    assert (SHOWN, 300) == (len(report.problems), report.problem_count)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    with small_catalogue(tmp_path, product_vectors(50)) as catalogue:
        build_generation(catalogue, release="r1")
    return tmp_path


def test_generations_are_checked_too(built: Path) -> None:
    """By checksum, against the numbers given and the log; `CURRENT` and the key must be there."""
    assert [] == check_catalogue(built).problems

    numbers = built / "generations" / "1" / "numbers.npy"
    numbers.write_bytes(numbers.read_bytes()[:-1] + b"\xff")
    (built / CURRENT_FILE).write_text("7\n")
    (built / KEY_FILE).write_bytes(b"short")

    problems = check_catalogue(built).problems
    assert 3 == len(problems)
    assert "cursor.key has 5 bytes" in problems[0]
    assert "numbers.npy was altered" in problems[1]
    assert "CURRENT names" in problems[2]


def test_a_generation_ahead_of_its_catalogue_is_told(built: Path) -> None:
    """As when an older store was copied beside newer generations."""
    (built / STORE_FILE).unlink()
    with small_catalogue(built, product_vectors(10)):
        pass

    listed, ahead = check_catalogue(built).problems
    assert "lists product number 49, but only 10 were given" in listed
    assert "was built at sequence 50, the catalogue is at 10" in ahead


def test_there_must_be_a_catalogue(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="there is no catalogue"):
        check_catalogue(tmp_path)
