"""LMDB as the catalogue needs it: named tables, short reads, all-or-nothing writes, a map that grows."""

import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import lmdb

from index.errors import CatalogueError
from index.files import sync_file

MAP_SIZE = 1 << 38  # bytes of address space, not of disk or memory; doubles when full
_MAX_TABLES = 64
_MAX_READERS = 512
_RESIZE_WAIT_S = 10.0
_REMEDY = "run `que2search build` to make a catalogue"
_Result = TypeVar("_Result")


class Store:
    """One LMDB file. Open it once per process, after any fork; all methods are safe from all threads.

    One transaction writes at a time, over all processes. A write returns when it has reached the disk (LMDB's default,
    `sync`, is never turned off). LMDB remaps a file that outgrows its map only while this process reads nothing, so a
    write that needs it waits for the readers of its own process; those of others go on.
    """

    def __init__(self, path: Path, environment: lmdb.Environment) -> None:
        self.path = path
        self._env = environment
        self._tables: dict[str, Any] = {}
        self._writing = threading.Lock()
        self._quiet = threading.Condition()
        self._reading = 0
        self._growing = False
        self._reads = _Reads()

    @classmethod
    def open(cls, path: Path, *, create: bool = False, readonly: bool = True, map_size: int = MAP_SIZE) -> Self:
        """Open the file at `path`; for writing, the slots of readers that died are freed first.

        Raises:
            CatalogueError: missing (unless `create`), cut short, not LMDB, already open in this process, or unwritable.
        """
        is_new = not path.is_file()
        if is_new and not create:
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
            if is_new:
                sync_file(path.parent)  # LMDB makes the file durable, not its name
        except (lmdb.Error, OSError) as exc:
            raise CatalogueError(f"cannot open {path}: {exc}") from exc
        _refuse_truncated(path, environment)
        store = cls(path, environment)
        if not readonly:
            store.forget_dead_readers()
        return store

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return not self._env.flags()["readonly"]

    def close(self) -> None:
        """Release the file."""
        self._env.close()

    # Tables

    def table(self, name: str) -> Any:
        """A table's handle, to be passed as `db`. Raises CatalogueError when there is no such table."""
        handle = self.table_if_any(name)
        if handle is None:
            raise CatalogueError(f"{self.path} has no table {name!r}: it was not finished or is damaged; {_REMEDY}")
        return handle

    def table_if_any(self, name: str) -> Any | None:
        """A table's handle, or None. Not to be called inside a write."""
        if self._reads.snapshot is not None:
            return self._reads.snapshot.tables.get(name)
        if name not in self._tables:
            try:
                self._tables[name] = self._retried(lambda: self._env.open_db(name.encode(), create=False))
            except lmdb.NotFoundError:
                return None
        return self._tables[name]

    def make_table(self, name: str) -> Any:
        """A table's handle; the table is made when absent. Not to be called inside a write."""
        if name not in self._tables:
            self._tables[name] = self._retried(lambda: self._env.open_db(name.encode()))
        return self._tables[name]

    def drop_table(self, name: str) -> None:
        """Remove a table with all its rows, if there is one. No other thread of this process may use it."""
        self._tables.pop(name, None)

        def drop(txn: lmdb.Transaction) -> None:
            if name in _names(txn):
                txn.drop(self._env.open_db(name.encode(), txn=txn, create=False), delete=True)

        self.write(drop)

    def table_names(self) -> list[str]:
        """All tables in the file, whoever made them."""
        with self.read() as txn:
            return _names(txn)

    def tables_in(self, txn: lmdb.Transaction, prefix: str) -> dict[str, Any]:
        """Inside a write: the handles of all tables of that prefix, by the rest of their names."""
        # Not kept: LMDB closes what is opened in a transaction that fails.
        return {
            name.removeprefix(prefix): self._env.open_db(name.encode(), txn=txn, create=False)
            for name in _names(txn)
            if name.startswith(prefix)
        }

    def entries(self, name: str) -> int:
        """Rows of a table; 0 when there is none."""
        table = self.table_if_any(name)
        if table is None:
            return 0
        with self.read() as txn:
            return int(txn.stat(table)["entries"])

    @property
    def used_bytes(self) -> int:
        """What the rows take of the file; the rest is free pages, which writes take before the file grows."""
        handles = [None, *(self.table(name) for name in self.table_names())]  # None: the table of all tables
        with self.read() as txn:
            stats = [txn.stat(handle) for handle in handles]
        pages = (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
        return sum(pages) * stats[0]["psize"]

    # Transactions

    @property
    def last_transaction(self) -> int:
        """Another number after every write, whoever made it: a microsecond, where a read takes ten.

        LMDB writes it before it lets readers see that transaction, and waits for the disk in between.
        """
        with self._quiet:  # no other thread exchanges the map meanwhile
            return int(self._env.info()["last_txnid"])

    def read(self) -> AbstractContextManager[lmdb.Transaction]:
        """A consistent view. Keep it short: pages that a reader may still see cannot be reused."""
        snapshot = self._reads.snapshot
        return _Read(self._begin_read, self._end_read) if snapshot is None else nullcontext(snapshot.txn)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads of this thread see one moment while the block runs; a snapshot within a snapshot sees its own.

        For builds: pages that are freed meanwhile are not used again before it ends, so the file grows by them.
        """
        if self._reads.snapshot is not None:
            yield
            return
        # A transaction does not know the handles that are opened after it began.
        tables = {name: self.table(name) for name in self.table_names()}
        with self.read() as txn:
            self._reads.snapshot = _Snapshot(txn, tables)
            try:
                yield
            finally:
                self._reads.snapshot = None

    def write(self, change: Callable[[lmdb.Transaction], _Result]) -> _Result:
        """Run `change` in one durable transaction: all of it or, when it raises, nothing. It may run more than once.

        Raises:
            CatalogueError: the disk is full or fails.
        """

        def attempt() -> _Result:
            with self._env.begin(write=True) as txn:
                return change(txn)

        return self._retried(attempt)

    def forget_dead_readers(self) -> int:
        """Free the slots of processes that were killed while reading, which would keep old pages; returns how many."""
        return int(self._env.reader_check())

    def copy_to(self, path: Path) -> None:
        """Write a compacted copy, as of now, and make it durable; readers and writers go on.

        Raises:
            CatalogueError: the file is there already, or the disk is full or fails.
        """
        try:
            with path.open("xb") as file:
                self._env.copyfd(file.fileno(), compact=True)
                os.fsync(file.fileno())
        except (lmdb.Error, OSError) as exc:
            raise CatalogueError(f"cannot copy {self.path} to {path}: {exc}") from exc

    # Inside

    def _begin_read(self) -> lmdb.Transaction:
        while True:
            with self._quiet:
                # A read within a read must not wait for the end of the outer one.
                if self._growing and self._reads.open == 0:
                    self._quiet.wait_for(lambda: not self._growing)
                self._reading += 1
                self._reads.open += 1
            try:
                return self._env.begin()
            except lmdb.MapResizedError:  # another process grew the map; 0 adopts its size
                self._end_read()
                with self._writing:
                    self._resize(0)
            except lmdb.Error as exc:
                self._end_read()
                raise CatalogueError(f"cannot read {self.path}: {exc}") from exc

    def _end_read(self) -> None:
        with self._quiet:
            self._reading -= 1
            self._reads.open -= 1
            if self._growing and self._reading == 0:
                self._quiet.notify_all()

    def _retried(self, attempt: Callable[[], _Result]) -> _Result:
        with self._writing:
            while True:
                try:
                    return attempt()
                except lmdb.MapFullError:
                    self._resize(2 * self._env.info()["map_size"])
                except lmdb.MapResizedError:
                    self._resize(0)
                except lmdb.NotFoundError:
                    raise
                except lmdb.Error as exc:
                    raise CatalogueError(
                        f"cannot write to {self.path}: {exc}; nothing was stored. Is the disk full or read-only?"
                    ) from exc

    def _resize(self, size: int) -> None:
        with self._quiet:
            self._growing = True
            try:
                if not self._quiet.wait_for(lambda: self._reading == 0, timeout=_RESIZE_WAIT_S):
                    raise CatalogueError(
                        f"{self.path} has outgrown its map, which cannot grow while this process reads; it has been "
                        f"reading for {_RESIZE_WAIT_S:.0f} s: read in shorter pieces"
                    )
                self._check_room(size)
                self._env.set_mapsize(size)
            except lmdb.Error as exc:
                raise CatalogueError(f"cannot map {self.path}: {exc}; restart with more address space") from exc
            finally:
                self._growing = False
                self._quiet.notify_all()

    def _check_room(self, size: int) -> None:
        """Raises CatalogueError where no map of that size fits: LMDB would find out when the old one is gone."""
        try:
            mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ).close()
        except OSError as exc:
            raise CatalogueError(
                f"{self.path} has outgrown its map, and there is no address space for one of {size:,} bytes: {exc}; "
                "nothing was stored. Raise the limit (`ulimit -v`)"
            ) from exc


class _Snapshot(NamedTuple):
    """What all reads of a thread go through."""

    txn: lmdb.Transaction
    tables: dict[str, Any]


class _Reads(threading.local):
    """Reads that the present thread has open."""

    open = 0
    snapshot: _Snapshot | None = None


class _Read:
    """A read transaction: a class, because a generator's context costs a search some microseconds more."""

    __slots__ = ("_begin", "_end", "_txn")

    def __init__(self, begin: Callable[[], lmdb.Transaction], end: Callable[[], None]) -> None:
        self._begin = begin
        self._end = end

    def __enter__(self) -> lmdb.Transaction:
        self._txn = self._begin()
        return self._txn

    def __exit__(self, *_: object) -> None:
        try:
            self._txn.abort()
        finally:
            self._end()


def _names(txn: lmdb.Transaction) -> list[str]:
    return [bytes(key).decode() for key in txn.cursor().iternext(values=False)]


def _refuse_truncated(path: Path, environment: lmdb.Environment) -> None:
    """Reading a mapped page past the file's end kills the process (SIGBUS), so look before touching any."""
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    found = path.stat().st_size
    # A new environment has written its two head pages only in memory.
    if environment.info()["last_txnid"] and found < needed:
        environment.close()
        raise CatalogueError(f"{path} was cut short: it has {found} of {needed} bytes; {_REMEDY}")
