"""Filters: which rows a condition allows, what is refused, and what is suggested instead."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.columns import Columns
from index.conditions import And, Compare, Condition, Not, OneOf, Or, Words, all_of, any_of, negated
from index.errors import FilterError
from index.expression import parse
from index.filters import CACHED, Filters
from index.suggestions import KnownPaths

RECORDS: list[dict[str, Any]] = [
    {"title": "red shoes", "category": "Fashion > Shoes", "country": "GB", "price": 20.0, "brand": "Adidas"},
    {"title": "red lamp", "category": "Home > Lamps", "country": "GB", "price": 60.0, "brand": "Lumo"},
    {"title": "blue shoes", "category": "Sports > Shoes", "country": "FR", "price": 80.0, "brand": "Nike"},
    {"title": "guitar"},
]
RowsWith = Callable[[str], np.ndarray]


def filters_of(folder: Path, records: list[dict[str, Any]], *, words: RowsWith | None = None) -> Filters:
    Columns.write(folder, records, attributes=["colour"])
    return Filters(Columns.open(folder, count=len(records)), words=words)


def titles_with(text: str) -> np.ndarray:
    """Rows whose title holds all words."""
    wanted = set(text.split())
    return np.flatnonzero([wanted <= set(record["title"].split()) for record in RECORDS])


@pytest.fixture
def filters(tmp_path: Path) -> Filters:
    return filters_of(tmp_path, RECORDS, words=titles_with)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("country = gb", [0, 1]),
        ("category = Fashion", [0]),
        ("brand IN (adidas, NIKE, Unheard)", [0, 2]),
        ("price >= 20 AND price < 80", [0, 1]),
        ("country = GB AND (price < 50 OR brand = Lumo) AND NOT category = 'Fashion > Shoes'", [1]),
        ("country = FR OR tokens(red)", [0, 1, 2]),
        ('tokens("red shoes") AND country = GB', [0]),
        ("seller = nobody", []),
        ("price < 20 OR price > 80", []),
    ],
)
def test_a_condition_allows_rows(filters: Filters, text: str, rows: list[int]) -> None:
    """Of shoes in GB, a lamp in GB, shoes in FR and a guitar of which nothing is known."""
    condition = parse(text).condition
    assert condition is not None

    found = filters.rows(condition)

    assert rows == found.rows().tolist()
    assert (len(rows), 4) == (found.allowed, found.count)


def test_what_lacks_a_field_is_found_by_its_negation_alone(filters: Filters) -> None:
    """The guitar has no country and no price: neither below 50 nor at 50 or above, but not GB and not below 50."""
    assert [2, 3] == filters.rows(Compare("country", "!=", "GB")).rows().tolist()
    assert [2, 3] == filters.rows(Not(OneOf("country", ("GB", "DE")))).rows().tolist()
    assert [1, 2, 3] == filters.rows(Not(Compare("price", "<", 50))).rows().tolist()
    assert [1, 2] == filters.rows(Compare("price", ">=", 50)).rows().tolist()


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9])
def test_no_bit_is_set_behind_the_last_row(count: int, tmp_path: Path) -> None:
    """Whatever is left of the last byte: all rows are `count` rows."""
    found = filters_of(tmp_path, [{}] * count).rows(Compare("country", "!=", "GB"))

    assert count == found.allowed
    assert list(range(count)) == found.rows().tolist()


def test_an_equal_condition_is_answered_from_the_cache(tmp_path: Path) -> None:
    """Words are looked up once for it, in whatever condition they stand; not for ever, though."""
    asked: list[str] = []

    def words(text: str) -> np.ndarray:
        asked.append(text)
        return titles_with(text)

    filters = filters_of(tmp_path, RECORDS, words=words)

    assert filters.rows(Words("red")) is filters.rows(Words("red"))
    assert [0] == filters.rows(And((Words("red"), Compare("brand", "=", "Adidas")))).rows().tolist()
    assert ["red"] == asked
    for n in range(CACHED):
        filters.rows(Words(f"{n}"))
    assert [0, 1] == filters.rows(Words("red")).rows().tolist()
    assert 2 == asked.count("red")


def refused(filters: Filters, text: str) -> FilterError:
    """What `check` and `rows` both say."""
    condition = parse(text).condition
    assert condition is not None
    with pytest.raises(FilterError) as by_check:
        filters.check(condition)
    with pytest.raises(FilterError) as by_rows:
        filters.rows(condition)
    assert str(by_check.value) == str(by_rows.value)
    return by_check.value


def test_an_unknown_field_is_refused_with_the_nearest_and_all(filters: Filters) -> None:
    """Declared attributes are among them."""
    error = refused(filters, "price < 50 AND NOT Contry = GB")

    assert ("Contry", "GB") == (error.field, error.value)
    assert "no field 'Contry' (did you mean 'country'?); there are category, country, language" in str(error)
    assert str(error).endswith("created_at, colour")
    assert "did you mean" not in str(refused(filters, "xyz = 1"))


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("country < GB", "country", "country can be compared by =, != and IN, not by <"),
        ("category >= Home", "category", "category can be compared by =, != and IN, not by >="),
        ("price = cheap", "price", "price takes a number"),
        ("price IN (1, '2')", "price", "not '2'"),
        ("brand = 3", "brand", 'write "3" in quotes'),
        ("country IN (GB, '')", "country", "an empty value"),
        ("created_at > soon", "created_at", "created_at takes a date"),
        ("tokens(' ')", "tokens", "tokens was given no words"),
    ],
)
def test_what_does_not_suit_a_field_is_refused(filters: Filters, text: str, field: str, message: str) -> None:
    """The error names the field."""
    error = refused(filters, f"NOT (country = GB AND (colour = red OR {text}))")

    assert field == error.field
    assert message in str(error)


def test_words_need_an_index_of_words(tmp_path: Path) -> None:
    """Without one the condition is refused with what to do."""
    error = refused(filters_of(tmp_path, RECORDS), "tokens(red)")

    assert "this index holds no words; run `que2search build`" in str(error)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("price >= 50 AND price < 20", "price"),
        ("price > 50 AND country = GB AND price <= 50", "price"),
        ("price = 50 AND price < 50", "price"),
        ("country = FR OR (price = 1 AND price = 2)", "price"),
        ("created_at > 2024-05-01 AND created_at < 2024-05-01T23:00", "created_at"),
    ],
)
def test_a_range_that_is_empty_as_written_is_refused(filters: Filters, text: str, field: str) -> None:
    """No price and no time can meet it, whatever products there are."""
    error = refused(filters, text)

    assert field == error.field
    assert f"is an empty range, no {field} lies in it" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "price >= 50 AND price <= 50",
        "price > 21 AND price < 22",
        "price < 20 OR price > 100",
        "price != 5 AND price = 5",
        "created_at >= 2024-05-01 AND created_at <= 2024-05-01",
        "country = GB AND country = FR",
    ],
)
def test_a_range_without_products_is_no_error(filters: Filters, text: str) -> None:
    """Only what two limits alone exclude is."""
    condition = parse(text).condition
    assert condition is not None

    filters.check(condition)

    assert 0 == filters.rows(condition).allowed


def test_an_unknown_category_is_refused_with_the_nearest(filters: Filters) -> None:
    """By the whole path, or by its last part wherever that is found."""
    assert str(refused(filters, "category = 'fashon > shoes'")).endswith(
        "there is no category 'fashon > shoes'; the nearest are 'Fashion > Shoes', 'Sports > Shoes'"
    )
    assert str(refused(filters, "category = Lamp")).endswith("the nearest are 'Home > Lamps'")
    assert str(refused(filters, "category IN (Home, Groceries)")) == "there is no category 'Groceries'"


def test_suggestions_are_few_and_nearest_first() -> None:
    """An equal last part, in whatever case, before one with a letter changed; three at most."""
    known = KnownPaths([f"Shop {n} > Shoes" for n in range(9)] + ["Garden > Hose", "Kids > Shoe"])

    nearest = known.nearest("SHOES")

    assert 3 == len(nearest)
    assert all(path.endswith("> Shoes") for path in nearest)
    assert ["Garden > Hose"] == known.nearest("garden > hosee")[:1]
    assert [] == known.nearest("q" * 2_000)


# A second way to the same answer: every condition evaluated over the records, one by one.

COUNTRIES = ("GB", "FR", "gb")
PATHS = ("A", "A > B", "A > B > C", "a > c", "AB")


def holds(record: dict[str, Any], condition: Condition) -> bool:
    match condition:
        case And(parts):
            return all(holds(record, part) for part in parts)
        case Or(parts):
            return any(holds(record, part) for part in parts)
        case Not(part):
            return not holds(record, part)
        case OneOf(field, values):
            return any(holds(record, Compare(field, "=", value)) for value in values)
        case Words(text):
            return text in record.get("title", "")
        case Compare(field, "!=", value):
            return not holds(record, Compare(field, "=", value))
        case Compare("price", op, value):
            price = record.get("price")
            compared = {"=": "__eq__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}[op]
            return price is not None and getattr(float(price), compared)(float(value))
        case Compare("category", _, value):
            parts = [part.strip().lower() for part in record.get("category", "").split(">")]
            wanted = [part.strip().lower() for part in str(value).split(">")]
            return parts[: len(wanted)] == wanted
        case Compare(field, _, value):
            return bool(record.get(field, "").lower() == str(value).lower())


records = st.fixed_dictionaries(
    {},
    optional={
        "country": st.sampled_from(COUNTRIES),
        "price": st.integers(0, 4) | st.sampled_from([0.5, 2.5]),
        "category": st.sampled_from(PATHS),
        "title": st.sampled_from(["red", "blue", "red blue"]),
    },
)
leaves: st.SearchStrategy[Condition] = (
    st.builds(Compare, st.just("country"), st.sampled_from(["=", "!="]), st.sampled_from([*COUNTRIES, "DE"]))
    | st.builds(Compare, st.just("price"), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.integers(-1, 5))
    | st.builds(Compare, st.just("category"), st.sampled_from(["=", "!="]), st.sampled_from(PATHS))
    | st.builds(OneOf, st.just("price"), st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple))
    | st.builds(OneOf, st.just("category"), st.lists(st.sampled_from(PATHS), min_size=1, max_size=3).map(tuple))
    | st.builds(Words, st.sampled_from(["red", "blue"]))
)
conditions = st.recursive(
    leaves,
    lambda parts: (
        st.tuples(parts, parts).map(lambda pair: all_of(*pair))
        | st.tuples(parts, parts).map(lambda pair: any_of(*pair))
        | parts.map(negated)
    ),
    max_leaves=8,
)


@given(st.lists(records, max_size=20), st.lists(conditions, min_size=1, max_size=4))
def test_rows_are_those_whose_records_meet_the_condition(
    products: list[dict[str, Any]], wanted: list[Condition]
) -> None:
    """Random products with missing fields, random conditions; each allows just what it allows record by record."""
    products = [*products, *({"category": path} for path in PATHS)]  # all are known, so none is refused

    def words(text: str) -> np.ndarray:
        return np.flatnonzero([text in product.get("title", "") for product in products])

    with TemporaryDirectory() as folder:
        filters = filters_of(Path(folder), products, words=words)
    for condition in wanted:
        try:
            found = filters.rows(condition)
        except FilterError as refusal:
            assert "is an empty range" in str(refusal)  # noqa: PT017 - a random range may be empty
            continue
        expected = [row for row, product in enumerate(products) if holds(product, condition)]
        assert expected == found.rows().tolist()
        assert len(expected) == found.allowed
