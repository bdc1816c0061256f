"""The catalogue: numbers for ever, records whole, vectors that belong to what is stored."""

import json
import multiprocessing
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.catalogue import STORE_FILE, Catalogue
from index.cursor_key import KEY_FILE
from index.errors import CatalogueError
from index.records import decode_record, encode_fragment, encode_record
from tests.helpers import product_vectors, small_catalogue
from tests.index import elsewhere

LAMP = {"product_id": "lamp", "title": "Lámpara 💡", "price": 9.5, "currency": "EUR", "brand": None}
SOFA = {"product_id": "sofa", "title": "Sofa", "created_at": datetime(2026, 1, 2, tzinfo=UTC)}


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with Catalogue.create(tmp_path / "catalogue") as opened:
        yield opened


def test_numbers_are_given_in_order_and_kept(catalogue: Catalogue) -> None:
    """0, 1, ...; the same id gets the same number again, in any order."""
    assert [0, 1] == catalogue.put_products([LAMP, SOFA]).tolist()
    assert [1, 2, 0] == catalogue.put_products([SOFA, {"product_id": "bed"}, LAMP]).tolist()
    assert (3, 1, None) == (catalogue.count, catalogue.number_of("sofa"), catalogue.number_of("chair"))


def test_the_sequence_counts_writes_that_changed_something(catalogue: Catalogue) -> None:
    """Storing the same again is no write; a changed price is one."""
    catalogue.put_products([LAMP, SOFA])
    assert 2 == catalogue.sequence

    catalogue.put_products([LAMP, SOFA])
    assert 2 == catalogue.sequence

    catalogue.put_products([LAMP | {"price": 8.0}, SOFA])
    assert 3 == catalogue.sequence


def test_a_product_comes_back_whole(catalogue: Catalogue) -> None:
    """All fields as given; null ones are left out; image vectors are arrays."""
    catalogue.put_products(
        [SOFA | {"image_vectors": [[0.5, 1.0], [2.0, 3.0]], "attributes": {"size": "L"}, "brand": None}]
    )

    found = catalogue.product("sofa")

    images = found.pop("image_vectors")
    assert SOFA | {"attributes": {"size": "L"}} == found
    assert [[0.5, 1.0], [2.0, 3.0]] == [image.tolist() for image in images]
    assert catalogue.product("chair") is None


def test_a_fragment_is_a_hit_without_its_braces(catalogue: Catalogue) -> None:
    """Valid JSON between braces, id first, null fields absent, text as it was."""
    numbers = catalogue.put_products([LAMP, SOFA])

    lamp, sofa = (json.loads(b"{" + fragment + b"}") for fragment in catalogue.fragments(numbers.tolist()))

    assert {"id": "lamp", "title": "Lámpara 💡", "price": 9.5, "currency": "EUR"} == lamp
    assert {"id": "sofa", "title": "Sofa", "created_at": "2026-01-02T00:00:00Z"} == sofa
    assert b'"id":"lamp"' == catalogue.fragments([0])[0][:11]


def test_a_number_without_a_product_is_an_error(catalogue: Catalogue) -> None:
    """An index and a catalogue that disagree must not answer silently."""
    catalogue.put_products([LAMP])

    with pytest.raises(CatalogueError, match="que2search build"):
        catalogue.fragments([0, 1])


@pytest.mark.parametrize("product_id", ["", "x" * 129, "é" * 65, None, 7])
def test_an_impossible_id_is_refused_and_nothing_is_stored(catalogue: Catalogue, product_id: object) -> None:
    """1 to 128 bytes of UTF-8; the rest of the batch is not stored either."""
    with pytest.raises(CatalogueError, match="1 to 128"):
        catalogue.put_products([LAMP, {"product_id": product_id}])
    assert 0 == catalogue.count


def test_the_longest_id_fits(catalogue: Catalogue) -> None:
    """128 bytes."""
    catalogue.put_products([{"product_id": "é" * 64}])

    assert 0 == catalogue.number_of("é" * 64)


def test_a_value_that_cannot_be_stored_names_its_product(catalogue: Catalogue) -> None:
    """Not a traceback from deep inside."""
    with pytest.raises(CatalogueError, match="'lamp' cannot be stored"):
        catalogue.put_products([LAMP | {"extra": object()}])


values = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text()


@given(st.dictionaries(st.text(), values, max_size=8))
def test_records_keep_every_value(fields: dict[str, object]) -> None:
    """Whatever the columns are called."""
    fields.pop("image_vectors", None)
    product = fields | {"product_id": "p", "title": "t"}

    assert {name: value for name, value in product.items() if value is not None} == decode_record(
        encode_record(product)
    )
    assert encode_fragment(product).startswith(b'"id":"p"')


# Vectors


def test_vectors_come_back_in_number_order(catalogue: Catalogue) -> None:
    """Stored in any order and in batches, read in order in other batches."""
    vectors = product_vectors(5, dim=4)
    catalogue.put_products({"product_id": str(i)} for i in range(5))
    catalogue.put_vectors("r1", [4, 0], vectors[[4, 0]])
    catalogue.put_vectors("r1", [3, 1], vectors[[3, 1]])

    batches = list(catalogue.vectors("r1", batch=3))

    assert [[0, 1, 3], [4]] == [batch.numbers.tolist() for batch in batches]
    np.testing.assert_array_equal(vectors[[0, 1, 3, 4]], np.concatenate([batch.vectors for batch in batches]))


def test_an_interrupted_build_learns_what_is_missing(catalogue: Catalogue) -> None:
    """Of all products, or of one batch."""
    catalogue.put_products({"product_id": str(i)} for i in range(5))
    assert [0, 1, 2, 3, 4] == catalogue.missing_vectors("r1").tolist()

    catalogue.put_vectors("r1", [1, 3], product_vectors(2))

    assert [0, 2, 4] == catalogue.missing_vectors("r1").tolist()
    assert [0] == catalogue.missing_vectors("r1", np.array([0, 1])).tolist()
    assert 2 == catalogue.vector_count("r1")


def test_a_changed_product_needs_its_vector_anew(catalogue: Catalogue) -> None:
    """A vector belongs to the text it was made from; an unchanged product keeps it."""
    catalogue.put_products([LAMP, SOFA])
    for release in ("r1", "r2"):
        catalogue.put_vectors(release, [0, 1], product_vectors(2))

    catalogue.put_products([LAMP | {"title": "Lamp"}, SOFA])

    assert [0] == catalogue.missing_vectors("r1").tolist() == catalogue.missing_vectors("r2").tolist()


def test_releases_keep_their_vectors_apart(catalogue: Catalogue) -> None:
    """Another release, another dimension; an unknown one has none."""
    catalogue.put_products([LAMP])
    catalogue.put_vectors("r1", [0], np.ones((1, 4), np.float32))
    catalogue.put_vectors("r2", [0], np.ones((1, 8), np.float32))

    assert (1, 4) == next(catalogue.vectors("r1")).vectors.shape
    assert (1, 8) == next(catalogue.vectors("r2")).vectors.shape
    assert [] == list(catalogue.vectors("r3"))
    assert 0 == catalogue.vector_count("r3")


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        (np.ones((2, 4)), "1 products need as many"),
        (np.ones(4), "1 products need as many"),
        (np.full((1, 4), np.nan), "finite"),
        (np.ones((1, 8)), "4-d vectors here; 8-d ones do not fit"),
    ],
)
def test_wrong_vectors_are_refused(catalogue: Catalogue, vectors: np.ndarray, says: str) -> None:
    """Before they can spoil an index."""
    catalogue.put_products([LAMP, SOFA])
    catalogue.put_vectors("r1", [1], np.ones((1, 4), np.float32))

    with pytest.raises(CatalogueError, match=says):
        catalogue.put_vectors("r1", [0], vectors)
    assert 1 == catalogue.vector_count("r1")


# The files


def test_a_reopened_catalogue_goes_on_where_it_was(tmp_path: Path) -> None:
    """Numbers, sequence and key survive; `create` on what is there only opens it."""
    with Catalogue.create(tmp_path) as first:
        first.put_products([LAMP])
        key = first.cursor_key()
    with Catalogue.create(tmp_path) as second:
        assert [1] == second.put_products([SOFA]).tolist()
        assert key == second.cursor_key()
    with Catalogue.open(tmp_path) as third:
        assert (2, 2) == (third.count, third.sequence)


def test_the_cursor_key_is_secret(catalogue: Catalogue) -> None:
    """32 random bytes that only the owner reads."""
    assert 32 == len(catalogue.cursor_key())
    assert 0o600 == (catalogue.path / KEY_FILE).stat().st_mode & 0o777


def test_a_missing_cursor_key_is_said(catalogue: Catalogue) -> None:
    """Cursors cannot be signed without it."""
    (catalogue.path / KEY_FILE).unlink()

    with pytest.raises(CatalogueError, match=r"cursor\.key"):
        catalogue.cursor_key()


def test_a_full_map_grows(tmp_path: Path) -> None:
    """A megabyte of products into a map of 128 kB: nothing is lost, nothing is stored twice."""
    products = [{"product_id": f"p{i}", "title": "x" * 1_000} for i in range(1_000)]
    with Catalogue.create(tmp_path, map_size=1 << 17) as catalogue:
        for start in range(0, 1_000, 100):
            catalogue.put_products(products[start : start + 100])

        assert (1_000, 1_000) == (catalogue.count, catalogue.sequence)
        assert "x" * 1_000 == catalogue.product("p999")["title"]


def test_there_must_be_a_catalogue(tmp_path: Path) -> None:
    """The message says where and what to run."""
    with pytest.raises(CatalogueError, match=r"there is no catalogue at .*; run `que2search build`"):
        Catalogue.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    """Not LMDB."""
    (tmp_path / STORE_FILE).write_bytes(b"x" * 10_000)

    with pytest.raises(CatalogueError, match="not an LMDB file"):
        Catalogue.open(tmp_path)


def test_a_truncated_store_is_refused(tmp_path: Path) -> None:
    """Reading on would kill the process with SIGBUS."""
    with small_catalogue(tmp_path, product_vectors(200)):
        pass
    os.truncate(tmp_path / STORE_FILE, (tmp_path / STORE_FILE).stat().st_size // 2)

    with pytest.raises(CatalogueError, match="was cut short"):
        Catalogue.open(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    """A catalogue of a later version is not misread."""
    with Catalogue.create(tmp_path) as catalogue:
        meta = catalogue._store.table("meta")
        catalogue._store.write(lambda txn: txn.put(b"format", (99).to_bytes(8, "little"), db=meta))

    with pytest.raises(CatalogueError, match="catalogue format 99, this version reads 2"):
        Catalogue.open(tmp_path)


def test_one_process_opens_it_once(catalogue: Catalogue) -> None:
    """LMDB's rule, said as ours."""
    with pytest.raises(CatalogueError, match="already open"):
        Catalogue.open(catalogue.path)


def test_another_process_reads_while_one_writes(tmp_path: Path) -> None:
    """A reader sees what was committed, while the writer has it open."""
    spawn = multiprocessing.get_context("spawn")
    answer = spawn.Queue()
    with Catalogue.create(tmp_path) as catalogue:
        catalogue.put_products([LAMP, SOFA])
        reader = spawn.Process(target=elsewhere.read, args=(tmp_path, [1, 0], answer))
        reader.start()
        fragments = answer.get(timeout=240)
        reader.join(60)

        assert catalogue.fragments([1, 0]) == fragments
