"""Filters over the whole application: what passes, what is said about it, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from index.cursor import CursorCodec
from service.settings import Settings
from tests.service.harness import Client, answer_to, application

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def market(settings: Settings, market_path: Path) -> Iterator[Client]:
    with application(settings.model_copy(update={"catalogue": market_path, "max_effort": "high"})) as client:
        yield client


def search(client: Client, **fields: object) -> Answer:
    return answer_to(client, **{"q": "red lamp", "size": 100, **fields})


def numbers(answer: Answer) -> list[int]:
    """Of the products shown, ascending: every product that passes, where no page ends before."""
    return sorted(int(hit["id"].removeprefix("p")) for hit in answer["hits"])


# What passes


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"seller": "Bob", "price_max": 20}, [1, 5, 9, 17]),  # 13 has no price
        ({"category": "home > lamps", "price_max": 30}, [3, 11, 19]),  # nor has 27
        ({"price_min": 100, "price_max": 105}, [100, 101, 102, 103, 105]),
        ({"created_after": "2025-08-26"}, [237, 238, 239]),
        ({"created_after": "2025-08-26T00:00:01Z"}, [238, 239]),
        ({"filter": "price < 20 AND country IN (GB, FR) AND NOT condition = new"}, [0, 2, 8, 12, 14, 18]),
        ({"filter": "brand = nike AND created_at < 2025-01-12"}, [8, 9, 10]),
        ({"filter": 'tokens("green guitar") AND price < 100'}, [7, 47, 87]),
        ({"filter": "seller = nobody"}, []),
        ({"seller": "cy", "price_max": 9, "filter": "country = FR OR country = US"}, [2]),
    ],
)
def test_only_what_passes_is_found(market: Client, fields: dict[str, object], expected: list[int]) -> None:
    """Product n costs n; all conditions of a request hold together."""
    answer = search(market, **fields)

    assert expected == numbers(answer)
    assert (len(expected), "exact") == (answer["search"]["filter"]["allowed"], answer["search"]["filter"]["strategy"])


def test_the_answer_says_what_it_was_filtered_by(market: Client) -> None:
    """One expression, which as the `filter` of another request gives the same answer; null without a filter."""
    first = search(market, category="Fashion", price_min=50, filter="country = GB OR tokens(red)", effort="low")
    condition = first["search"]["filter"]["condition"]

    assert 'category = "Fashion" AND price >= 50 AND (country = "GB" OR tokens("red"))' == condition
    again = search(market, filter=condition, effort="low")
    assert first["hits"] == again["hits"]
    assert first["search"] == again["search"]
    assert search(market)["search"]["filter"] is None


def test_post_filters_as_get_does(market: Client) -> None:
    """Numbers and text as JSON has them."""
    fields = {
        "q": "red lamp", "category": "Home", "price_min": 10.5, "price_max": 90, "seller": "ann", "mode": "hybrid",
        "created_after": "2025-01-20", "filter": "condition = used", "per_seller": 3, "explain": True,
    }  # fmt: skip
    by_get = market.get("/search", params={**fields, "explain": "true"}).json()
    by_post = market.post("/search", json=fields).json()

    for answer in (by_get, by_post):
        del answer["timings_us"]
    assert by_get == by_post
    assert 3 == len(by_get["hits"])


def test_a_filter_takes_the_place_of_probing(market: Client) -> None:
    """Few products pass, so all of them are compared: the nearest allowed one is found, wherever it lies."""
    assert [7] == numbers(search(market, q="wooden chair", filter="price = 7"))


def test_a_filter_costs_a_stage(market: Client) -> None:
    """Named in the body and in the header; without a filter it is not there."""
    filtered = market.get("/search", params={"q": "a lamp nobody looked for", "price_max": 50})  # no vector is kept

    assert ["filter", "featurise", "query_tower", "ann", "products", "total"] == list(filtered.json()["timings_us"])
    assert "filter;dur=" in filtered.headers["server-timing"]
    assert "filter;dur=" not in market.get("/search", params={"q": "lamp"}).headers["server-timing"]


# Pages


def test_a_cursor_belongs_to_its_filter(market: Client) -> None:
    """Another filter, seller cap or mode than the cursor's is 422; the same ones go on."""
    fields = {"q": "lamp", "price_max": 150, "mode": "hybrid", "per_seller": 5, "size": 5}
    cursor = market.get("/search", params=fields).json()["cursor"]

    assert 200 == market.get("/search", params={**fields, "cursor": cursor}).status_code
    others = ({"price_max": 151}, {"filter": "country = GB"}, {"per_seller": 6}, {"mode": "lexical"}, {"seller": "ann"})
    for other in others:
        refused = market.get("/search", params={**fields, **other, "cursor": cursor})
        assert (422, "cursor") == (refused.status_code, refused.json()["field"])


def test_the_way_back_from_an_old_cursor_keeps_the_filters(market: Client, market_path: Path) -> None:
    """`first_page` of a 410 starts the same search again, all that it asked for included."""
    fields = {
        "q": "lamp", "size": 5, "category": "Home > Lamps", "price_max": 150.5, "per_seller": 2,
        "filter": 'brand = "Nike" OR price < 90', "mode": "hybrid", "explain": "true",
    }  # fmt: skip
    first = market.get("/search", params=fields).json()
    codec = CursorCodec((market_path / "cursor.key").read_bytes())
    old = codec.encode(codec.decode(first["cursor"])._replace(release="last-year"))

    answer = market.get("/search", params={**fields, "cursor": old})

    assert 410 == answer.status_code
    assert first["hits"] == market.get(answer.json()["first_page"]).json()["hits"]


def test_a_walk_ends_with_what_passes(market: Client) -> None:
    """43 products of up to 49.5 have a price: four pages of ten and one of three, no product twice."""
    pages = [search(market, price_max=49.5, size=10)]
    while pages[-1]["cursor"]:
        pages.append(search(market, price_max=49.5, size=10, cursor=pages[-1]["cursor"]))
    shown = [number for page in pages for number in numbers(page)]

    assert [n for n in range(50) if n % 7 != 6] == sorted(shown)
    assert [10, 10, 10, 10, 3] == [len(page["hits"]) for page in pages if page["hits"]]


@pytest.mark.parametrize("mode", ["vector", "lexical", "hybrid"])
def test_no_seller_has_more_than_its_share_of_a_walk(market: Client, mode: str) -> None:
    """At most four of each, over all pages together; products without a seller are of nobody, so all may come."""
    fields = {"q": "red blue lamp", "mode": mode, "per_seller": 4, "size": 9}
    pages = [search(market, **fields)]
    while pages[-1]["cursor"]:
        pages.append(search(market, **fields, cursor=pages[-1]["cursor"]))
    sellers = [hit.get("seller_id") for page in pages for hit in page["hits"]]

    assert {"ann": 4, "bob": 4, "cy": 4} == {name: sellers.count(name) for name in ("ann", "bob", "cy")}
    assert sellers.count(None) > 4
    assert 4 == pages[0]["search"]["per_seller"]


# What makes no sense

REFUSED = [
    # fields, the field that is named, what the message says
    ({"category": "Home > Lmaps"}, "category", "the nearest are 'Home > Lamps'"),
    ({"category": "Home > Lamps > Lava"}, "category", "there is no category 'Home > Lamps > Lava'; the nearest are"),
    ({"category": " > "}, "category", "empty value"),
    ({"category": ""}, "category", "root"),
    ({"seller": "   "}, "seller", "empty value"),
    ({"price_min": -1}, "price_min", "a number from 0"),
    ({"price_max": -0.5}, "price_max", "a number from 0"),
    ({"price_min": 50, "price_max": 20}, "price_min", "above price_max=20"),
    ({"created_after": "yesterday"}, "created_after", "2024-12-31"),
    ({"created_after": "2025-13-01"}, "created_after", "2024-12-31"),
    ({"filter": "colour = red"}, "filter", "there is no field 'colour'"),
    ({"filter": "prise < 20"}, "filter", "did you mean 'price'?"),
    ({"filter": "price >= 50 AND price < 20"}, "filter", "is an empty range"),
    ({"filter": "price < 20", "price_min": 50}, "filter", "is an empty range"),
    ({"filter": "price < cheap"}, "filter", "takes a number"),
    ({"filter": "brand < Nike"}, "filter", "not by <"),
    ({"filter": 'category IN ("Home", "Hoem > Lamps")'}, "filter", "the nearest are 'Home > Lamps'"),
    ({"filter": "created_at > soon"}, "filter", "takes a date or a time"),
    ({"filter": "price < "}, "filter", "expected a value, found the end at character 9"),
    ({"filter": "country = GB country = FR"}, "filter", "character 14"),
    ({"filter": "(" * 17 + "price < 20" + ")" * 17}, "filter", "at most 16 parentheses"),
    ({"filter": " OR ".join(["price = 1"] * 65)}, "filter", "at most 64 conditions"),
    ({"filter": "x" * 2_049}, "filter", "1 to 2048 characters"),
    ({"filter": ""}, "filter", "1 to 2048 characters"),
    ({"filter": 'tokens("  ")'}, "filter", "no words"),
    ({"filter": "NOT tokens"}, "filter", "tokens and nn may stand once"),
    ({"filter": "nn(nprobe=5)"}, "filter", "this server allows up to 4"),
    ({"filter": "nn(radius=2)"}, "filter", "a cosine from -1 to 1"),
    ({"filter": "nn(radius=0.3)", "min_score": 0.5}, "min_score", "the filter says nn(radius=0.3)"),
    ({"filter": "tokens OR nn", "mode": "lexical"}, "mode", "which is hybrid"),
    ({"mode": "lexical", "min_score": 0.5}, "min_score", "words alone do not have"),
    ({"mode": "semantic"}, "mode", "vector (by meaning, the default), lexical (by words) and hybrid (by both)"),
    ({"per_seller": 0}, "per_seller", "from 1 to 100"),
    ({"per_seller": 101}, "per_seller", "from 1 to 100"),
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("fields", "field", "says"), REFUSED)
def test_what_makes_no_sense_is_refused_by_name(
    market: Client, method: str, fields: dict[str, object], field: str, says: str
) -> None:
    """422: the field, and what is wrong with it or was probably meant."""
    request = {"q": "lamp", **fields}
    answer = market.request(method, "/search", **{"params" if method == "GET" else "json": request})

    assert (422, field) == (answer.status_code, answer.json()["field"])
    assert says in answer.json()["detail"]


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("field", ["price_min", "price_max"])
def test_a_price_is_a_finite_number(market: Client, field: str, number: str) -> None:
    """A query string may spell what is none."""
    answer = market.get("/search", params={"q": "lamp", field: number})

    assert (422, field) == (answer.status_code, answer.json()["field"])


def test_explain_is_true_or_false(market: Client) -> None:
    """In a query string too."""
    assert 422 == market.get("/search", params={"q": "lamp", "explain": "maybe"}).status_code
    assert "explain" not in search(market, explain="false")
