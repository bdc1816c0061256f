"""The bulk load: products stored as searchable at once, without log entries, for `que2search build`."""

from collections.abc import Iterable, Mapping
from typing import Any

import lmdb
import numpy as np

from index.records import encode_fragment, encode_record, product_key
from index.store import Store
from index.tables import (
    VECTORS,
    WRITTEN,
    Tables,
    forget_pending,
    get,
    get_counter,
    newest_record,
    number_for,
    put_counter,
    version_entry,
)


def put_products(store: Store, tables: Tables, products: Iterable[Mapping[str, Any]]) -> np.ndarray:
    """See `Catalogue.put_products`."""
    rows = [(product_key(p.get("product_id")), encode_record(p), encode_fragment(p)) for p in products]

    def apply(txn: lmdb.Transaction) -> np.ndarray:
        vector_tables = list(store.tables_in(txn, VECTORS).values())
        before = sequence = get_counter(txn, tables.meta, b"sequence")
        keys = []
        for product_id, record, fragment in rows:
            key = number_for(txn, tables, product_id)
            keys.append(key)
            sequence += _put(txn, tables, key, record, fragment, vector_tables, sequence=sequence + 1)
        if sequence != before:
            put_counter(txn, tables.meta, b"sequence", sequence)
            # These writes are not in the log, so nobody can follow it from before them.
            put_counter(txn, tables.meta, b"log_start", sequence)
        return np.frombuffer(b"".join(keys), dtype=">u4").astype(np.uint32)

    return store.write(apply)


def _put(
    txn: lmdb.Transaction,
    tables: Tables,
    key: bytes,
    record: bytes,
    fragment: bytes,
    vector_tables: list[Any],
    *,
    sequence: int,
) -> bool:
    """Whether the product was written: it was not as it is now, or waited to become so."""
    was_searchable = get(txn, tables.products, key) == record
    if was_searchable and newest_record(txn, tables, key) == record:
        return False
    forget_pending(txn, tables, key)
    if not was_searchable:
        txn.put(key, record, db=tables.products)
        txn.put(key, fragment, db=tables.fragments)
        for table in vector_tables:
            txn.delete(key, db=table)
    txn.put(key, version_entry.pack(sequence, WRITTEN), db=tables.versions)
    return True
