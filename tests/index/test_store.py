"""The store: a map that grows beside readers, disks that are full, readers that died."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from index.catalogue import STORE_FILE, Catalogue
from index.catalogue_check import check_catalogue
from index.errors import CatalogueError
from index.store import Store
from index.writes import Put

ROOT = Path(__file__).parents[2]
SMALL_MAP = 1 << 17
MEGABYTE = [{"product_id": f"p{i}", "title": "x" * 1_000} for i in range(1_000)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "store.lmdb", create=True, readonly=False, map_size=SMALL_MAP)
    opened.make_table("table")
    yield opened
    opened.close()


def fill(store: Store, *, rows: int = 1_000) -> None:
    """A megabyte, in one transaction."""
    table = store.table("table")

    def put(txn: object) -> None:
        for i in range(rows):
            txn.put(str(i).encode(), b"x" * 1_000, db=table)

    store.write(put)


def python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Another process that has the store or the catalogue open too; it talks by lines."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_write_that_fills_the_map_waits_for_the_readers_of_its_process(store: Store) -> None:
    """LMDB forbids remapping under them; afterwards everything is there."""
    reading, done = threading.Event(), threading.Event()

    def read() -> None:
        with store.read():
            reading.set()
            assert not done.wait(0.2)

    reader = threading.Thread(target=read)
    reader.start()
    reading.wait()
    fill(store)
    done.set()
    reader.join()

    assert 1_000 == store.entries("table")


def test_readers_and_a_growing_writer_get_along(store: Store) -> None:
    """Four threads read all the time while the map doubles four times."""
    table, stop, seen = store.table("table"), threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            with store.read() as txn:
                value = txn.get(b"0", db=table)
            seen.append(value in {None, b"x" * 1_000})
            stop.wait(0.001)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for rows in range(100, 1_100, 100):
        fill(store, rows=rows)
    stop.set()
    for reader in readers:
        reader.join()

    assert seen
    assert all(seen)


READER = """
import sys
from pathlib import Path
from index.store import Store
store = Store.open(Path(sys.argv[1]), map_size=1 << 17)
for _ in sys.stdin:
    print(store.entries("table"), flush=True)
"""


def test_a_read_within_a_read_does_not_wait_for_a_growing_writer(store: Store) -> None:
    """The writer waits for the outer read, so the inner one must go ahead."""
    with store.read():
        writer = threading.Thread(target=fill, args=(store,))
        writer.start()
        while not store._growing:
            pass
        assert 0 == store.entries("table")
    writer.join()

    assert 1_000 == store.entries("table")


def test_another_process_follows_a_map_that_grew(store: Store) -> None:
    """Its own map is the old, small one until it notices."""
    with python(READER, store.path) as reader:
        counts = []
        for rows in (10, 1_000):
            fill(store, rows=rows)
            reader.stdin.write("\n")
            reader.stdin.flush()
            counts.append(reader.stdout.readline().strip())
        reader.stdin.close()

    assert ["10", "1000"] == counts


def test_a_failed_change_leaves_nothing(store: Store) -> None:
    """Whatever it had put before."""
    table = store.table("table")

    def fail(txn: object) -> None:
        txn.put(b"key", b"value", db=table)
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        store.write(fail)
    assert 0 == store.entries("table")


def test_what_rows_take_of_the_file_falls_when_they_go(store: Store) -> None:
    """4,000 of 1 kB are 4 MB; deleted, they take a page or two, while the file keeps its size."""
    table = store.table("table")
    keys = [number.to_bytes(2, "big") for number in range(4_000)]
    store.write(lambda txn: [txn.put(key, bytes(1_000), db=table) for key in keys])
    full, size = store.used_bytes, store.path.stat().st_size
    assert 4_000_000 < full <= size < 8_000_000

    store.write(lambda txn: txn.drop(table, delete=False))

    assert store.used_bytes < 50_000
    assert size <= store.path.stat().st_size


def test_tables_made_elsewhere_are_found_inside_a_write(store: Store) -> None:
    """A deletion must reach the vectors of a release that another process has just made."""
    store.make_table("vectors:r1")
    fresh = store.write(lambda txn: sorted(store.tables_in(txn, "vectors:")))

    assert ["r1"] == fresh


DYING_READER = """
import os, sys
from pathlib import Path
from index.store import Store
with Store.open(Path(sys.argv[1])).read():
    os.kill(os.getpid(), 9)
"""


def test_the_slot_of_a_reader_that_died_is_freed(store: Store) -> None:
    """It would keep the pages that it saw from ever being used again."""
    with python(DYING_READER, store.path) as reader:
        reader.wait()

    assert 1 == store.forget_dead_readers()
    assert 0 == store.forget_dead_readers()


# A process may not write files beyond a limit: as if the disk was full there.
WRITER_ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from index.catalogue import Catalogue
from index.errors import CatalogueError
from index.writes import Put
path, limit = Path(sys.argv[1]), int(sys.argv[2])
with Catalogue.open(path, readonly=False) as catalogue:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    done = 0
    try:
        while True:
            catalogue.write([Put({"product_id": f"p{done}", "title": "x" * 20_000})])
            done += 1
    except CatalogueError as exc:
        print(done, exc, flush=True)
    try:
        catalogue.write([Put({"product_id": "q", "title": "x" * 100_000})])
    except CatalogueError:
        print(catalogue.backlog.count)
"""


def test_a_full_disk_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """The write that does not fit is refused whole, with a clear error; what came before is there, and goes on."""
    Catalogue.create(tmp_path).close()
    limit = (tmp_path / STORE_FILE).stat().st_size + 300_000
    with python(WRITER_ON_A_FULL_DISK, tmp_path, limit) as writer:
        done, _, message = writer.stdout.readline().partition(" ")
        count = writer.stdout.readline().strip()

    assert "Is the disk full" in message
    assert int(done) > 0
    assert done == count
    assert [] == check_catalogue(tmp_path).problems
    with Catalogue.open(tmp_path, readonly=False) as catalogue:
        catalogue.write([Put({"product_id": "q", "title": "x" * 100_000})])
        assert int(done) + 1 == catalogue.backlog.count


# Its address space ends a little beyond the map that it has.
WRITER_WITHOUT_ADDRESS_SPACE = """
import resource, sys
from pathlib import Path
from index.errors import CatalogueError
from index.store import Store
store = Store.open(Path(sys.argv[1]), readonly=False, map_size=1 << 25)
table = store.table("table")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 25), used + (1 << 25)))
done = 0
try:
    while True:
        store.write(lambda txn: txn.put(b"key %d" % done, bytes(60_000), db=table))
        done += 1
except CatalogueError as exc:
    print(done, exc, flush=True)
print(store.entries("table"))
"""


def test_a_map_that_cannot_grow_loses_nothing(store: Store) -> None:
    """The write that needs it is refused with a clear error; what is stored is read on."""
    with python(WRITER_WITHOUT_ADDRESS_SPACE, store.path) as writer:
        done, _, message = writer.stdout.readline().partition(" ")
        count = writer.stdout.readline().strip()

    assert "no address space for one of 67,108,864 bytes" in message
    assert int(done) > 0
    assert done == count


def test_a_folder_that_cannot_be_made_is_said() -> None:
    """A file system that takes no files."""
    with pytest.raises(CatalogueError, match="cannot write to /proc/nowhere"):
        Catalogue.create(Path("/proc/nowhere"))


def test_a_copy_is_not_laid_over_a_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("mine")

    with pytest.raises(CatalogueError, match="File exists"):
        store.copy_to(tmp_path / "copy")
    assert "mine" == (tmp_path / "copy").read_text()


def test_many_readers_leave_no_file_handles(store: Store) -> None:
    """Ten thousand reads, no more open files than before."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10_000):
        with store.read():
            pass

    assert before == len(list(Path("/proc/self/fd").iterdir()))
