"""WANDS: small files of its published schema, and what comes of them."""

from pathlib import Path

import pytest

from models.data.importers import import_wands
from models.data.schema import Dataset
from models.errors import DataError

PRODUCTS = (
    "product_id\tproduct_name\tproduct_class\tcategory hierarchy\tproduct_description\tproduct_features"
    "\trating_count\taverage_rating\treview_count\n"
    "0\tsolid wood platform bed\tBeds\tFurniture / Bedroom Furniture / Beds & Headboards / Beds\tgood , deep sleep"
    "\toverallwidth-sidetoside:64.7|color : gray|color : oak| : nameless|material :\t15.0\t4.5\t15.0\n"
    '1\t"fletcher 27.5 \'\' wide ""club"" armchair"\tTeen Lounge Furniture|Accent Chairs\t\t\t\t\t\t\n'
)
QUERIES = "query_id\tquery\tquery_class\n0\tsalon chair\tMassage Chairs\n7\tplatform bed\tBeds\n"
LABELS = "id\tquery_id\tproduct_id\tlabel\n0\t7\t0\tExact\n1\t0\t1\tPartial\n2\t0\t0\tIrrelevant\n"


@pytest.fixture
def src(tmp_path: Path) -> Path:
    path = tmp_path / "src"
    path.mkdir()
    (path / "product.csv").write_text(PRODUCTS)
    (path / "query.csv").write_text(QUERIES)
    (path / "label.csv").write_text(LABELS)
    return path


def test_products_have_their_place_in_the_hierarchy(src: Path, tmp_path: Path) -> None:
    """The path from the root; a product outside the hierarchy is of the category of its first class."""
    import_wands(src, tmp_path / "d")

    rows = Dataset.open(tmp_path / "d").products(["product_id", "title", "category", "description", "language"]).rows()
    assert [
        (
            "0",
            "solid wood platform bed",
            "Furniture > Bedroom Furniture > Beds & Headboards > Beds",
            "good , deep sleep",
            "en",
        ),
        ("1", "fletcher 27.5 '' wide \"club\" armchair", "Teen Lounge Furniture", None, "en"),
    ] == rows


def test_features_and_stars_become_attributes(src: Path, tmp_path: Path) -> None:
    """A feature that comes twice has both values; one without a name or a value is none."""
    import_wands(src, tmp_path / "d")

    first, second = Dataset.open(tmp_path / "d").products()["attributes"].to_list()
    assert {
        "product_type": "Beds",
        "overallwidth-sidetoside": "64.7",
        "color": "gray, oak",
        "rating_count": "15.0",
        "average_rating": "4.5",
        "review_count": "15.0",
    } == first
    assert {"product_type": "Teen Lounge Furniture, Accent Chairs"} == second


def test_labels_become_ratings_of_the_query_text(src: Path, tmp_path: Path) -> None:
    """Exact alone is relevant; Partial is a near miss."""
    report = import_wands(src, tmp_path / "d")

    assert [
        ("platform bed", None, "0", 3, "en"),
        ("salon chair", None, "1", 1, "en"),
        ("salon chair", None, "0", 0, "en"),
    ] == Dataset.open(tmp_path / "d").judgements().rows()
    assert ({"products": 2, "judgements": 3}, 0) == (report.manifest.counts, report.bad_count)
    assert ("WANDS (Wayfair)", "MIT") == (report.manifest.source, report.manifest.licence)


@pytest.mark.parametrize("name", ["product.csv", "query.csv", "label.csv"])
def test_a_missing_file_is_named(src: Path, tmp_path: Path, name: str) -> None:
    """Beside what the folder holds."""
    (src / name).unlink()

    with pytest.raises(DataError, match=rf"expected {name}; found (label|product)\.csv, "):
        import_wands(src, tmp_path / "d")


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("product.csv", "product_name"),
        ("product.csv", "category hierarchy"),
        ("product.csv", "product_features"),
        ("query.csv", "query_id"),
        ("label.csv", "label"),
    ],
)
def test_a_missing_column_is_named(src: Path, tmp_path: Path, name: str, column: str) -> None:
    """A file of another schema is not half read."""
    (src / name).write_text((src / name).read_text().replace(column, "other", 1))

    with pytest.raises(DataError, match=rf"{name}: expected columns .*; missing {column}"):
        import_wands(src, tmp_path / "d")


def test_commas_are_not_tabs(src: Path, tmp_path: Path) -> None:
    """A file that someone saved with commas has one column in our eyes."""
    (src / "label.csv").write_text(LABELS.replace("\t", ","))

    with pytest.raises(DataError, match="found id,query_id,product_id,label; missing query_id"):
        import_wands(src, tmp_path / "d")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("9\t7\t0\tPerfect\n", "label='Perfect': expected one of Exact, Partial, Irrelevant"),
        ("9\t8\t0\tExact\n", "query_id='8': expected one of 0, 7"),
        ("9\t7\t5\tExact\n", "product_id='5' is not among the products"),
    ],
    ids=["label", "query", "product"],
)
def test_a_bad_label_is_left_out_and_many_are_refused(src: Path, tmp_path: Path, row: str, reason: str) -> None:
    """One of 31 is counted and listed; one of two is another file than was thought."""
    header, *rows = LABELS.splitlines(keepends=True)
    (src / "label.csv").write_text(header + "".join(rows * 10) + row)

    report = import_wands(src, tmp_path / "d")

    assert (30, 1) == (report.manifest.counts["judgements"], report.bad_count)
    assert ("label.csv", 31, reason) == report.bad_rows[0]

    (src / "label.csv").write_text(header + rows[0] + row)
    with pytest.raises(DataError, match=r"1 of 2 rows are bad, more than 5%; row 2: "):
        import_wands(src, tmp_path / "d")
