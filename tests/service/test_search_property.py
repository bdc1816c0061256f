"""Filters, modes, radius, sellers, sizes and pages together: at effort `exact` brute force gives the same answers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.pipeline import Pipeline
from service.schemas import SearchRequest
from tests.market import products
from tests.service.reference import Filter, Legs, Reference
from tests.service.walking import follow, opened, page_of

COUNT = 240
QUERIES = ("red dress", "green guitar", "runing shoes worn", "chairs", '"wooden chair"', "zzz", "18")


@pytest.fixture(scope="module")
def pipeline(market_path: Path, release_path: Path) -> Iterator[Pipeline]:
    with opened(release_path, market_path) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def reference(pipeline: Pipeline) -> Reference:
    return Reference(pipeline.release, pipeline.generation, products(COUNT))


def has(field: str, value: str) -> Filter:
    return Filter(f'{field} = "{value}"', lambda record: record[field] == value)


FILTERS = [
    has("country", "GB"),
    has("brand", "Nike"),
    has("currency", "GBP"),
    Filter("condition = new", lambda record: record["attributes"]["condition"] == "new"),
    Filter("seller IN (Ann, Bob)", lambda record: record["seller_id"] in {"ann", "bob"}),
    Filter('category = "Home > Furniture"', lambda record: record["category"].startswith("Home > Furniture >")),
    Filter("price < 150", lambda record: record["price"] is not None and record["price"] < 150),
    Filter("price >= 40.5", lambda record: record["price"] is not None and record["price"] >= 40.5),
    Filter("created_at > 2025-01-31", lambda record: record["created_at"].isoformat() >= "2025-02-01"),
    Filter("tokens(RED)", lambda record: "red" in record["title"].split()),
    Filter('tokens("worn guitars")', lambda record: "guitar" in record["title"] and bool(record["description"])),
]


def joined(pair: tuple[Filter, Filter], *, by: str) -> Filter:
    one, other = pair
    unite = {"AND": all, "OR": any}[by]
    return Filter(f"({one.text}) {by} ({other.text})", lambda record: unite((one.holds(record), other.holds(record))))


def without(one: Filter) -> Filter:
    return Filter(f"NOT ({one.text})", lambda record: not one.holds(record))


filters = st.recursive(
    st.sampled_from(FILTERS),
    lambda parts: (
        st.tuples(parts, parts).map(lambda pair: joined(pair, by="AND"))
        | st.tuples(parts, parts).map(lambda pair: joined(pair, by="OR"))
        | parts.map(without)
    ),
    max_leaves=4,
)
plain_fields = st.fixed_dictionaries(
    {},
    optional={
        "category": st.sampled_from(["Fashion", "home > lamps", "Home > Furniture > Sofas"]),
        "seller": st.sampled_from(["cy", "nobody"]),
        "price_min": st.sampled_from([0, 60]),
        "price_max": st.sampled_from([100, 200.5]),
        "created_after": st.just("2025-03-01"),
    },
)
legs = st.sampled_from(
    [
        Legs(vector=True),
        Legs(vector=True, radius=0.2, fields={"min_score": 0.2, "mode": "vector"}),
        Legs(vector=True, radius=0.1, text="nn(radius=0.1)"),
        Legs(lexical=True, fields={"mode": "lexical"}),
        Legs(lexical=True, text="tokens"),
        Legs(vector=True, lexical=True, fields={"mode": "hybrid"}),
        Legs(vector=True, lexical=True, radius=0.3, fields={"mode": "hybrid", "min_score": 0.3}),
        Legs(vector=True, lexical=True, radius=0.25, text="(tokens OR nn(radius=0.25))"),
        Legs(vector=True, lexical=True, both=True, text="(tokens AND nn(nprobe=2))"),
        Legs(vector=True, lexical=True, both=True, radius=0.25, text="nn(radius=0.25) AND tokens"),
    ]
)


def plain_holds(record: dict[str, Any], fields: dict[str, Any]) -> bool:
    """What the fields of a request say of a product, in the words of their descriptions."""
    category, price = fields.get("category"), record["price"]
    return (
        (category is None or record["category"].casefold().startswith(category.casefold()))
        and fields.get("seller") in {None, record["seller_id"]}
        and ("price_min" not in fields or (price is not None and price >= fields["price_min"]))
        and ("price_max" not in fields or (price is not None and price <= fields["price_max"]))
        and ("created_after" not in fields or record["created_at"].isoformat() >= fields["created_after"])
    )


def said_by(wanted: Filter | None, legs: Legs) -> str | None:
    """The `filter` of a request."""
    parts = [] if wanted is None else [f"({wanted.text})"]
    return " AND ".join([*parts, *([] if legs.text is None else [legs.text])]) or None


def slices(walk: Sequence[int], size: int) -> list[list[int]]:
    return [list(walk[start : start + size]) for start in range(0, len(walk), size)] or [[]]


@settings(max_examples=120)
@given(
    query=st.sampled_from(QUERIES),
    country=st.sampled_from([None, "GB"]),
    legs=legs,
    wanted=st.none() | filters,
    fields=plain_fields,
    per_seller=st.none() | st.integers(1, 12),
    size=st.integers(4, 100),
)
def test_pages_are_slices_of_the_list_that_brute_force_gives(
    pipeline: Pipeline,
    reference: Reference,
    query: str,
    country: str | None,
    legs: Legs,
    wanted: Filter | None,
    fields: dict[str, Any],
    per_seller: int | None,
    size: int,
) -> None:
    """The same products, in the same order, on the same pages, with the same scores; by cursor and by number."""

    def holds(record: Any) -> bool:
        return plain_holds(record, fields) and (wanted is None or wanted.holds(record))

    request = SearchRequest(
        q=query, country=country, size=size, effort="exact", per_seller=per_seller,
        filter=said_by(wanted, legs), **fields, **legs.fields,
    )  # fmt: skip
    expected = reference.capped(reference.hits(query, country, legs, holds), per_seller)

    pages = follow(pipeline, request)

    assert slices(list(expected), size) == [page.products for page in pages]
    assert list(expected.values()) == pytest.approx([score for page in pages for score in page.scores], abs=2e-6)
    for number, followed in enumerate(pages, start=1):
        by_number = page_of(pipeline, msgspec.structs.replace(request, page=number))
        assert followed.products == by_number.products
        assert followed.answer.cursor == by_number.answer.cursor
    member = pages[0].answer.filter
    allowed = sum(map(holds, products(COUNT)))
    assert COUNT == allowed if member is None else member.allowed == allowed
