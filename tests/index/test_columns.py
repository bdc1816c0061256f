"""Filter columns: what each row holds, as ranks of sorted values, written once and mapped."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.columns import Column, Columns
from index.conditions import Op
from index.errors import FilterError, IndexFileError, SpecError
from index.fields import BUILT_IN, Field, fold, moment, path_key

RECORDS: list[dict[str, Any]] = [
    {"product_id": "a", "category": "Fashion > Shoes", "country": "GB", "price": 20, "seller_id": "S1"},
    {"product_id": "b", "category": "fashion>bags", "country": "gb", "price": 5.5},
    {"product_id": "c", "category": "Home", "country": "FR", "price": 20.0, "attributes": {"colour": "Red"}},
    {"product_id": "d"},
]


def columns_of(folder: Path, records: list[dict[str, Any]], *attributes: str) -> Columns:
    Columns.write(folder, iter(records), attributes=attributes)
    return Columns.open(folder, count=len(records))


def rows(columns: Columns, name: str, op: Op, value: str | float) -> list[int]:
    """The rows whose value has one of the allowed ranks."""
    column = columns.columns[name]
    low, high = column.allowed(op, column.field.bounds(value))
    return [row for row, rank in enumerate(column.ranks.tolist()) if low <= rank < high]


def test_ranks_say_which_of_the_sorted_values_a_row_holds(tmp_path: Path) -> None:
    """Prices 5.5 and 20, country FR before GB; the last product has neither, which is the rank after the last."""
    columns = columns_of(tmp_path, RECORDS)

    assert [1, 0, 1, 2] == columns.columns["price"].ranks.tolist()
    assert [5.5, 20.0] == list(columns.columns["price"].keys)
    assert [1, 1, 0, 2] == columns.columns["country"].ranks.tolist()
    assert [field.name for field in BUILT_IN] == list(columns.columns)


def test_text_compares_folded_and_is_shown_as_first_spelt(tmp_path: Path) -> None:
    """GB and gb are one value; so are full width letters, a sharp s and blanks more or less."""
    country = columns_of(tmp_path, RECORDS).columns["country"]

    assert (["fr", "gb"], ["FR", "GB"]) == (country.keys, country.shown)
    assert "strasse 5" == fold("  ＳＴＲＡＳＳＥ\t5 ") == fold("Straße 5")


def test_a_category_equals_all_below_it(tmp_path: Path) -> None:
    """Fashion is shoes and bags, however its parts are spelt; half a part is none."""
    columns = columns_of(tmp_path, [*RECORDS, {"category": "Fashion accessories"}, {"category": "Fashion"}])

    assert [0, 1, 5] == rows(columns, "category", "=", "FASHION")
    assert [0] == rows(columns, "category", "=", "Fashion>Shoes")
    assert [] == rows(columns, "category", "=", "Fash")


def test_numbers_compare_as_numbers(tmp_path: Path) -> None:
    """Of 20, 5.5, 20 and none."""
    columns = columns_of(tmp_path, RECORDS)

    found = {op: rows(columns, "price", op, 20.0) for op in ("=", "<", "<=", ">", ">=")}
    assert {"=": [0, 2], "<": [1], "<=": [0, 1, 2], ">": [], ">=": [0, 2]} == found
    assert [0, 2] == rows(columns, "price", ">", 5.500001)


def test_a_date_is_the_whole_day_and_a_time_is_a_moment(tmp_path: Path) -> None:
    """The last moment of the 1st, noon of the 2nd, and midnight in Berlin, which is the 2nd at 23:00 UTC."""
    times = [
        datetime(2024, 5, 1, 23, 59, 59, 999_999, tzinfo=UTC),
        "2024-05-02T12:00:00Z",
        datetime(2024, 5, 3, tzinfo=timezone(timedelta(hours=1))),
        None,
    ]
    columns = columns_of(tmp_path, [{"created_at": time} for time in times])

    assert [1, 2] == rows(columns, "created_at", "=", "2024-05-02")
    assert [1, 2] == rows(columns, "created_at", ">", "2024-05-01")
    assert [0, 1, 2] == rows(columns, "created_at", "<=", "2024-05-02")
    assert [0] == rows(columns, "created_at", "<", "2024-05-02T12:00")
    assert [2] == rows(columns, "created_at", ">", "2024-05-02T14:00:00+02:00")
    assert 1_000_000 == moment("1970-01-01T00:00:01")


def test_a_declared_attribute_is_a_field(tmp_path: Path) -> None:
    """Others are left out."""
    records = [*RECORDS, {"attributes": {"colour": "red", "size": "M"}}, {"attributes": ["colour"]}]
    columns = columns_of(tmp_path, records, "colour")

    assert [2, 4] == rows(columns, "colour", "=", "RED")
    assert "size" not in columns.columns


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["price"], "'price' is a field already"),
        (["colour", "colour"], "'colour' is a field already"),
        ([" colour"], "attribute ' colour' must have 1 to 64 characters"),
        ([""], "attribute '' must have"),
        (["x" * 65], "must have 1 to 64"),
    ],
)
def test_an_attribute_that_cannot_be_a_field_is_refused(names: list[str], message: str, tmp_path: Path) -> None:
    """Before anything is written."""
    with pytest.raises(SpecError, match=message):
        Columns.write(tmp_path / "columns", [], attributes=names)

    assert not (tmp_path / "columns").exists()


def test_what_is_of_another_kind_is_missing(tmp_path: Path) -> None:
    """No price is text or infinite, no country is a number, nothing is blank, and no time is a word."""
    odd = {"price": "20", "country": 7, "brand": " ", "category": " > ", "created_at": "soon", "attributes": None}
    columns = columns_of(tmp_path, [odd, {"price": float("nan")}, {"price": float("inf")}], "colour")

    for column in columns.columns.values():
        assert [0, 0, 0] == column.ranks.tolist()
        assert 0 == len(column.keys)


def test_an_empty_catalogue_has_columns_too(tmp_path: Path) -> None:
    """Of no rows and no values."""
    assert [] == rows(columns_of(tmp_path, []), "price", ">=", 0.0)


@pytest.mark.parametrize(("count", "size"), [(255, 1), (256, 2)])
def test_ranks_take_the_least_bytes(count: int, size: int, tmp_path: Path) -> None:
    """255 values and the rank of none fit in a byte; 256 do not."""
    columns = columns_of(tmp_path, [{"brand": f"b{n}"} for n in range(count)] + [{}])

    brand = columns.columns["brand"]
    assert size == brand.ranks.itemsize
    assert count == brand.ranks[-1]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("price", "50", "price takes a number, as in 49.9 without quotes, not '50'"),
        ("price", float("nan"), "price takes a number"),
        ("country", 50.0, 'country takes text; write "50" in quotes'),
        ("country", " ", "country was given an empty value"),
        ("category", " > ", "category was given an empty value"),
        ("created_at", "tomorrow", "created_at takes a date or a time, as in 2024-12-31 .* not 'tomorrow'"),
        ("created_at", 2024.0, "not 2024.0"),
    ],
)
def test_a_value_that_does_not_suit_its_field_is_refused(name: str, value: str | float, message: str) -> None:
    """The error names the field and the value."""
    (field,) = (field for field in BUILT_IN if field.name == name)

    with pytest.raises(FilterError, match=message) as refused:
        field.bounds(value)
    assert (name, str(value)) == (refused.value.field, str(refused.value.value))


def break_file(folder: Path, name: str, content: bytes | None) -> None:
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("fields.json", None),
        ("fields.json", b'{"format": 1}'),
        ("0.ranks.npy", None),
        ("0.ranks.npy", b"\x93NUMPY"),
        ("1.values.json", None),
        ("1.values.json", b'{"keys": ["gb"'),
        ("1.values.json", b'{"keys": ["gb"], "shown": ["GB"]}'),
        ("6.values.npy", b""),
    ],
)
def test_a_damaged_or_missing_file_is_named(name: str, content: bytes | None, tmp_path: Path) -> None:
    """With what to do."""
    Columns.write(tmp_path, RECORDS)
    break_file(tmp_path, name, content)

    with pytest.raises(IndexFileError, match=r"run `que2search build`") as refused:
        Columns.open(tmp_path, count=4)
    assert str(tmp_path) in str(refused.value)


def test_columns_of_another_index_are_refused(tmp_path: Path) -> None:
    """Four rows are not five; the files of another column do not fit either."""
    Columns.write(tmp_path, RECORDS)

    with pytest.raises(IndexFileError, match="is over 4 rows, the index has 5"):
        Columns.open(tmp_path, count=5)
    np.save(tmp_path / "6.ranks.npy", np.zeros(3, np.uint8))
    with pytest.raises(IndexFileError, match="field 'price' has ranks and values"):
        Columns.open(tmp_path, count=4)


@given(st.lists(st.lists(st.sampled_from(["a", "b", "a b", "ab", "\x00", "\U0010fffe"]), min_size=1, max_size=3)))
def test_the_categories_below_one_are_neighbours(paths: list[list[str]]) -> None:
    """Whatever the parts: a range of ranks holds exactly the paths that begin with the first of them."""
    keys = sorted({path_key(" > ".join(path)) for path in paths})
    field = Field("category", "path")
    column = Column(field, np.arange(len(keys)), keys)

    for key in keys:
        low, high = column.allowed("=", field.bounds(" > ".join(key[:1])))
        assert [other for other in keys if other[0] == key[0]] == keys[low:high]
