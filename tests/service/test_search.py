"""GET and POST /search over the whole application: real featuriser, towers, index and catalogue, all small."""

import msgspec
import pytest

from service.schemas import SearchAnswer
from tests.service.harness import Client

GUITAR = {"q": "green guitar", "country": "GB"}


def search(client: Client, **fields: object) -> SearchAnswer:
    answer = client.get("/search", params=fields)
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=SearchAnswer)


def test_a_search_finds_products_by_their_words(client: Client) -> None:
    """The small towers sum 3-grams, so green guitars come first, best first."""
    answer = search(client, q="green guitar", size=3)

    assert 3 == len(answer.hits)
    assert all("green guitar" in (hit.title or "") for hit in answer.hits)
    assert sorted(answer.hits, key=lambda hit: -hit.score) == answer.hits


def test_post_answers_what_get_does(client: Client) -> None:
    """The same fields as JSON give the same hits and the same cursor."""
    fields = {**GUITAR, "size": 4, "effort": "balanced", "min_score": 0.1}

    by_get, by_post = client.get("/search", params=fields).json(), client.post("/search", json=fields).json()

    for answer in (by_get, by_post):
        del answer["timings_us"]
    assert by_get == by_post


def test_the_first_page_costs_less_than_later_ones(client: Client) -> None:
    """auto: low for page 1, high for page 2; the answer shows the different nprobe."""
    first, later = search(client, **GUITAR), search(client, **GUITAR, page=2)

    assert ("low", "high") == (first.search.effort, later.search.effort)
    assert (first.search.nprobe or 0) < (later.search.nprobe or 0)
    assert not first.search.degraded


@pytest.mark.parametrize("effort", ["minimal", "low", "balanced", "high", "exact"])
def test_a_named_effort_is_used_and_echoed(client: Client, effort: str) -> None:
    """Every response tells the effective settings; only `exact` has no nprobe."""
    answer = search(client, **GUITAR, effort=effort)

    assert effort == answer.search.effort
    assert (effort == "exact") == (answer.search.nprobe is None)
    assert ("small", 1) == (answer.search.release, answer.search.generation)


def test_every_page_by_cursor_is_the_page_by_number(client: Client) -> None:
    """Over the real index: five pages of seven, no product twice, the last byte of each hit the same."""
    followed = [search(client, **GUITAR, size=7)]
    for _ in range(4):
        followed.append(search(client, **GUITAR, size=7, cursor=followed[-1].cursor))
    by_number = [search(client, **GUITAR, size=7, page=number) for number in range(1, 6)]

    assert [page.hits for page in by_number] == [page.hits for page in followed]
    assert [1, 2, 3, 4, 5] == [page.page for page in followed]
    assert 35 == len({hit.id for page in followed for hit in page.hits})


def test_a_cursor_brings_its_effort_along(client: Client) -> None:
    """Who follows a cursor need not repeat the effort; naming another one is refused."""
    first = search(client, **GUITAR, effort="balanced")

    assert "balanced" == search(client, **GUITAR, cursor=first.cursor).search.effort
    assert "balanced" == search(client, **GUITAR, cursor=first.cursor, effort="balanced").search.effort
    assert 422 == client.get("/search", params={**GUITAR, "cursor": first.cursor, "effort": "high"}).status_code


def test_min_score_cuts_the_list(client: Client) -> None:
    """Nothing below the radius is returned, and a radius that nothing reaches leaves no hits."""
    close = search(client, **GUITAR, min_score=0.7, size=100)

    assert close.hits
    assert min(hit.score for hit in close.hits) >= 0.7
    assert 0.7 == close.search.min_score
    assert not search(client, **GUITAR, min_score=1.0).hits


def test_a_long_query_is_cut_and_says_so(client: Client) -> None:
    """The member is there only when the query was longer than the model reads (here 8 tokens)."""
    short = client.get("/search", params={"q": "sofa"}).json()
    long = client.get("/search", params={"q": "sofa " * 50}).json()

    assert "query_truncated" not in short
    assert long["query_truncated"] is True


def test_the_query_is_trimmed(client: Client) -> None:
    """White space around a query, line breaks too, means nothing."""
    assert search(client, q="green guitar").hits == search(client, q="  green guitar\n").hits


def test_the_country_counts_and_an_unknown_one_does_not(client: Client) -> None:
    """A known country moves the query's vector; an unknown code is the same as none."""
    nowhere = search(client, q="lamp").hits

    assert nowhere == search(client, q="lamp", country="ZZ").hits
    assert nowhere == search(client, q="lamp", country="").hits
    assert nowhere != search(client, q="lamp", country="US").hits


def test_the_header_carries_the_stages_of_the_body(client: Client) -> None:
    """Server-Timing has the same names in milliseconds; `total` covers all stages."""
    answer = client.get("/search", params={"q": "a guitar that nobody asked for yet"})
    timings = answer.json()["timings_us"]
    header = dict(entry.split(";dur=") for entry in answer.headers["server-timing"].split(", "))

    assert list(timings) == list(header) == ["featurise", "query_tower", "ann", "products", "total"]
    assert timings["total"] >= sum(timings.values()) - timings["total"] - 4  # each is rounded
    assert timings == {stage: pytest.approx(float(ms) * 1000, abs=1) for stage, ms in header.items()}


def test_a_head_request_is_a_get_without_a_body(client: Client) -> None:
    """HEAD answers 200 and the length that GET has."""
    assert 200 == client.request("HEAD", "/search", params=GUITAR).status_code
