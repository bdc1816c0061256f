"""LMDB as the catalogue needs it: named tables, short reads, all-or-nothing writes, a map that grows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import lmdb

from index.errors import CatalogueError

MAP_SIZE = 1 << 34  # bytes of address space, not of disk; doubles when full
_MAX_TABLES = 64
_MAX_READERS = 512
_REMEDY = "run `que2search build` to make a catalogue"
_Result = TypeVar("_Result")


class Store:
    """One LMDB file. Open it once per process, after any fork; reads are safe from all threads.

    One process writes at a time. The map grows only in the writing process, and only while none of its other threads
    reads (LMDB's rule): a bulk load is single-threaded, and `MAP_SIZE` leaves live writers far from that point.
    """

    def __init__(self, path: Path, environment: lmdb.Environment) -> None:
        self.path = path
        self._env = environment
        self._tables: dict[str, Any] = {}

    @classmethod
    def open(cls, path: Path, *, create: bool = False, readonly: bool = True, map_size: int = MAP_SIZE) -> Self:
        """Open the file at `path`.

        Raises:
            CatalogueError: missing (unless `create`), cut short, not LMDB, already open in this process, or unwritable.
        """
        if not create and not path.is_file():
            raise CatalogueError(f"there is no catalogue at {path.parent}; {_REMEDY}")
        try:
            environment = lmdb.open(
                str(path),
                subdir=False,
                readonly=readonly,
                create=create,
                map_size=map_size,
                max_dbs=_MAX_TABLES,
                max_readers=_MAX_READERS,
                readahead=False,  # products are read at random; reading ahead would push the index out of memory
            )
        except lmdb.Error as exc:
            raise CatalogueError(f"cannot open {path}: {exc}") from exc
        _refuse_truncated(path, environment)
        return cls(path, environment)

    def close(self) -> None:
        """Release the file."""
        self._env.close()

    def table(self, name: str) -> Any:
        """A table's handle, to be passed as `db`. Raises CatalogueError when there is no such table."""
        handle = self.table_if_any(name)
        if handle is None:
            raise CatalogueError(f"{self.path} has no table {name!r}: it was not finished or is damaged; {_REMEDY}")
        return handle

    def table_if_any(self, name: str) -> Any | None:
        """A table's handle, or None. Not to be called inside a write."""
        if name not in self._tables:
            try:
                self._tables[name] = self._env.open_db(name.encode(), create=False)
            except lmdb.NotFoundError:
                return None
        return self._tables[name]

    def make_table(self, name: str) -> Any:
        """A table's handle; the table is made when absent. Not to be called inside a write."""
        if name not in self._tables:
            self._tables[name] = self._grown(lambda: self._env.open_db(name.encode()))
        return self._tables[name]

    def table_names(self) -> list[str]:
        """All tables in the file, whoever made them."""
        with self.read() as txn:
            return [bytes(key).decode() for key in txn.cursor().iternext(values=False)]

    def entries(self, name: str) -> int:
        """Rows of a table; 0 when there is none."""
        table = self.table_if_any(name)
        if table is None:
            return 0
        with self.read() as txn:
            return int(txn.stat(table)["entries"])

    @contextmanager
    def read(self) -> Iterator[lmdb.Transaction]:
        """A consistent view. Keep it short: pages that a reader may still see cannot be reused."""
        try:
            txn = self._env.begin()
        except lmdb.MapResizedError:  # another process grew the map; 0 adopts its size
            self._env.set_mapsize(0)
            txn = self._env.begin()
        with txn:
            yield txn

    def write(self, change: Callable[[lmdb.Transaction], _Result]) -> _Result:
        """Run `change` in one durable transaction: all of it or, when it raises, nothing. It may run more than once.

        Raises:
            CatalogueError: the disk is full or fails.
        """

        def attempt() -> _Result:
            with self._env.begin(write=True) as txn:
                return change(txn)

        return self._grown(attempt)

    def _grown(self, attempt: Callable[[], _Result]) -> _Result:
        while True:
            try:
                return attempt()
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])
            except lmdb.MapResizedError:
                self._env.set_mapsize(0)
            except lmdb.Error as exc:
                raise CatalogueError(f"cannot write to {self.path}: {exc}") from exc


def _refuse_truncated(path: Path, environment: lmdb.Environment) -> None:
    """Reading a mapped page past the file's end kills the process (SIGBUS), so look before touching any."""
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    found = path.stat().st_size
    # A new environment has written its two head pages only in memory.
    if environment.info()["last_txnid"] and found < needed:
        environment.close()
        raise CatalogueError(f"{path} was cut short: it has {found} of {needed} bytes; {_REMEDY}")
