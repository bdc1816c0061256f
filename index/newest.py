"""Products as they were last written, whether searches find that version yet or not."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from index.publications import error_of
from index.records import decode_record, product_key
from index.store import Store
from index.tables import Tables, Waiting, get, newest_record, number_key, version_of


class Newest(NamedTuple):
    """A product as it was last written."""

    product: dict[str, Any]
    version: int  # sequence number of that write; 0 for one from before there was a log
    searchable: bool  # False: this version waits to be embedded
    error: str | None  # why it was set aside, if it was


def newest(store: Store, tables: Tables, product_id: str) -> Newest | None:
    """See `Catalogue.newest`."""
    with store.read() as txn:
        key = get(txn, tables.ids, product_key(product_id))
        if key is None:
            return None
        waiting, record = Waiting.read(txn, tables, key), newest_record(txn, tables, key)
        version, note = version_of(txn, tables, key), get(txn, tables.failed, key)
    if record is None:
        return None
    error = None if note is None else error_of(note)
    return Newest(decode_record(record), version, searchable=waiting is None, error=error)


def newest_records(store: Store, tables: Tables, numbers: Iterable[int]) -> list[dict[str, Any] | None]:
    """See `Catalogue.newest_records`."""
    with store.read() as txn:
        records = [newest_record(txn, tables, number_key(number)) for number in numbers]
    return [None if record is None else decode_record(record) for record in records]
