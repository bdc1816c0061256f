"""Backups of a catalogue in use, restored whole; compaction that loses nothing."""

import shutil
from itertools import count
from pathlib import Path

import pytest

from index.backup import back_up, compact, restore
from index.build import build_generation
from index.catalogue import STORE_FILE, Catalogue
from index.catalogue_check import check_catalogue
from index.errors import CatalogueError
from index.generations import CURRENT_FILE, open_current
from index.lock import exclusive
from index.writes import Delete, Put
from tests.helpers import product_vectors, small_catalogue
from tests.index import live_writer
from tests.index.test_killed_writers import start


@pytest.fixture
def built(tmp_path: Path) -> Path:
    with small_catalogue(tmp_path / "catalogue", product_vectors(50)) as catalogue:
        build_generation(catalogue, release="r1")
    return tmp_path / "catalogue"


def test_a_restored_backup_is_the_catalogue(built: Path, tmp_path: Path) -> None:
    """Products, what waits, index and key; the lock and LMDB's own one are not copied."""
    with Catalogue.open(built, readonly=False) as catalogue:
        catalogue.write([Put({"product_id": "new", "title": "new"})])
        key = catalogue.cursor_key()

    backup = back_up(built, tmp_path / "backup")
    restored = restore(tmp_path / "backup", tmp_path / "restored")

    assert (50, 51, 1) == backup[:3] == restored[:3]
    assert [] == check_catalogue(tmp_path / "restored").problems
    assert 1 == open_current(tmp_path / "restored").number
    with Catalogue.open(tmp_path / "restored") as catalogue:
        assert (key, "new") == (catalogue.cursor_key(), catalogue.newest("new").product["title"])


def test_a_backup_with_a_link_is_not_restored(built: Path, tmp_path: Path) -> None:
    """Whatever it leads to would become a part of the catalogue."""
    back_up(built, tmp_path / "backup")
    (tmp_path / "elsewhere").write_text("secret")
    (tmp_path / "backup" / "notes").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(CatalogueError, match="notes is a link"):
        restore(tmp_path / "backup", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_a_backup_shares_the_files_that_never_change(built: Path, tmp_path: Path) -> None:
    """On one file system the index is linked, so it costs no space; the key stays secret."""
    back_up(built, tmp_path / "backup")
    name = Path("generations/1/index.faiss")

    assert (built / name).samefile(tmp_path / "backup" / name)
    assert 0o600 == (tmp_path / "backup" / "cursor.key").stat().st_mode & 0o777


def test_a_backup_can_be_taken_while_another_process_writes(tmp_path: Path) -> None:
    """It holds what was acknowledged before it began, and is sound."""
    Catalogue.create(tmp_path / "catalogue").close()
    with start(tmp_path / "catalogue", 0) as writer:
        for _ in range(5):
            step = int(writer.stdout.readline())
        backup = back_up(tmp_path / "catalogue", tmp_path / "backup")
        writer.kill()
    titles: dict[str, str] = {}
    for earlier in range(step + 1):
        titles = live_writer.after(titles, 0, earlier)

    assert [] == check_catalogue(tmp_path / "backup").problems
    assert backup.sequence >= step
    with Catalogue.open(tmp_path / "backup") as copy:
        newest = [record for record in copy.newest_records(range(copy.numbers_given)) if record is not None]
    later = [record["title"] for record in newest if titles.get(record["product_id"]) != record["title"]]
    assert all(int(title.split("-")[1]) > step for title in later)


def test_a_generation_that_comes_during_a_backup_is_taken_instead(built: Path, tmp_path: Path) -> None:
    """Store and index of a backup always belong together."""
    linked = count()

    def becomes_second(_done: int, _total: int) -> None:
        if next(linked) == 0:
            shutil.copytree(built / "generations" / "1", built / "generations" / "2")
            (built / CURRENT_FILE).write_text("2\n")

    assert 2 == back_up(built, tmp_path / "backup", progress=becomes_second).generation
    assert not (tmp_path / "backup" / "generations" / "1").exists()


def test_nothing_is_laid_over_what_is_there(built: Path, tmp_path: Path) -> None:
    """Neither a backup nor a restoration."""
    back_up(built, tmp_path / "backup")

    with pytest.raises(CatalogueError, match="is there already"):
        back_up(built, tmp_path / "backup")
    with pytest.raises(CatalogueError, match="is there already"):
        restore(tmp_path / "backup", built)
    with pytest.raises(CatalogueError, match="is no backup"):
        restore(tmp_path, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_compaction_gives_space_back(tmp_path: Path) -> None:
    """Half a megabyte of products is deleted; what is left is as it was."""
    with Catalogue.create(tmp_path) as catalogue:
        catalogue.write([Put({"product_id": f"p{i}", "title": "x" * 5_000}) for i in range(100)])
        catalogue.write([Delete(f"p{i}") for i in range(1, 100)])

    sizes = compact(tmp_path)

    assert sizes.after < sizes.before / 4
    assert sizes.after == (tmp_path / STORE_FILE).stat().st_size
    assert [] == check_catalogue(tmp_path).problems
    with Catalogue.open(tmp_path, readonly=False) as catalogue:
        assert ["p0"] == [one.product["product_id"] for one in catalogue.pending(10)]
        assert 200 == catalogue.write([Put({"product_id": "p0", "title": "y"})])[0].sequence


def test_a_catalogue_in_use_is_not_compacted(tmp_path: Path) -> None:
    Catalogue.create(tmp_path).close()

    with exclusive(tmp_path, use="a server"), pytest.raises(CatalogueError, match="in use by a server"):
        compact(tmp_path)
    with pytest.raises(CatalogueError, match="there is no catalogue"):
        compact(tmp_path / "nowhere")


def test_leftovers_of_a_killed_compaction_do_no_harm(tmp_path: Path) -> None:
    Catalogue.create(tmp_path).close()
    (tmp_path / f"{STORE_FILE}.tmp").write_text("half")

    compact(tmp_path)

    assert not (tmp_path / f"{STORE_FILE}.tmp").exists()
    assert [] == check_catalogue(tmp_path).problems
