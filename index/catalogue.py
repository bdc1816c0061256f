"""The durable catalogue: products, what became of them in order, their vectors per release, the secret of cursors.

A product is written by one transaction, `write`, and becomes searchable by a second one, `publish`, when it has been
embedded; until then its former version stays what searches find. `put_products` and `put_vectors` load in bulk, past
the log, while nobody follows it. The tables are described in `index.tables`.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from index import bulk, log, newest, publications, writes
from index.cursor_key import create_cursor_key, read_cursor_key
from index.errors import CatalogueError
from index.formats import check_format, complete, live_tables
from index.log import Backlog, Changes, LogEnd, Pending
from index.newest import Newest
from index.publications import Failed, Published
from index.searchable import SearchableProducts
from index.store import MAP_SIZE, Store
from index.tables import Tables
from index.writes import Change, RequestProgress, Write, WriteProblem

STORE_FILE = "products.lmdb"


class Catalogue(SearchableProducts):
    """Products by number. Open it once per process, after any fork.

    Every method is safe from all threads, and several processes may write.
    """

    @classmethod
    def create(cls, path: Path, *, map_size: int = MAP_SIZE) -> Self:
        """Open for writing; what is not there yet is made, so an interrupted creation is finished. See `open`.

        Raises:
            CatalogueError: the folder cannot be written, or holds a catalogue that is damaged or of another format.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            create_cursor_key(path)
        except OSError as exc:
            raise CatalogueError(f"cannot write to {path}: {exc}") from exc
        store = Store.open(path / STORE_FILE, create=True, readonly=False, map_size=map_size)
        return cls._checked(path, store, readonly=False)

    @classmethod
    def open(cls, path: Path, *, readonly: bool = True) -> Self:
        """Open an existing catalogue.

        Opened for writing, one of format 1 is brought to the present one: empty tables are added. Opened for reading,
        it can be searched, but its log cannot be followed.

        Raises:
            CatalogueError: not there, cut short, no catalogue at all, or of another format.
        """
        return cls._checked(path, Store.open(path / STORE_FILE, readonly=readonly), readonly=readonly)

    @classmethod
    def _checked(cls, path: Path, store: Store, *, readonly: bool) -> Self:
        try:
            if readonly:
                check_format(store)
            else:
                complete(store)
        except CatalogueError:
            store.close()
            raise
        return cls(path, store)

    def close(self) -> None:
        """Release the file; a process can then open it again."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def copy_to(self, path: Path) -> None:
        """Write a compacted copy of the store, as of now, while it is read and written. Raises CatalogueError."""
        self._store.copy_to(path)

    def snapshot(self) -> AbstractContextManager[None]:
        """Let all reads of this thread see the catalogue as of now, whatever is written, until the block ends.

        For builds, whose parts have to agree; long ones let the file grow by what is written meanwhile.
        """
        return self._store.snapshot()

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._store.writable

    @property
    def sequence(self) -> int:
        """Number of the last change; a generation notes the one it was built at."""
        return self._counter(b"sequence")

    @property
    def last_transaction(self) -> int:
        """Another number after every write of whatever kind: how to see cheaply that there was none.

        It may be that of a write which readers do not see for another moment.
        """
        return self._store.last_transaction

    @property
    def numbers_given(self) -> int:
        """Product numbers given so far: 0 up to, not including, this one."""
        return self._counter(b"next_number")

    @property
    def log_start(self) -> int:
        """The least `after` that `changes` can go on from."""
        return self._counter(b"log_start")

    def cursor_key(self) -> bytes:
        """The secret that signs cursors. Raises CatalogueError when its file is missing or cut short."""
        return read_cursor_key(self.path)

    @property
    def used_bytes(self) -> int:
        """What all of this takes of the store's file, which may be larger: it keeps pages for later writes."""
        return self._store.used_bytes

    # Writes

    def write(
        self,
        changes: Sequence[Change],
        *,
        request: RequestProgress | None = None,
        after_others: bool = False,
    ) -> list[Write | WriteProblem]:
        """Apply a group of changes in one transaction, in order; it is on disk when this returns.

        A wrong change gets its problem and spoils no other. A product that is like that already is not written again.
        A deletion takes effect at once, a put when it is published.

        Args:
            changes: puts and deletions, prepared or not; each sees what those before it did.
            request: notes how far a request of many lines is, in the same transaction.
            after_others: what is put waits until all is embedded that was written without this, also later.

        Raises:
            CatalogueError: the disk is full or fails; then nothing of the group is stored.
            RequestConflictError: the request is not where `request` says it is; nothing is stored.
        """
        return writes.write(self._store, self._tables, changes, request, after_others=after_others)

    def request_progress(self, key: str) -> int:
        """Lines done of the request with this idempotency key; 0 when it is not known."""
        return writes.request_progress(self._store, self._tables, key)

    def forget_requests(self, *, before: float) -> int:
        """Drop what is known of requests idle since `before`, in seconds since 1970; returns how many."""
        return writes.forget_requests(self._store, self._tables, before)

    def newest(self, product_id: str) -> Newest | None:
        """A product as last written, searchable or not; None when there is no such product."""
        return newest.newest(self._store, self._tables, product_id)

    def newest_records(self, numbers: Iterable[int]) -> list[dict[str, Any] | None]:
        """The fields of products as last written, in the order given; None: there is none under this number."""
        return newest.newest_records(self._store, self._tables, numbers)

    # The log

    def pending(self, limit: int) -> list[Pending]:
        """At most `limit` products that wait to be embedded: the next ones."""
        return log.pending(self._store, self._tables, limit)

    def waits(self, sequence: int) -> bool:
        """Whether what this write put waits to be embedded: neither published yet, nor set aside, nor written again."""
        return log.waits(self._store, self._tables, sequence)

    def publish(self, published: Sequence[Published]) -> int:
        """Make embedded products searchable, all in one transaction: fields and vectors change together.

        One that was written again, or deleted, since it was read is left out. A release that is not among a product's
        vectors loses the one it had.

        Returns:
            How many were still current.

        Raises:
            CatalogueError: a vector is not finite, or of another dimension than its release's; then none is published.
        """
        return publications.publish(self._store, self._tables, published)

    def set_aside(self, number: int, sequence: int, error: str) -> bool:
        """Let a product that cannot be embedded wait no longer, until it is written again. False: it was, meanwhile."""
        return publications.set_aside(self._store, self._tables, number, sequence, error)

    def failed(self) -> list[Failed]:
        """The products set aside, by number."""
        return publications.failed(self._store, self._tables)

    @property
    def failed_count(self) -> int:
        """How many products are set aside."""
        return self._store.entries("failed")

    def changes(self, after: int, limit: int, *, release: str) -> Changes:
        """What became visible after this sequence number, as one change a product: at most `limit` entries of the log.

        Entries of mere writes do not count.

        All is read in one snapshot, so a change tells how the product is by now, which may be later than `upto`; going
        on from there tells it again. Applying a change twice must do no harm.

        Raises:
            LogTrimmedError: the log begins later.
        """
        return log.changes(self._store, self._tables, after, limit, release)

    def log_end(self) -> LogEnd:
        """Where the log ends, as readers see it now."""
        return log.log_end(self._store)

    def trim(self, upto: int) -> int:
        """Drop the log entries up to this sequence number; returns how many. What is pending stays so."""
        return log.trim(self._store, self._tables, upto)

    @property
    def backlog_count(self) -> int:
        """How many products wait to be embedded."""
        return self._store.entries("queue")

    @property
    def backlog(self) -> Backlog:
        """What waits to be embedded."""
        return log.backlog(self._store, self._tables)

    def forget_dead_readers(self) -> int:
        """Free what processes that were killed while reading hold on to; returns how many."""
        return self._store.forget_dead_readers()

    def put_products(self, products: Iterable[Mapping[str, Any]]) -> np.ndarray:
        """Store products as searchable, in one transaction and past the log; returns their numbers, (n,) uint32.

        The numbers are in the order given. Each product is a mapping with `product_id` and any of the columns of the
        `products` table. An unchanged product costs no write; a changed one loses its vectors, which described what it
        was, and whatever waited to be embedded in its place.

        Raises:
            CatalogueError: an id or a value that cannot be stored; then none of the batch is.
        """
        return bulk.put_products(self._store, self._tables, products)

    @cached_property
    def _tables(self) -> Tables:
        return live_tables(self._store)
