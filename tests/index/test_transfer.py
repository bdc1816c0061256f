"""Export and import: what comes out goes in again, wherever it was cut off."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.catalogue import Catalogue
from index.errors import CatalogueError
from index.records import decode_record, encode_record
from index.transfer import export_products, import_products
from index.writes import Delete, Put

SOFA = {
    "product_id": "sofa",
    "title": "Sofá 🛋",
    "price": 9.5,
    "created_at": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    "attributes": {"colour": "red"},
    "image_vectors": [[0.1, 0.2], [1 / 3, 4.0]],
}


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with Catalogue.create(tmp_path / "catalogue") as opened:
        yield opened


def stored(catalogue: Catalogue) -> list[bytes]:
    """The records as bytes, in the order of their numbers."""
    found = catalogue.newest_records(range(catalogue.numbers_given))
    return [encode_record(product) for product in found if product is not None]


def imported(folder: Path, lines: Path) -> list[bytes]:
    with Catalogue.create(folder) as other:
        import_products(other, lines)
        return stored(other)


def test_an_import_equals_what_was_exported(catalogue: Catalogue, tmp_path: Path) -> None:
    """To the last bit of an image vector; the newest version of each product, and no deleted one."""
    catalogue.put_products([SOFA, {"product_id": "lamp"}, {"product_id": "bed", "title": "old"}])
    catalogue.write([Delete("lamp"), Put({"product_id": "bed", "title": "new"}), Put({"product_id": "chair"})])

    assert 3 == export_products(catalogue, tmp_path / "products.jsonl")

    assert stored(catalogue) == imported(tmp_path / "other", tmp_path / "products.jsonl")
    assert ["sofa", "bed", "chair"] == [decode_record(record)["product_id"] for record in stored(catalogue)]


values = st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
products = st.fixed_dictionaries(
    {"product_id": st.text(min_size=1, max_size=20)},
    optional={
        "title": st.text(),
        "price": st.floats(allow_nan=False, allow_infinity=False),
        "created_at": st.datetimes(timezones=st.just(UTC)),
        "attributes": st.dictionaries(st.text(), values),
        "image_vectors": st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=3)),
    },
)


@settings(max_examples=25)
@given(st.lists(products, unique_by=lambda product: product["product_id"], max_size=4))
def test_any_products_survive(tmp_path_factory: pytest.TempPathFactory, some: list[dict[str, Any]]) -> None:
    """Any text, any float, any moment."""
    folder = tmp_path_factory.mktemp("transfer")
    with Catalogue.create(folder / "one") as catalogue:
        catalogue.put_products(some)
        export_products(catalogue, folder / "products.jsonl")

        assert stored(catalogue) == imported(folder / "two", folder / "products.jsonl")


def test_an_export_that_was_cut_off_goes_on(catalogue: Catalogue, tmp_path: Path) -> None:
    """Behind its last whole line, though that product has been deleted since; half a line is written anew."""
    catalogue.put_products({"product_id": f"p{i}", "title": "x" * i} for i in range(5))
    export_products(catalogue, tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "products.jsonl.part").write_bytes(b"".join(lines[:3]) + lines[3][:-5])
    catalogue.write([Delete("p2"), Delete("p4")])

    assert 4 == export_products(catalogue, tmp_path / "products.jsonl")

    assert lines[:4] == (tmp_path / "products.jsonl").read_bytes().splitlines(keepends=True)
    assert not (tmp_path / "products.jsonl.part").exists()


def test_a_part_of_another_catalogue_is_not_gone_on_with(catalogue: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "products.jsonl.part").write_text('{"product_id":"foreign"}\n')

    with pytest.raises(CatalogueError, match=r"products\.jsonl\.part is of another catalogue"):
        export_products(catalogue, tmp_path / "products.jsonl")


def test_importing_again_writes_nothing(catalogue: Catalogue, tmp_path: Path) -> None:
    """So a broken import is simply run again."""
    catalogue.put_products([SOFA])
    export_products(catalogue, tmp_path / "products.jsonl")

    assert 1 == import_products(catalogue, tmp_path / "products.jsonl")
    assert 1 == catalogue.sequence


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "line 2 is no product"),
        (b"[]", "line 2 is no JSON object"),
        (b'{"product_id":""}', "1 to 128"),
        (b'{"product_id":"a","created_at":"yesterday"}', "line 2 is no product"),
    ],
)
def test_a_wrong_line_is_named(catalogue: Catalogue, tmp_path: Path, line: bytes, says: str) -> None:
    """Its group is not stored; the ones before it are."""
    (tmp_path / "products.jsonl").write_bytes(b'{"product_id":"a"}\n' + line + b"\n")

    with pytest.raises(CatalogueError, match=says):
        import_products(catalogue, tmp_path / "products.jsonl")
    assert 0 == catalogue.count


def test_a_file_that_is_not_there_is_said(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="cannot read"):
        import_products(catalogue, tmp_path / "nowhere.jsonl")


def test_progress_ends_at_its_total(catalogue: Catalogue, tmp_path: Path) -> None:
    """Numbers on the way out, bytes on the way in."""
    catalogue.put_products({"product_id": f"p{i}"} for i in range(1_500))
    out: list[tuple[int, int]] = []
    export_products(catalogue, tmp_path / "products.jsonl", progress=lambda *told: out.append(told))
    size = (tmp_path / "products.jsonl").stat().st_size
    back: list[tuple[int, int]] = []
    import_products(catalogue, tmp_path / "products.jsonl", progress=lambda *told: back.append(told))

    assert [(1_000, 1_500), (1_500, 1_500)] == out
    assert (2, (size, size)) == (len(back), back[-1])
