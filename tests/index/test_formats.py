"""A catalogue of format 1, as earlier versions left it: searched as it is, brought up to date when it is written to."""

from pathlib import Path

import numpy as np
import pytest

from index.catalogue import STORE_FILE, Catalogue
from index.catalogue_check import check_catalogue
from index.cursor_key import create_cursor_key
from index.errors import CatalogueError, LogTrimmedError
from index.records import encode_fragment, encode_record
from index.store import Store
from index.tables import number_key, put_counter
from index.writes import Put

PRODUCTS = [{"product_id": name, "title": name.title()} for name in ("lamp", "sofa")]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Two products with vectors, written three times in all."""
    create_cursor_key(tmp_path)
    store = Store.open(tmp_path / STORE_FILE, create=True, readonly=False)
    tables = {name: store.make_table(name) for name in ("meta", "ids", "products", "fragments", "vectors:r1")}

    def fill(txn: object) -> None:
        for name, value in ((b"format", 1), (b"next_number", 2), (b"sequence", 3)):
            put_counter(txn, tables["meta"], name, value)
        for number, product in enumerate(PRODUCTS):
            key = number_key(number)
            txn.put(product["product_id"].encode(), key, db=tables["ids"])
            txn.put(key, encode_record(product), db=tables["products"])
            txn.put(key, encode_fragment(product), db=tables["fragments"])
            txn.put(key, np.ones(4, dtype="<f4").tobytes(), db=tables["vectors:r1"])

    store.write(fill)
    store.close()
    return tmp_path


def test_it_can_be_searched_as_it_is(old: Path) -> None:
    """Products, fragments and vectors are where they were; the file is not touched."""
    with Catalogue.open(old) as catalogue:
        assert PRODUCTS == catalogue.records([0, 1])
        assert (2, 3) == (catalogue.vector_count("r1"), catalogue.sequence)
    assert [] == check_catalogue(old).problems


def test_its_log_cannot_be_followed_and_the_error_says_what_to_run(old: Path) -> None:
    with (
        Catalogue.open(old) as catalogue,
        pytest.raises(CatalogueError, match=r"format 1.*que2search catalogue compact"),
    ):
        catalogue.changes(0, 10, release="r1")


def test_opening_it_for_writing_brings_it_up_to_date(old: Path) -> None:
    """Numbers, sequence and products are kept; its products have version 0 until they are written."""
    with Catalogue.open(old, readonly=False) as catalogue:
        assert (PRODUCTS[0], 0, True, None) == catalogue.newest("lamp")
        assert [(0, 0, False), (2, 4, True)] == catalogue.write([Put(PRODUCTS[0]), Put({"product_id": "bed"})])
        assert [(1, 5, True)] == catalogue.write([Put(PRODUCTS[1] | {"price": 1.0}, expected=0)])
        assert 3 == catalogue.log_start
        with pytest.raises(LogTrimmedError):
            catalogue.changes(2, 10, release="r1")
    assert [] == check_catalogue(old).problems


def test_an_interrupted_migration_is_finished(old: Path) -> None:
    """Killed after some tables were made: the format was not written yet, so the next opening goes on."""
    store = Store.open(old / STORE_FILE, readonly=False)
    store.make_table("pending")
    store.close()
    assert [] == check_catalogue(old).problems

    with Catalogue.open(old, readonly=False) as catalogue:
        assert 1 == len(catalogue.write([Put({"product_id": "bed"})]))
    assert [] == check_catalogue(old).problems
