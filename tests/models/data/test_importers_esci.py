"""The Shopping Queries Dataset: small files of its published schema, and what comes of them."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from models.data.importers import import_esci
from models.data.schema import RELEVANT, Dataset
from models.errors import DataError

PRODUCTS = "shopping_queries_dataset_products.parquet"
EXAMPLES = "shopping_queries_dataset_examples.parquet"


def product(locale: str, id_: str, **others: Any) -> dict[str, Any]:
    return {
        "product_id": id_,
        "product_title": f"{locale} {id_}",
        "product_description": None,
        "product_bullet_point": None,
        "product_brand": None,
        "product_color": None,
        "product_locale": locale,
    } | others


def example(locale: str, query: str, id_: str, label: str, **others: Any) -> dict[str, Any]:
    return {
        "example_id": 0,
        "query": query,
        "query_id": 0,
        "product_id": id_,
        "product_locale": locale,
        "esci_label": label,
        "small_version": 0,
        "large_version": 1,
        "split": "train",
    } | others


def folder(path: Path, products: list[dict[str, Any]], examples: list[dict[str, Any]]) -> Path:
    path.mkdir()
    pl.DataFrame(products, infer_schema_length=None).write_parquet(path / PRODUCTS)
    pl.DataFrame(examples, infer_schema_length=None).write_parquet(path / EXAMPLES)
    return path


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """B1 is sold in three marketplaces; the small version rates B1 in the US, for training, and B2, for the test."""
    return folder(
        tmp_path / "src",
        [
            product("us", "B1", product_bullet_point="Soft & warm", product_brand="Acme", product_color="Red"),
            product("us", "B2", product_description="<b>Width</b>: < 5&nbsp;mm<br>flat"),
            product("us", "B3"),
            product("es", "B1"),
            product("jp", "B1"),
        ],
        [
            example("us", "scarf", "B1", "E", small_version=1),
            example("us", "scarf", "B2", "S", small_version=1, split="test"),
            example("us", "scarf", "B3", "C", split="test"),
            example("es", "bufanda", "B1", "I", split="test"),
            example("jp", "マフラー", "B1", "E"),
        ],
    )


def test_one_id_in_three_marketplaces_is_three_products(src: Path, tmp_path: Path) -> None:
    """The locale stands before the id and says country and language."""
    report = import_esci(src, tmp_path / "d")

    products = Dataset.open(tmp_path / "d").products(["product_id", "title", "country", "language"])
    assert [
        ("us:B1", "us B1", "US", "en"),
        ("us:B2", "us B2", "US", "en"),
        ("us:B3", "us B3", "US", "en"),
        ("es:B1", "es B1", "ES", "es"),
        ("jp:B1", "jp B1", "JP", "ja"),
    ] == products.rows()
    assert ({"products": 5, "judgements": 5}, 0, 0) == (report.manifest.counts, report.bad_count, report.passed_over)


def test_labels_become_ratings(src: Path, tmp_path: Path) -> None:
    """Exact alone is relevant; a substitute is a near miss; complement and irrelevant are neither."""
    import_esci(src, tmp_path / "d")

    judgements = Dataset.open(tmp_path / "d").judgements()
    assert [
        ("scarf", "US", "us:B1", 3, "en"),
        ("scarf", "US", "us:B2", 1, "en"),
        ("scarf", "US", "us:B3", 0, "en"),
        ("bufanda", "ES", "es:B1", 0, "es"),
        ("マフラー", "JP", "jp:B1", 3, "ja"),
    ] == judgements.rows()
    assert ["us:B1", "jp:B1"] == judgements.filter(pl.col("rating") >= RELEVANT)["product_id"].to_list()


def test_bullets_come_before_the_description_and_markup_goes(src: Path, tmp_path: Path) -> None:
    """Missing texts stay missing; a sign that is no tag stays."""
    import_esci(src, tmp_path / "d")

    products = Dataset.open(tmp_path / "d").products()
    assert ["Soft & warm", "Width : < 5 mm flat", None, None, None] == products["description"].to_list()
    assert ("Acme", {"color": "Red"}) == products.select("brand", "attributes").row(0)


@pytest.mark.parametrize(
    ("choice", "products", "queries", "notes"),
    [
        ({"locale": "es"}, ["es:B1"], ["bufanda"], "locale: es; version: large; split: both"),
        ({"small": True}, ["us:B1", "us:B2"], ["scarf", "scarf"], "locale: all; version: small; split: both"),
        (
            {"small": True, "split": "test"},
            ["us:B1", "us:B2"],
            ["scarf"],
            "locale: all; version: small; split: test",
        ),
        (
            {"locale": "us", "split": "test"},
            ["us:B1", "us:B2", "us:B3"],
            ["scarf", "scarf"],
            "locale: us; version: large; split: test",
        ),
    ],
    ids=["locale", "small", "small test split", "locale and split"],
)
def test_a_part_can_be_chosen(
    src: Path, tmp_path: Path, choice: dict[str, Any], products: list[str], queries: list[str], notes: str
) -> None:
    """What is not asked for is passed over, not bad; a split has all the products; the manifest says the choice."""
    report = import_esci(src, tmp_path / "d", **choice)

    dataset = Dataset.open(tmp_path / "d")
    assert products == dataset.products()["product_id"].to_list()
    assert queries == dataset.judgements()["query"].to_list()
    assert 0 == report.bad_count
    assert 10 - len(products) - len(queries) == report.passed_over
    assert notes == report.manifest.notes


def test_one_of_a_choice_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A locale without a row gives no empty dataset."""
    src = folder(tmp_path / "src", [product("us", "B1")], [example("us", "scarf", "B1", "E")])

    with pytest.raises(DataError, match=f"{PRODUCTS}: none of its rows is asked for"):
        import_esci(src, tmp_path / "d", locale="jp")

    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"locale": "de"}, "locale='de': expected one of us, es, jp"),
        ({"split": "dev"}, "split='dev': expected one of train, test"),
    ],
)
def test_an_unknown_choice_is_refused(src: Path, tmp_path: Path, choice: dict[str, Any], message: str) -> None:
    """Before any file is read."""
    with pytest.raises(DataError, match=message):
        import_esci(src, tmp_path / "d", **choice)


@pytest.mark.parametrize("name", [PRODUCTS, EXAMPLES])
def test_a_missing_file_is_named(src: Path, tmp_path: Path, name: str) -> None:
    """Beside what the folder holds instead."""
    (src / name).rename(src / "other.parquet")

    with pytest.raises(DataError, match=rf"expected {name}; found other\.parquet, shopping"):
        import_esci(src, tmp_path / "d")


@pytest.mark.parametrize(
    ("name", "column"),
    [
        (PRODUCTS, "product_locale"),
        (PRODUCTS, "product_bullet_point"),
        (PRODUCTS, "product_color"),
        (EXAMPLES, "esci_label"),
        (EXAMPLES, "small_version"),
        (EXAMPLES, "split"),
    ],
)
@pytest.mark.parametrize("small", [False, True])
def test_a_missing_column_is_named(src: Path, tmp_path: Path, name: str, column: str, small: bool) -> None:
    """A file of another schema is not half read."""
    pl.read_parquet(src / name).drop(column).write_parquet(src / name)

    with pytest.raises(DataError, match=rf"{name}: expected columns .*; missing {column}$"):
        import_esci(src, tmp_path / "d", small=small)

    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (example("us", "scarf", "B1", "X"), "esci_label='X': expected one of E, S, C, I"),
        (example("us", "scarf", "B9", "E"), "product_id='us:B9' is not among the products"),
        (example("us", "", "B1", "E"), "query is empty"),
        (example("de", "Schal", "B1", "E"), "product_locale='de': expected one of us, es, jp"),
    ],
    ids=["label", "product", "query", "locale"],
)
def test_a_bad_rating_is_left_out_and_many_are_refused(tmp_path: Path, wrong: dict[str, Any], reason: str) -> None:
    """One of 21 is counted and listed; one of two is another file than was thought."""
    good = example("us", "scarf", "B1", "E")
    src = folder(tmp_path / "src", [product("us", "B1")], [*[good] * 20, wrong])

    report = import_esci(src, tmp_path / "d")

    assert (20, 1) == (report.manifest.counts["judgements"], report.bad_count)
    assert (EXAMPLES, 21, reason) == report.bad_rows[0]

    pl.DataFrame([good, wrong]).write_parquet(src / EXAMPLES)
    with pytest.raises(DataError, match="1 of 2 rows are bad"):
        import_esci(src, tmp_path / "d")


def test_rows_of_other_marketplaces_do_not_hide_bad_ones(tmp_path: Path) -> None:
    """The share of bad rows is of those asked for: one of two, whatever else the file holds."""
    others = [example("jp", "マフラー", "B1", "E")] * 100
    src = folder(
        tmp_path / "src",
        [product("us", "B1"), product("jp", "B1")],
        [*others, example("us", "scarf", "B1", "E"), example("us", "scarf", "B1", "?")],
    )

    with pytest.raises(DataError, match="1 of 2 rows are bad"):
        import_esci(src, tmp_path / "d", locale="us")
