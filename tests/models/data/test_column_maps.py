"""Column maps: what each key does, and the maps in docs/maps on the files they are for."""

import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.importers import import_table
from models.data.mapping import BadValueError, TableMap, load_maps
from models.data.schema import Dataset
from models.data.weak import weak_pairs
from models.errors import DataError

MAPS = Path(__file__).parents[3] / "docs/maps"


def converted(theirs: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """One product through a map of these keys."""
    return TableMap(table="products", **keys).convert({"product_id": "1", "title": "t"} | theirs)


# Templates


def test_a_template_puts_columns_together() -> None:
    columns = {"product_id": "{shop}:{sku}", "description": "{lead}\n{more text}"}

    row = converted({"shop": "us", "sku": 7.0, "lead": "Soft.", "more text": "Warm."}, columns=columns)

    assert ("us:7", "Soft.\nWarm.") == (row["product_id"], row["description"])


@pytest.mark.parametrize(
    ("values", "description"),
    [({"lead": "Soft.", "more": None}, "Soft."), ({"more": "Warm."}, "Warm."), ({"lead": "", "more": " "}, None)],
)
def test_an_empty_part_leaves_nothing(values: dict[str, Any], description: str | None) -> None:
    """A text of two columns needs neither."""
    assert description == converted(values, columns={"description": "{lead}\n{more}"})["description"]


@pytest.mark.parametrize("values", [{"sku": "7"}, {"shop": "", "sku": "7"}])
def test_a_required_column_needs_every_part(values: dict[str, Any]) -> None:
    """An id without its shop would be another product's."""
    with pytest.raises(BadValueError, match="shop is empty"):
        converted(values, columns={"product_id": "{shop}:{sku}"})


@settings(deadline=None)
@given(
    st.tuples(st.sampled_from("ab"), st.text("abc:", min_size=1)),
    st.tuples(st.sampled_from("ab"), st.text("abc:", min_size=1)),
)
def test_ids_of_a_fixed_width_prefix_are_unambiguous(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Two pairs give one id only where they are equal."""
    ids = [
        converted({"shop": shop, "sku": sku}, columns={"product_id": "{shop}:{sku}"})["product_id"]
        for shop, sku in (one, other)
    ]

    assert (one == other) == (ids[0] == ids[1])


# Values, lists, markup


def test_values_are_translated() -> None:
    """A number in the file is looked up as its text."""
    keys = {"columns": {"country": "shop"}, "values": {"country": {"1": "US", "2": "ES"}}}

    assert ["US", "ES", None] == [converted({"shop": shop}, **keys)["country"] for shop in ("1", 2, None)]


def test_an_unknown_value_is_bad() -> None:
    """The known ones are said, ten of them at most."""
    with pytest.raises(BadValueError, match=r"^country='x': expected one of 0, 1, .* 9, \.\.\.$"):
        converted({"country": "x"}, values={"country": {str(n): "US" for n in range(11)}})


def test_a_default_is_not_translated() -> None:
    """It is a value of ours already."""
    row = converted({}, values={"country": {"1": "US"}}, defaults={"country": "ES"})

    assert "ES" == row["country"]


def test_lists_are_split() -> None:
    """As attributes they read "a, b"; as a category they are the path from the root."""
    row = converted(
        {"tags": "boho | summer || midi ", "path": "Shoes / Boots"},
        columns={"category": "path"},
        attributes=("tags",),
        lists={"tags": "|", "path": " / "},
    )

    assert ([("tags", "boho, summer, midi")], "Shoes > Boots") == (row["attributes"], row["category"])


def test_markup_is_removed_where_the_map_says_so() -> None:
    """Tags and entities go, lines stay; without the key the text is as it came."""
    text = "<p>Red &amp; <B>soft</B></p>&lt;br&gt;<!-- old -->\nfits < 5 cm"

    assert "Red & soft\nfits < 5 cm" == converted({"description": text}, html=("description",))["description"]
    assert text == converted({"description": text})["description"]


def test_missing_attributes_are_left_out() -> None:
    """No attribute reads "None"."""
    assert [("a", "x")] == converted({"a": "x", "b": None}, attributes=("?",))["attributes"]


# Files


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


PAIRS = """
[products]
repeats = {repeats}

[judgements]
columns = {{ rating = "label" }}
values.rating = {{ good = 3, bad = 0 }}
"""


def test_one_file_may_hold_products_and_judgements(tmp_path: Path) -> None:
    """A product's later rows are passed over, whatever their text; each row is a rating."""
    (tmp_path / "map.toml").write_text(PAIRS.format(repeats="true"))
    src = lines(
        tmp_path / "pairs.jsonl",
        {"query": "sofa", "product_id": 1, "title": "first", "label": "good"},
        {"query": "bed", "product_id": 1, "title": "second", "label": "bad"},
    )

    report = import_table(src, tmp_path / "d", column_map=tmp_path / "map.toml")

    dataset = Dataset.open(tmp_path / "d")
    assert [("1", "first")] == dataset.products(["product_id", "title"]).rows()
    assert [("sofa", None, "1", 3, None), ("bed", None, "1", 0, None)] == dataset.judgements().rows()
    assert (0, 1) == (report.bad_count, report.passed_over)


def test_a_repeat_is_bad_where_the_map_does_not_expect_it(tmp_path: Path) -> None:
    (tmp_path / "map.toml").write_text(PAIRS.format(repeats="false"))
    src = lines(tmp_path / "pairs.jsonl", *[{"query": "sofa", "product_id": 1, "title": "t", "label": "good"}] * 2)

    with pytest.raises(DataError, match="product_id='1' came before"):
        import_table(src, tmp_path / "d", column_map=tmp_path / "map.toml")


def test_the_file_that_is_named_is_read(tmp_path: Path) -> None:
    """The map's file name serves a folder; a file on the command line wins over it."""
    (tmp_path / "map.toml").write_text('[products]\nfile = "usual.jsonl"')
    lines(tmp_path / "usual.jsonl", {"product_id": 1, "title": "usual"})
    lines(tmp_path / "other.jsonl", {"product_id": 1, "title": "other"})

    titles = []
    for src in (tmp_path, tmp_path / "other.jsonl"):
        import_table(src, tmp_path / "d", column_map=tmp_path / "map.toml")
        titles += Dataset.open(tmp_path / "d").products()["title"].to_list()

    assert ["usual", "other"] == titles


def test_a_delimiter_is_named_where_the_name_does_not_say_it(tmp_path: Path) -> None:
    """Semicolons, as spreadsheets write them in much of Europe."""
    (tmp_path / "map.toml").write_text('[products]\ndelimiter = ";"')
    (tmp_path / "p.csv").write_text('product_id;title\n1;"sofa; red"\n')

    import_table(tmp_path / "p.csv", tmp_path / "d", column_map=tmp_path / "map.toml")

    assert [("1", "sofa; red")] == Dataset.open(tmp_path / "d").products(["product_id", "title"]).rows()


@pytest.mark.parametrize(("name", "refused"), [("p.csv", True), ("p.parquet", True), ("p.jsonl", False)])
def test_a_column_of_the_map_must_be_there_where_rows_have_all_columns(
    tmp_path: Path, name: str, refused: bool
) -> None:
    """A misspelt optional column is an error in CSV and Parquet; JSON lines may leave columns out."""
    (tmp_path / "map.toml").write_text('[products]\ncolumns = { brand = "makr" }')
    frame = pl.DataFrame({"product_id": ["1"], "title": ["t"], "maker": ["Acme"]})
    writers = {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}
    writers[Path(name).suffix](tmp_path / name)

    def import_it() -> Any:
        return import_table(tmp_path / name, tmp_path / "d", column_map=tmp_path / "map.toml")

    if refused:
        with pytest.raises(DataError, match="found product_id, title, maker; missing makr"):
            import_it()
    else:
        assert 1 == import_it().manifest.counts["products"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("delimiter = ';;'", "products.delimiter must be one character, found ';;'"),
        ("repeats = 1", "products.repeats must be true or false, found 1"),
        ("html = 'description'", "products.html must be a list, found 'description'"),
        ("html = ['body']", r"unknown keys \['products.html.body'\]"),
        ("columns = { title = ['a', 'b'] }", r"products.columns.title must be a text, found \['a', 'b'\]"),
        ("values = { land = {} }", r"unknown keys \['products.values.land'\]"),
        ("values = { country = 'US' }", "products.values.country must be a table, found 'US'"),
        ("lists = { tags = '' }", "products.lists names a separator of no characters"),
        ("scale = { price = 'cents' }", "products.scale.price must be a number, found 'cents'"),
        ("[judgements]\nrepeats = true", r"judgements.repeats is set; only \[products\] are kept once"),
    ],
)
def test_a_wrong_map_is_refused_before_any_row_is_read(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "map.toml").write_text(f"[products]\n{text}")

    with pytest.raises(DataError, match=message):
        load_maps(tmp_path / "map.toml")


# The maps in docs/maps


@pytest.mark.parametrize("path", sorted(MAPS.glob("*.toml")), ids=lambda path: path.name)
def test_every_map_is_readable(path: Path) -> None:
    maps, about = load_maps(path)

    assert "products" in maps
    assert {"source", "licence"} <= about.keys()


@pytest.fixture
def real_data() -> Path:
    if "Q2S_TEST_DATA" not in os.environ:
        pytest.skip("Q2S_TEST_DATA names no folder of real data")
    return Path(os.environ["Q2S_TEST_DATA"])


@pytest.mark.parametrize("name", ["", "pairs_dev.jsonl.gz"], ids=["folder", "file"])
def test_real_esci_pairs_give_products_and_judgements(real_data: Path, tmp_path: Path, name: str) -> None:
    """1,588 ratings of 1,587 products in three marketplaces; 1,026 of them exact."""
    report = import_table(real_data / "esci" / name, tmp_path / "d", column_map=MAPS / "esci_pairs.toml")

    dataset = Dataset.open(tmp_path / "d")
    products, ratings = dataset.products(), dataset.judgements()["rating"]
    assert ({"products": 1587, "judgements": 1588}, 0, 1) == (
        report.manifest.counts,
        report.bad_count,
        report.passed_over,
    )
    assert {"US", "ES", "JP"} == set(products["country"])
    assert products["product_id"].str.contains("^(us|es|jp):").all()
    assert [797 + 121 + 108, 213 + 80 + 56] == [(ratings == rating).sum() for rating in (3, 1)]
    assert not products["description"].drop_nulls().str.contains("(?i)<br|<p>|</").any()


@pytest.mark.parametrize("name", ["", "data/products.parquet"], ids=["folder", "file"])
def test_real_fashion_has_tags_and_categories_to_ask_for(real_data: Path, tmp_path: Path, name: str) -> None:
    """Tags are told apart, so that weak queries can use them; categories are paths."""
    report = import_table(real_data / "livostyle" / name, tmp_path / "d", column_map=MAPS / "livostyle.toml")

    products = Dataset.open(tmp_path / "d").products()
    tags = [attributes["tags"].split(", ") for attributes in products["attributes"] if "tags" in attributes]
    queries = set(weak_pairs(products, seed=0)["query"])
    assert (2766, 0) == (report.manifest.counts["products"], report.bad_count)
    assert sum("summer" in each for each in tags) > 100
    assert products["category"].drop_nulls().str.contains(" > ").all()
    assert {"dresses", "sandals"} <= queries
