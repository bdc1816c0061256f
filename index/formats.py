"""The format of a catalogue's tables: what this version reads, and how an older catalogue is brought to it."""

import lmdb

from index.errors import CatalogueError
from index.store import Store
from index.tables import Tables, get_counter, put_counter

FORMAT = 2
WITHOUT_LOG = 1  # only meta, ids, products, fragments and vectors


def format_of(store: Store) -> int:
    """Raises CatalogueError for a store without a format: not a catalogue, or one that was not finished."""
    meta = store.table("meta")
    with store.read() as txn:
        return get_counter(txn, meta, b"format")


def check_format(store: Store) -> None:
    """Raises CatalogueError for a format that this version does not read."""
    found = format_of(store)
    if found not in {WITHOUT_LOG, FORMAT}:
        raise CatalogueError(
            f"{store.path.parent} has catalogue format {found}, this version reads {FORMAT}; build it anew elsewhere"
        )


def complete(store: Store) -> None:
    """Make the tables that a new catalogue, or one of an older format, lacks; the format is written last.

    A crash in between leaves what the next opening completes.

    Raises:
        CatalogueError: as `check_format`, or the disk is full or fails.
    """
    if store.entries("meta"):
        check_format(store)
    meta = Tables.make(store).meta
    if format_of(store) == FORMAT:
        return

    def seal(txn: lmdb.Transaction) -> None:
        # The writes of format 1 are in no log: it begins after them.
        put_counter(txn, meta, b"log_start", get_counter(txn, meta, b"sequence"))
        put_counter(txn, meta, b"format", FORMAT)

    store.write(seal)


def live_tables(store: Store) -> Tables:
    """The tables of a catalogue with a log. Raises CatalogueError for one of format 1 that is open for reading."""
    if format_of(store) == WITHOUT_LOG:
        raise CatalogueError(
            f"{store.path.parent} has catalogue format {WITHOUT_LOG}, which keeps no log of changes; "
            "run `que2search catalogue compact` to bring it to the present one"
        )
    return Tables.open(store)
