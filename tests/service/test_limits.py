"""Who may not write, and how much nobody may send: each of the limits, at the real application."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from service.errors import DeadlineError
from service.keys import new_key
from service.routes.bulk import lines_of
from service.settings import Settings
from tests.helpers import small_featurizer
from tests.service.harness import Client, application
from tests.small_release import small_catalogue, small_release

WRITES: list[tuple[str, str, dict[str, Any]]] = [
    ("PUT", "/products/new", {"json": {"title": "lamp"}}),
    ("DELETE", "/products/p1", {}),
    ("POST", "/products", {"content": b'{"id": "new", "title": "lamp"}'}),
    ("POST", "/admin/release", {"json": {"release": "small"}}),
]
FROM_HERE = {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1", "X-Real-IP": "::1", "Host": "localhost"}


def made(home: Path) -> Settings:
    """A release and a catalogue, with no process that embeds."""
    release = small_release(home / "releases", featurizer=small_featurizer())
    catalogue = small_catalogue(home, release, products=60)
    return Settings(release=release, catalogue=catalogue, warmup_queries=2, timeout_ms=60_000, max_standing_ms=10_000)


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    return made(tmp_path)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with application(made(tmp_path_factory.mktemp("home"))) as client:
        yield client


@pytest.mark.parametrize("headers", [{}, FROM_HERE], ids=["plain", "as if from this machine"])
def test_a_server_that_others_reach_takes_no_write_without_keys(own: Settings, headers: dict[str, str]) -> None:
    """403 by every way of writing, which says how to make a key, whatever a header says of the client; it searches."""
    reachable = own.model_copy(update={"host": "0.0.0.0"})  # noqa: S104 - that is the point
    with application(reachable) as client:
        answers = [client.request(method, path, headers=headers, **options) for method, path, options in WRITES]

        assert [403] * 4 == [answer.status_code for answer in answers]
        assert all("que2search key" in answer.json()["detail"] for answer in answers)
        assert 200 == client.get("/search", params={"q": "lamp"}, headers=headers).status_code
        assert 404 == client.get("/products/new").status_code


def test_with_keys_no_write_passes_without_one(own: Settings, tmp_path: Path) -> None:
    """401 without a key, with a wrong one, and with a hash out of the file; 403 with one that may only read."""
    (_, key), (reader, reader_key) = new_key("shop", "admin"), new_key("page", "read")
    (tmp_path / "keys").write_text(key.line() + reader_key.line())
    with application(own.model_copy(update={"keys_file": tmp_path / "keys"})) as client:
        for headers, status in (({}, 401), ({"X-API-Key": "wrong"}, 401), ({"X-API-Key": key.digest}, 401)):
            answers = [client.request(*route, headers=headers, **options) for *route, options in WRITES]
            assert [status] * 4 == [answer.status_code for answer in answers]
        answers = [client.request(*route, headers={"X-API-Key": reader}, **options) for *route, options in WRITES]
        assert [403] * 4 == [answer.status_code for answer in answers]
        assert 404 == client.get("/products/new", headers={"X-API-Key": reader}).status_code


def test_a_page_of_another_site_writes_nothing(client: Client) -> None:
    """A browser on this machine would send its requests, but tells their origin."""
    headers = {"Origin": "https://shop.example"}
    answers = [client.request(method, path, headers=headers, **options) for method, path, options in WRITES]

    assert [403] * 4 == [answer.status_code for answer in answers]


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("POST", "/search", {"content": b"x" * 65_537}, 413),
        ("POST", "/search/batch", {"content": b"x" * 65_537}, 413),
        ("POST", "/embed", {"content": b"x" * 65_537}, 413),
        ("POST", "/admin/release", {"content": b"x" * 65_537}, 413),
        ("PUT", "/products/a", {"content": b"x" * 262_145}, 413),
        ("POST", "/products", {"content": b"x" * 262_145}, 413),
        ("POST", "/products", {"content": b"\n" * 100_001}, 413),
        ("POST", "/products", {"content": b"{}", "headers": {"Idempotency-Key": ""}}, 422),
        ("POST", "/products", {"content": b"{}", "headers": {"Idempotency-Key": "k" * 256}}, 422),
        ("POST", "/search", {"content": b'{"q": ' + b"[" * 30_000}, 400),
        ("POST", "/search", {"content": b'{"q": "lamp", "more": ' + b"[" * 3_000 + b"]" * 3_000 + b"}"}, 400),
        ("PUT", "/products/a", {"content": b'{"title": "a", "attributes": ' + b'{"a":' * 50_000}, 400),
        ("PUT", "/products/" + "a" * 129, {"json": {"title": "lamp"}}, 422),
        ("GET", "/search?q=a" + "&x=1" * 64, {}, 400),
        ("GET", "/search", {"params": {"q": "a", "filter": "x" * 2_049}}, 422),
        ("GET", "/search", {"params": {"q": "a", "filter": "(" * 17 + "price < 1" + ")" * 17}}, 422),
        ("GET", "/search", {"params": {"q": "a", "filter": " AND ".join(["price < 1"] * 65)}}, 422),
        ("GET", "/search", {"params": {"q": "a", "filter": f"brand IN ({','.join('a' * 101)})"}}, 422),
        ("GET", "/search", {"params": {"q": "a", "cursor": "A" * 4_097}}, 422),
        ("POST", "/search/batch", {"json": {"searches": [{"q": "lamp"}] * 65}}, 422),
    ],
)
def test_a_limit_holds(client: Client, method: str, path: str, options: dict[str, Any], status: int) -> None:
    """Bodies, lines, nesting, names, fields, filters, cursors: refused in words, and the next search is answered."""
    answer = client.request(method, path, **options)

    assert (status, status) == (answer.status_code, answer.json()["status"])
    assert len(answer.content) < 1_000
    assert 200 == client.get("/search", params={"q": "lamp"}).status_code


@pytest.mark.parametrize("line", [b"[" * 3_000, b'{"id": "a", "title": "t", "attributes": ' + b'{"a":' * 3_000])
def test_a_nested_line_spoils_no_other(client: Client, line: bytes) -> None:
    """It is 400 as one of the lines; the next one is written."""
    answer = client.post("/products", content=line + b'\n{"id": "after", "title": "lamp"}')

    assert ['"status":400', '"status":202'] == [part for text in answer.text.split() for part in text.split(",")[1:2]]


@pytest.mark.parametrize("page", [11, 10**6, 10**30])
def test_pages_end_at_a_thousand_hits(client: Client, page: int) -> None:
    """What lies behind is empty and has no cursor, however deep one asks."""
    answer = client.get("/search", params={"q": "lamp", "page": page, "size": 100})

    assert (200, [], None) == (answer.status_code, answer.json()["hits"], answer.json()["cursor"])


def test_a_bulk_load_that_stalls_is_given_up() -> None:
    """The lines before are written; nobody holds a connection by sending nothing."""

    async def stalling() -> Message:
        if pieces:
            return pieces.pop()
        await asyncio.Event().wait()
        raise AssertionError("never woken")

    async def load() -> None:
        async for line in lines_of(stalling, max_line_bytes=100, idle_s=0.01):
            read.append(line)  # noqa: PERF401 - what came before the error counts

    pieces: list[Message] = [{"type": "http.request", "body": b"one\ntwo", "more_body": True}]
    read: list[bytes] = []
    with pytest.raises(DeadlineError, match="no more of the body"):
        asyncio.run(load())
    assert [b"one"] == read
