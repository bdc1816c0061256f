"""Imports: what is taken in, what is left out and said, what is refused."""

import gzip
import json
import os
from pathlib import Path

import polars as pl
import pytest

from models.data.importers import import_chorus, import_table
from models.data.mapping import TableMap, load_maps
from models.data.rows import read_rows
from models.data.schema import Dataset
from models.errors import DataError

MAP = """
source = "my shop"
licence = "mine"

[products]
columns = { product_id = "sku", title = "name", price = "cents" }
attributes = ["attr_*"]
defaults = { language = "de", currency = "EUR" }
scale = { price = 0.01 }

[judgements]
file = "ratings.csv"
columns = { rating = "grade" }
"""


@pytest.fixture
def column_map(tmp_path: Path) -> Path:
    path = tmp_path / "map.toml"
    path.write_text(MAP)
    return path


def shop(folder: Path, rows: list[dict], ratings: str = "query,product_id,grade\nsofa,1,3\n") -> Path:
    """JSON lines of products beside a CSV of ratings."""
    folder.mkdir(exist_ok=True)
    (folder / "products.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "ratings.csv").write_text(ratings)
    return folder


def good_rows(count: int) -> list[dict]:
    return [{"sku": n, "name": f"sofa {n}", "cents": 1050, "attr_colour": "rot"} for n in range(count)]


def test_table_is_mapped(tmp_path: Path, column_map: Path) -> None:
    """Columns are renamed, prices scaled, patterns kept as attributes, gaps filled with the defaults."""
    report = import_table(shop(tmp_path / "src", good_rows(3)), tmp_path / "d", column_map=column_map)

    dataset = Dataset.open(tmp_path / "d")
    row = dataset.products().row(1, named=True)
    assert ("1", "sofa 1", 10.5, "de", "EUR") == tuple(
        row[name] for name in ("product_id", "title", "price", "language", "currency")
    )
    assert {"attr_colour": "rot"} == row["attributes"]
    assert [("sofa", None, "1", 3, None)] == dataset.judgements().rows()
    assert {"products": 3, "judgements": 1} == report.manifest.counts
    assert ("my shop", "mine", 0) == (report.manifest.source, report.manifest.licence, report.bad_count)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.ndjson", "t.csv.gz", "t.jsonl.gz", "t.parquet"])
def test_every_format_gives_the_same_dataset(tmp_path: Path, name: str) -> None:
    """CSV, JSON lines and Parquet, plain or in gzip."""
    frame = pl.DataFrame({"product_id": ["a", "b"], "title": ['a "quoted", ソファ', "two"], "price": [1.5, None]})
    path = tmp_path / name
    if ".parquet" in name:
        frame.write_parquet(path)
    else:
        separator = "\t" if ".tsv" in name else ","
        text = frame.write_ndjson() if "json" in name else frame.write_csv(separator=separator)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())

    import_table(path, tmp_path / "d")

    assert frame.equals(Dataset.open(tmp_path / "d").products(["product_id", "title", "price"]))


def test_folder_without_map_is_searched_by_name(tmp_path: Path) -> None:
    """products.*, events.* and judgements.* with our own column names need no map."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "products.csv").write_text("product_id,title\na,sofa\n")
    (tmp_path / "src" / "events.csv").write_text(
        "user,query,product_id,kind,time\nu,sofa,,search,2025-01-01T10:00:00Z\nu,sofa,a,click,1735725660\n"
    )

    import_table(tmp_path / "src", tmp_path / "d")

    events = Dataset.open(tmp_path / "d").events()
    assert [None, "a"] == events["product_id"].to_list()
    assert ["2025-01-01T10:00:00", "2025-01-01T10:01:00"] == events["time"].dt.strftime("%FT%T").to_list()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"sku": "x", "cents": 5}, "name is empty"),
        ({"sku": "", "name": "sofa"}, "sku is empty"),
        ({"sku": "x", "name": "sofa", "cents": "cheap"}, "cents='cheap': could not convert"),
        ({"sku": "x", "name": "sofa", "cents": "nan"}, "cents='nan': expected a finite number"),
        ({"sku": "1", "name": "sofa"}, "product_id='1' came before"),
        ({"sku": "x", "name": "sofa", "created_at": "yesterday"}, "created_at='yesterday'"),
        ({"sku": "x", "name": "sofa", "image_vectors": [[1.0], [1.0, 2.0]]}, "expected vectors of one length"),
        ({"sku": "x", "name": "sofa", "image_vectors": [[1.0]] * 6}, "expected at most 5 vectors"),
        ([1, 2], "expected a JSON object, found list"),
    ],
)
def test_bad_rows_are_counted_and_listed(tmp_path: Path, column_map: Path, row: dict, reason: str) -> None:
    """One bad row of 101 is left out, with its number and the reason."""
    report = import_table(shop(tmp_path / "src", [*good_rows(100), row]), tmp_path / "d", column_map=column_map)

    assert 100 == report.manifest.counts["products"]
    assert 1 == report.bad_count
    assert ("products.jsonl", 101) == report.bad_rows[0][:2]
    assert reason in report.bad_rows[0].reason


@pytest.mark.parametrize(
    ("rating", "reason"),
    [
        ("sofa,unknown,3", "is not among the products"),
        ("sofa,1,4", "expected 0 to 3"),
        ("sofa,1,2.5", "whole number"),
        ("sofa,1", "expected 3 fields"),
    ],
)
def test_bad_judgements_are_counted_too(tmp_path: Path, column_map: Path, rating: str, reason: str) -> None:
    """Ratings outside 0-3 and of unknown products are left out."""
    ratings = "query,product_id,grade\n" + "".join(f"sofa,{n},1\n" for n in range(100)) + rating + "\n"

    report = import_table(shop(tmp_path / "src", good_rows(100), ratings), tmp_path / "d", column_map=column_map)

    assert (100, 1) == (report.manifest.counts["judgements"], report.bad_count)
    assert reason in report.bad_rows[0].reason


def test_too_many_bad_rows_are_fatal(tmp_path: Path, column_map: Path) -> None:
    """Above 5 % the file is refused with examples, and no dataset appears."""
    rows = [*good_rows(90), *[{"sku": "x", "name": ""}] * 10]

    with pytest.raises(DataError, match=r"10 of 100 rows are bad, more than 5%; row 91: name is empty"):
        import_table(shop(tmp_path / "src", rows), tmp_path / "d", column_map=column_map)

    assert not (tmp_path / "d").exists()


def test_threshold_can_be_raised(tmp_path: Path, column_map: Path) -> None:
    """Whoever knows a file to be dirty may say so."""
    rows = [*good_rows(90), *[{"sku": "x", "name": ""}] * 10]

    report = import_table(shop(tmp_path / "src", rows), tmp_path / "d", column_map=column_map, max_bad_share=0.2)

    assert (90, 10) == (report.manifest.counts["products"], report.bad_count)


def test_wrong_columns_say_expected_and_found(tmp_path: Path, column_map: Path) -> None:
    """The needed columns of the map, and those of the file."""
    with pytest.raises(DataError, match="expected columns sku, name; found id, title"):
        import_table(shop(tmp_path / "src", [{"id": 1, "title": "sofa"}]), tmp_path / "d", column_map=column_map)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xlsx", b"PK", "expected a name that ends in one of"),
        ("t.parquet", b"no parquet", "is not a parquet file"),
        ("t.jsonl.gz", b"no gzip", "is not a whole gzip file"),
        ("t.csv", b"product_id,title\n1,\xff\xfe\n", "expected UTF-8 text"),
        ("t.jsonl", b"", "found an empty file"),
        ("t.jsonl", b"<html>\n", "1 of 1 rows are bad"),
    ],
)
def test_wrong_files_say_what_was_expected(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """A file that is not what its name says gives one clear error."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError, match=message):
        import_table(tmp_path / name, tmp_path / "d")


def test_missing_file_names_what_is_there(tmp_path: Path, column_map: Path) -> None:
    """The folder's own files are listed."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "readme.txt").touch()

    with pytest.raises(DataError, match=r"expected products\.csv .*found readme\.txt"):
        import_table(tmp_path / "src", tmp_path / "d", column_map=column_map)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[products]\ncolumn = {}", r"unknown keys \['products.column'\]"),
        ("[product]\n", r"unknown keys \['product'\]"),
        ("[products.columns]\nname = 'x'", r"unknown keys \['products.columns.name'\]"),
        ("[events]\n", r"expected a table \[products\]"),
        ("products = 3", "must be a table"),
        ("[products", "cannot read the column map"),
    ],
)
def test_bad_maps_name_the_key(tmp_path: Path, text: str, message: str) -> None:
    """A typo in the map is said before any row is read."""
    path = tmp_path / "map.toml"
    path.write_text(text)

    with pytest.raises(DataError, match=message):
        load_maps(path)


def test_flags_and_numbers_become_attribute_texts() -> None:
    """True, 2.0 and lists are written as people read them; empty ones are left out."""
    mapping = TableMap(table="products", attributes=("a_*",))

    row = mapping.convert({"product_id": 1, "title": "t", "a_x": True, "a_y": 2.0, "a_z": ["u", "v"], "a_w": ""})

    assert [("a_x", "true"), ("a_y", "2"), ("a_z", "u, v")] == row["attributes"]


def test_rows_are_numbered_without_the_header(tmp_path: Path) -> None:
    """Row 1 is the first row of data."""
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n")

    assert [(1, {"a": "1", "b": "2"}), (2, None)] == [row[:2] for row in read_rows(tmp_path / "t.csv")]


def chorus_folder(path: Path) -> Path:
    path.mkdir()
    product = {
        "id": "7",
        "title": "Acme BT1 speaker",
        "supplier": "Acme",
        "short_description": "Loud",
        "price": 4995,
        "date_released": "2009-12-10T00:00:00Z",
        "attr_t_product_type": "Speaker",
        "attr_b_bluetooth": True,
    }
    (path / "products.jsonl.gz").write_bytes(gzip.compress(json.dumps(product).encode()))
    (path / "judgements_dev.csv").write_text("query,product_id,rating\nspeaker,7,3\n")
    return path


def test_chorus_layout_is_mapped(tmp_path: Path) -> None:
    """Supplier is the brand, the product type the category, cents become units, attributes lose their prefix."""
    import_chorus(chorus_folder(tmp_path / "src"), tmp_path / "d")

    dataset = Dataset.open(tmp_path / "d")
    row = dataset.products().row(0, named=True)
    assert ("Acme", "Speaker", 49.95, "en", None) == tuple(
        row[name] for name in ("brand", "category", "price", "language", "country")
    )
    assert {"product_type": "Speaker", "bluetooth": "true"} == row["attributes"]
    assert [("speaker", None, "7", 3, "en")] == dataset.judgements().rows()


def test_chorus_folder_without_judgements_is_refused(tmp_path: Path) -> None:
    """The message names the pattern and what is there."""
    src = chorus_folder(tmp_path / "src")
    (src / "judgements_dev.csv").unlink()

    with pytest.raises(DataError, match=r"expected judgements\*\.csv; found products\.jsonl\.gz"):
        import_chorus(src, tmp_path / "d")


@pytest.fixture
def real_data() -> Path:
    if "Q2S_TEST_DATA" not in os.environ:
        pytest.skip("Q2S_TEST_DATA names no folder of real data")
    return Path(os.environ["Q2S_TEST_DATA"])


def test_real_chorus_is_imported_whole(real_data: Path, tmp_path: Path) -> None:
    """All 19,406 products and every rating, without a bad row."""
    report = import_chorus(real_data / "chorus", tmp_path / "d")

    assert 19_406 == report.manifest.counts["products"]
    assert report.manifest.counts["judgements"] >= 2_632
    assert 0 == report.bad_count


def test_real_fashion_catalogue_is_imported_with_a_map(real_data: Path, tmp_path: Path) -> None:
    """A Parquet file of other columns becomes a dataset; its categories come along."""
    path = tmp_path / "map.toml"
    path.write_text(
        "[products]\nattributes = ['product_type']\n"
        "columns = { product_id = 'id', category = 'category_full_path', price = 'price_min_usd' }\n"
    )

    import_table(real_data / "livostyle" / "data" / "products.parquet", tmp_path / "d", column_map=path)

    products = Dataset.open(tmp_path / "d").products(["category", "price"])
    assert products.height > 2_700
    assert products["category"].str.contains("Shoes").any()
