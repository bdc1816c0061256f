"""`que2search catalogue`: a catalogue is checked, moved and backed up from the command line."""

import json
from pathlib import Path

import pytest

from index.catalogue import Catalogue
from index.cursor_key import KEY_FILE
from index.lock import exclusive
from index.writes import Put
from tests.helpers import product_vectors, small_catalogue
from tests.test_que2search import que2search


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Ten products, and one that waits."""
    with small_catalogue(tmp_path / "catalogue", product_vectors(10)) as catalogue:
        catalogue.write([Put({"product_id": "new", "title": "new"})])
    return tmp_path / "catalogue"


def test_a_sound_catalogue_is_told_to_be(path: Path, tmp_path: Path) -> None:
    result = que2search("catalogue", "check", "--catalogue", path, "--json", tmp_path / "check.json")

    assert 0 == result.returncode, result.stderr
    assert "10 products, 1 pending, 0 of them set aside, 1 log entries, 10 vectors of r1" in result.stdout
    report = json.loads((tmp_path / "check.json").read_text())
    assert (10, 1, []) == (report["products"], report["pending"], report["problems"])


def test_damage_ends_with_one(path: Path) -> None:
    """Each problem is a line; the last one counts them."""
    (path / KEY_FILE).unlink()

    result = que2search("catalogue", "check", "--catalogue", path)

    assert 1 == result.returncode
    assert "wrong: cannot read" in result.stdout
    assert "1 things are wrong" in result.stderr


def test_products_move_to_another_catalogue(path: Path, tmp_path: Path) -> None:
    """Exported, imported, equal; the one that waited too."""
    lines, other = tmp_path / "products.jsonl", tmp_path / "other"

    assert "11 products in" in que2search("catalogue", "export", lines, "--catalogue", path).stdout
    assert "11 products read" in que2search("catalogue", "import", lines, "--catalogue", other).stdout

    with Catalogue.open(path) as one, Catalogue.open(other) as two:
        assert one.newest_records(range(11)) == two.newest_records(range(11))


def test_a_backup_is_restored(path: Path, tmp_path: Path) -> None:
    backup, restored = tmp_path / "backup", tmp_path / "restored"

    assert "10 products as of change 11" in que2search("catalogue", "backup", backup, "--catalogue", path).stdout
    assert "10 products as of change 11" in que2search("catalogue", "restore", backup, "--catalogue", restored).stdout
    assert 0 == que2search("catalogue", "check", "--catalogue", restored).returncode


def test_a_catalogue_is_compacted(path: Path) -> None:
    result = que2search("catalogue", "compact", "--catalogue", path)

    assert 0 == result.returncode, result.stderr
    assert "MiB before" in result.stdout


def test_what_changes_a_catalogue_in_bulk_waits_for_nobody(path: Path, release_dir: Path, tmp_path: Path) -> None:
    """Beside a server it is refused in one line, and nothing is changed."""
    lines = tmp_path / "products.jsonl"
    lines.write_text('{"product_id":"other"}\n')
    with exclusive(path, use="a server"):
        refused = [
            que2search("catalogue", "compact", "--catalogue", path),
            que2search("catalogue", "import", lines, "--catalogue", path),
            que2search("build", "--from-catalogue", "--release", release_dir, "--catalogue", path),
        ]

    assert [1, 1, 1] == [result.returncode for result in refused]
    for result in refused:
        assert "is in use by a server" in result.stderr
    with Catalogue.open(path) as catalogue:
        assert 10 == catalogue.count


def test_imported_products_are_built_without_a_dataset(release_dir: Path, tmp_path: Path) -> None:
    """`build --from-catalogue` embeds what has no vector yet."""
    lines, path = tmp_path / "products.jsonl", tmp_path / "catalogue"
    lines.write_text("".join(f'{{"product_id":"p{i}","title":"lamp {i}"}}\n' for i in range(20)))
    que2search("catalogue", "import", lines, "--catalogue", path)

    result = que2search("build", "--from-catalogue", "--release", release_dir, "--catalogue", path)

    assert 0 == result.returncode, result.stderr
    assert "generation 1 of" in result.stdout
    assert "over 20 products" in result.stdout
