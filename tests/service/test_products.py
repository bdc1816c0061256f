"""Writing products over HTTP: acknowledged when on disk, found when published, refused with the field that is wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.helpers import small_featurizer
from tests.service.real_server import Server, server
from tests.small_release import small_catalogue, small_release

LAMP = {"title": "violet lava lamp", "price": 12.5, "country": "US", "category": "Home > Lamps"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, with its indexer: other tests must not see what is written here."""
    release = small_release(tmp_path_factory.mktemp("releases"), featurizer=small_featurizer())
    catalogue = small_catalogue(tmp_path_factory.mktemp("home"), release, products=300, factory="IVF16,Flat")
    with server(
        Settings(release=release, catalogue=catalogue, warmup_queries=3, timeout_ms=60_000, max_standing_ms=1_000)
    ) as running:
        yield running


@pytest.fixture
def http(running: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60) as client:
        yield client


def put(http: httpx.Client, product_id: str, product: dict[str, Any], **headers: str) -> httpx.Response:
    return http.put(f"/products/{product_id}", params={"wait": "searchable"}, json=product, headers=headers)


def found(http: httpx.Client, **fields: Any) -> list[str]:
    """The ids that an exact search finds."""
    answer = http.get("/search", params={"effort": "exact", "size": 100, **fields})
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def test_a_written_product_is_found_by_meaning_words_and_filters(http: httpx.Client) -> None:
    """As soon as the write that waits for it returns; before that it was nowhere."""
    assert "new-1" not in found(http, q="ochre candelabrum")
    answer = put(http, "new-1", LAMP | {"title": "ochre candelabrum"})

    assert (200, True, True) == (answer.status_code, answer.json()["searchable"], answer.json()["changed"])
    assert "new-1" in found(http, q="ochre candelabrum")
    assert ["new-1"] == found(http, q="candelabrum", mode="lexical")
    assert "new-1" in found(http, q="lamp", filter='category = "Home > Lamps" AND price = 12.5')


def test_a_changed_product_is_found_by_what_it_is_now(http: httpx.Client) -> None:
    """Not by what it was; once, not twice."""
    put(http, "new-2", LAMP)
    put(http, "new-2", {"title": "purple teapot", "price": 3})

    assert "new-2" in found(http, q="teapot", mode="lexical")
    assert "new-2" not in found(http, q="lava", mode="lexical")
    assert 1 == found(http, q="purple teapot").count("new-2")
    assert "new-2" not in found(http, q="lamp", price_min=12)


def test_a_deleted_product_is_gone(http: httpx.Client) -> None:
    """From every mode and from GET; deleting it again is 404; written again it comes back under its old number."""
    put(http, "new-3", LAMP)
    answer = http.delete("/products/new-3", params={"wait": "searchable"})

    assert 200 == answer.status_code
    assert "new-3" not in found(http, q="violet lava lamp")
    assert "new-3" not in found(http, q="lava", mode="lexical")
    assert 404 == http.get("/products/new-3").status_code
    assert 404 == http.delete("/products/new-3").status_code
    put(http, "new-3", LAMP)
    assert "new-3" in found(http, q="violet lava lamp")


def test_without_waiting_a_write_is_202(http: httpx.Client) -> None:
    """It tells its version, which GET tells too; an unchanged product keeps it."""
    first = http.put("/products/new-4", json=LAMP)
    again = http.put("/products/new-4", json=LAMP)
    kept = http.get("/products/new-4")

    assert (202, False) == (first.status_code, first.json()["searchable"])
    assert (202, False) == (again.status_code, again.json()["changed"])
    assert first.headers["etag"] == again.headers["etag"] == kept.headers["etag"]
    assert LAMP.items() <= kept.json().items()
    assert "new-4" == kept.json()["id"]


def test_a_version_guards_against_overwriting(http: httpx.Client) -> None:
    """If-Match with another version is 409 and changes nothing; If-None-Match: * only makes new products."""
    version = put(http, "new-5", LAMP).headers["etag"]

    assert 409 == put(http, "new-5", {"title": "other"}, **{"If-Match": '"1"'}).status_code
    assert 409 == put(http, "new-5", {"title": "other"}, **{"If-None-Match": "*"}).status_code
    assert "violet lava lamp" == http.get("/products/new-5").json()["title"]
    assert 200 == put(http, "new-5", {"title": "other"}, **{"If-Match": version}).status_code
    assert 200 == put(http, "newer", LAMP, **{"If-None-Match": "*"}).status_code


@pytest.mark.parametrize(
    ("product", "field"),
    [
        ({}, "title"),
        ({"title": ""}, "title"),
        ({"title": "x", "price": -1}, "price"),
        ({"title": "x", "colour": "red"}, "colour"),
        ({"title": "x", "id": "another"}, "id"),
        ({"title": "x", "created_at": "yesterday"}, "created_at"),
        ({"title": "x", "image_vectors": [[1.0]]}, "image_vectors"),
        ({"title": "x", "attributes": {"a": 1}}, "attributes"),
    ],
)
def test_a_wrong_product_is_refused_by_its_field(http: httpx.Client, product: dict[str, Any], field: str) -> None:
    """422, and nothing is stored."""
    answer = http.put("/products/wrong", json=product)

    assert 422 == answer.status_code
    assert answer.json()["field"].startswith(field)
    assert 404 == http.get("/products/wrong").status_code


@pytest.mark.parametrize("product_id", ["x" * 129, "a%00b", "a%1fb"])
def test_a_wrong_id_is_refused(http: httpx.Client, product_id: str) -> None:
    """Too long, or with control characters."""
    answer = http.put(f"/products/{product_id}", json=LAMP)

    assert (422, "id") == (answer.status_code, answer.json()["field"])


def test_ids_may_hold_anything_else(http: httpx.Client) -> None:
    """Slashes, spaces, letters of any kind: up to 128 bytes, as the path spells them."""
    for product_id in ("a/b/c", "a b", "é" * 64, "日本", "?#&="):
        path = f"/products/{httpx.QueryParams({'': product_id})}".replace("/products/=", "/products/").replace(
            "+", "%20"
        )
        assert 202 == http.put(path, json=LAMP).status_code
        assert product_id == http.get(path).json()["id"]


def test_lines_have_a_result_each(http: httpx.Client) -> None:
    """Products and deletions; a wrong line spoils no other; empty lines count but have none."""
    lines = [
        '{"id": "line-1", "title": "amber vase"}',
        "",
        '{"id": "line-2"}',
        "not json",
        '{"delete": "nowhere"}',
        '{"delete": "line-1"}',
        '{"id": "line-3", "title": "amber bowl"}',
    ]
    answer = http.post("/products", content="\n".join(lines))
    results = [httpx.Response(200, content=line).json() for line in answer.text.splitlines()]

    assert [(1, 202), (3, 422), (4, 400), (5, 404), (6, 202), (7, 202)] == [
        (result["line"], result["status"]) for result in results
    ]
    assert "title" == results[1]["field"]
    assert 404 == http.get("/products/line-1").status_code


def test_a_load_that_broke_off_goes_on(http: httpx.Client) -> None:
    """The same key: lines that are done are not written again; another body under it does not matter for those."""
    lines = [f'{{"id": "resumed-{at}", "title": "tin {at}"}}' for at in range(600)]
    http.post("/products", content="\n".join(lines[:300]), headers={"Idempotency-Key": "load-1"})
    answer = http.post("/products", content="\n".join(lines), headers={"Idempotency-Key": "load-1"})
    results = [httpx.Response(200, content=line).json() for line in answer.text.splitlines()]

    assert [True] * 300 == [result.get("done_before", False) for result in results[:300]]
    assert [202] * 300 == [result["status"] for result in results[300:]]


def test_a_line_that_is_too_long_ends_the_request(http: httpx.Client) -> None:
    """413; the groups before it are written, and the key says how far."""
    answer = http.post("/products", content=b'{"id": "long", "title": "' + b"x" * 300_000 + b'"}')

    assert 413 == answer.status_code


def test_a_killed_indexer_loses_nothing(running: Server, http: httpx.Client) -> None:
    """It is started again and publishes what was acknowledged meanwhile."""
    import psutil

    for child in psutil.Process(running.process.pid).children(recursive=True):
        if "service.indexer" in child.cmdline():
            child.kill()
    assert 202 == http.put("/products/after-kill", json=LAMP).status_code
    assert 200 == put(http, "after-kill-2", LAMP).status_code

    assert {"after-kill", "after-kill-2"} <= set(found(http, q="violet lava lamp"))


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """What was acknowledged when the server was killed, searchable or not."""
    release = small_release(tmp_path / "releases", featurizer=small_featurizer())
    catalogue = small_catalogue(tmp_path / "home", release, products=100, factory="Flat")
    settings = Settings(
        release=release, catalogue=catalogue, warmup_queries=3, timeout_ms=60_000, max_standing_ms=1_000
    )
    with server(settings) as running:
        for at in range(20):
            assert 202 == httpx.put(f"{running.url}/products/p-{at}", json=LAMP).status_code
        running.process.kill()
        running.process.wait()
    with server(settings) as again, httpx.Client(base_url=again.url, timeout=60) as http:
        assert 200 == put(http, "last", LAMP).status_code
        assert {f"p-{at}" for at in range(20)} <= set(found(http, q="violet lava lamp"))
