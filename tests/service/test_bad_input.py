"""Bad input: each gives a problem document that says what is wrong, and the next search is answered."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.cursor import Cursor, CursorCodec
from service.errors import InvalidFieldError, UnparsableError
from service.schemas import EmbedRequest, SearchRequest, from_json, from_query_string
from tests.service.harness import Client

WRONG_FIELDS = [
    # field, value, what the message must say is allowed
    ("q", "", "1 to 512 characters"),
    ("q", " \t\n ", "1 to 512 characters"),
    ("q", "x" * 10_000, "1 to 512 characters"),
    ("q", "red\x00dress", "no control characters"),
    ("q", "red\ndress", "no control characters"),
    ("q", "red\x9bdress", "no control characters"),
    ("country", "G" * 65, "up to 64 characters"),
    ("country", "G\x1b", "ISO 3166"),
    ("page", 0, "a whole number from 1"),
    ("page", -1, "a whole number from 1"),
    ("page", 1.5, "a whole number from 1"),
    ("size", 0, "from 1 to 100"),
    ("size", 10**9, "from 1 to 100"),
    ("effort", "fastest", "auto, minimal, low, balanced, high, exact"),
    ("effort", "", "auto, minimal, low, balanced, high, exact"),
    ("min_score", 1.5, "from -1 to 1"),
    ("min_score", "nan", "from -1 to 1"),
    ("timeout_ms", 0, "above 0"),
    ("timeout_ms", 10**9, "up to 600000"),
    ("colour", "red", "unknown field"),
    ("cursor", "forged", "altered or is not of this catalogue"),
    ("cursor", "", "altered or is not of this catalogue"),
    ("cursor", "é" * 9_000, "altered or is not of this catalogue"),
]


@pytest.fixture(autouse=True)
def still_up(client: Client) -> Iterator[None]:
    """Whatever a test sent, the server answers the next search."""
    yield
    assert 200 == client.get("/search", params={"q": "lamp"}).status_code


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("field", "value", "allowed"), WRONG_FIELDS)
def test_a_wrong_field_is_named_with_its_value(
    client: Client, method: str, field: str, value: object, allowed: str
) -> None:
    """422, by GET and by POST alike: the field, the value, and what is allowed instead."""
    fields = {"q": "lamp", field: value}
    answer = client.request(method, "/search", **{"params" if method == "GET" else "json": fields})
    problem = answer.json()

    assert (422, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert (422, field) == (problem["status"], problem["field"])
    assert field in problem["detail"]
    assert allowed in problem["detail"]
    assert problem["value"][:20].strip('"') in json.dumps(value, ensure_ascii=False)
    assert len(answer.content) < 1_000
    assert answer.headers["x-request-id"] == problem["request_id"]


def test_numbers_in_json_must_be_numbers(client: Client) -> None:
    """A query string has only text, so it may say 10; JSON knows the difference."""
    assert 200 == client.get("/search", params={"q": "lamp", "size": "10"}).status_code
    assert 422 == client.post("/search", json={"q": "lamp", "size": "10"}).status_code


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"q": "lamp"', b"q=lamp", b"\xff\xfe", b'{"q": "\xff"}', b'{"q": "\\ud800"}', b"[" * 60_000]
)
def test_broken_json_is_400(client: Client, body: bytes) -> None:
    """What cannot be parsed is 400, not 422."""
    answer = client.post("/search", content=body)

    assert (400, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert "not JSON" in answer.json()["detail"]


@pytest.mark.parametrize("query_string", ["q=%ff", "q=%ed%a0%80", "&".join(["q=a"] * 100)])
def test_an_unreadable_query_string_is_400(client: Client, query_string: str) -> None:
    """Not UTF-8 behind the percent signs, or a flood of fields."""
    assert 400 == client.get(f"/search?{query_string}").status_code


@pytest.mark.parametrize("body", [b"[]", b'"lamp"', b"null", b"1"])
def test_json_that_is_no_object_is_422(client: Client, body: bytes) -> None:
    """Well-formed, but no request."""
    answer = client.post("/search", content=body)

    assert 422 == answer.status_code
    assert "a JSON object" in answer.json()["detail"]


def test_a_missing_query_is_422(client: Client) -> None:
    """The error names the field that is required."""
    problem = client.get("/search").json()

    assert "q" == problem["field"]
    assert "required" in problem["detail"]


def test_a_repeated_parameter_is_422(client: Client) -> None:
    """Neither value is silently taken."""
    problem = client.get("/search?q=lamp&size=5&size=6").json()

    assert "size" == problem["field"]
    assert "more than once" in problem["detail"]


def test_a_post_with_a_query_string_is_422(client: Client) -> None:
    """A field in the wrong place is not lost silently."""
    assert 422 == client.post("/search?size=3", json={"q": "lamp"}).status_code


def test_a_body_above_the_limit_is_413(client: Client) -> None:
    """65,536 bytes by default."""
    answer = client.post("/search", content=b'{"q": "' + b"x" * 70_000 + b'"}')

    assert 413 == answer.status_code
    assert "65536" in answer.json()["detail"]


def test_a_cursor_goes_with_its_own_request_only(client: Client) -> None:
    """Another query, country or radius than the cursor's is 422; so is a page number beside it."""
    cursor = client.get("/search", params={"q": "lamp"}).json()["cursor"]

    for other in ({"q": "sofa"}, {"country": "GB"}, {"min_score": 0.1}):
        answer = client.get("/search", params={"q": "lamp", "cursor": cursor, **other})
        assert (422, "cursor") == (answer.status_code, answer.json()["field"])
    answer = client.get("/search", params={"q": "lamp", "cursor": cursor, "page": 2})
    assert (422, "page") == (answer.status_code, answer.json()["field"])


def test_a_cursor_with_one_character_changed_is_422(client: Client) -> None:
    """The signature covers every bit."""
    cursor = client.get("/search", params={"q": "lamp"}).json()["cursor"]

    for at in range(0, len(cursor), 7):
        changed = cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :]
        assert 422 == client.get("/search", params={"q": "lamp", "cursor": changed}).status_code


def test_a_cursor_of_another_release_is_410_with_the_way_back(client: Client, catalogue_path: Path) -> None:
    """Its scores cannot be continued: `first_page` is the URL that starts the same search again."""
    ours = client.get("/search", params={"q": "red lamp", "size": 5}).json()["cursor"]
    codec = CursorCodec((catalogue_path / "cursor.key").read_bytes())
    old: Cursor = codec.decode(ours)._replace(release="last-year")

    answer = client.get("/search", params={"q": "red lamp", "size": 5, "cursor": codec.encode(old)})

    assert 410 == answer.status_code
    assert "/search?q=red+lamp&size=5" == answer.json()["first_page"]
    assert 200 == client.get(answer.json()["first_page"]).status_code


def test_unknown_paths_and_methods_are_problems(client: Client) -> None:
    """404 and 405 come in the same form as our own errors."""
    nowhere, wrong = client.get("/serach"), client.request("DELETE", "/search")

    assert (404, 405) == (nowhere.status_code, wrong.status_code)
    assert {"application/problem+json"} == {answer.headers["content-type"] for answer in (nowhere, wrong)}
    assert {"GET", "HEAD", "POST"} == set(wrong.headers["allow"].split(", "))


def test_the_allow_header_names_the_methods_of_all_routes_at_a_path(client: Client) -> None:
    """Each method has a route of its own there."""
    product, release = (client.request("PATCH", path) for path in ("/products/p1", "/admin/release"))

    assert {"GET", "PUT", "DELETE"} == set(product.headers["allow"].split(", "))
    assert {"GET", "POST"} == set(release.headers["allow"].split(", "))


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: f"q={text}&page=1".encode()))
def test_any_query_string_is_a_request_or_a_problem(raw: bytes) -> None:
    """No input reaches the server's own errors."""
    check(lambda: from_query_string(raw, SearchRequest))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
names = st.sampled_from([*SearchRequest.__struct_fields__, *EmbedRequest.__struct_fields__])


@given(st.dictionaries(names, json_values, max_size=5), st.sampled_from([SearchRequest, EmbedRequest]))
def test_any_json_object_is_a_request_or_a_problem(fields: dict[str, object], kind: type[msgspec.Struct]) -> None:
    """Any value of any type in any field."""
    check(lambda: from_json(msgspec.json.encode(fields), kind))


@pytest.mark.parametrize("digits", [30, 5_000])
def test_a_very_long_number_is_a_page_past_the_end_or_a_problem(client: Client, digits: int) -> None:
    """Python refuses to read numbers of more than 4,300 digits; the client hears 422."""
    answer = client.get("/search", params={"q": "lamp", "page": "9" * digits})

    assert answer.status_code == (200 if digits == 30 else 422)


def check(parse: Callable[[], object]) -> None:
    with contextlib.suppress(UnparsableError, InvalidFieldError):
        parse()
