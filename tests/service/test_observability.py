"""Request ids, logs, metrics, the 500 that nobody planned."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from index.operating_points import EFFORTS
from models.features import QueryFeatures
from service.settings import Settings
from tests.service.fakes import LengthRelease, listed_pipeline
from tests.service.harness import Client, application

LISTS = dict.fromkeys(EFFORTS, range(50))


class BrokenRelease(LengthRelease):
    """Fails on the query `boom`."""

    def _features(self, text: str, country: str | None) -> QueryFeatures:
        if text == "boom":
            raise ZeroDivisionError("secret detail")
        return super()._features(text, country)


@pytest.fixture
def log() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def listed(log: io.BytesIO) -> Iterator[Client]:
    pipeline = listed_pipeline(LISTS, parts={"release": BrokenRelease()})
    with application(Settings(access_log_every=1, timeout_ms=60_000), log=log, load=lambda _: pipeline) as client:
        yield client


def lines(log: io.BytesIO, event: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == event]


def metric(client: Client, line: str) -> float:
    """The value of one line of /metrics; 0 when it is not there."""
    found = [row for row in client.get("/metrics").text.splitlines() if row.startswith(f"{line} ")]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def test_a_sane_request_id_is_kept_and_another_one_replaced(listed: Client) -> None:
    """It goes into a header and a log, so only plain characters pass."""
    for given, kept in (("trace-42.a_B", True), ("a b", False), ("x" * 129, False), ('"}', False)):
        answer = listed.get("/livez", headers={"X-Request-Id": given})
        assert kept == (answer.headers["x-request-id"] == given)


def test_every_request_has_an_id_of_its_own(listed: Client) -> None:
    """Also those that fail."""
    ids = [listed.get(path).headers["x-request-id"] for path in ("/livez", "/livez", "/nowhere", "/search")]

    assert 4 == len(set(ids))


def test_an_unexpected_error_is_a_problem_without_its_detail(listed: Client, log: io.BytesIO) -> None:
    """The client gets the request id, the log the traceback under it; the next search is answered."""
    answer = listed.get("/search", params={"q": "boom"})
    logged = lines(log, "unexpected error")

    assert (500, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert "secret" not in answer.text
    assert [answer.json()["request_id"]] == [line["request_id"] for line in logged]
    assert "ZeroDivisionError: secret detail" in logged[0]["exception"]
    assert 200 == listed.get("/search", params={"q": "lamp"}).status_code


def test_the_access_log_is_json_with_the_stages(listed: Client, log: io.BytesIO) -> None:
    """One object a line: id, path, status, times; never the query text."""
    answer = listed.get("/search", params={"q": "wedding gift"})
    logged = lines(log, "request")[-1]

    assert answer.headers["x-request-id"] == logged["request_id"]
    assert ("GET", "/search", 200, "info") == (logged["method"], logged["path"], logged["status"], logged["level"])
    assert answer.json()["timings_us"] == logged["timings_us"]
    assert b"wedding" not in log.getvalue()


def test_the_access_log_is_sampled_but_failures_are_not(log: io.BytesIO) -> None:
    """With `access_log_every` 0 only the 500 leaves a line."""
    pipeline = listed_pipeline(LISTS, parts={"release": BrokenRelease()})
    with application(Settings(access_log_every=0), log=log, load=lambda _: pipeline) as client:
        for text in ("lamp", "boom", "lamp"):
            client.get("/search", params={"q": text})

    assert [500] == [line["status"] for line in lines(log, "request") if line["path"] == "/search"]


def test_metrics_count_pages_efforts_and_stages(listed: Client) -> None:
    """Three first pages and two later ones, by effort, under the names of the contract."""
    for page in (1, 1, 1, 2, 3):
        listed.get("/search", params={"q": "lamp", "page": page})

    assert 3 == metric(listed, 'q2s_request_seconds_count{effort="low",mode="vector",page="first"}')
    assert 2 == metric(listed, 'q2s_request_seconds_count{effort="high",mode="vector",page="later"}')
    assert 3 == metric(listed, 'q2s_effort_total{degraded="false",effort="low"}')
    for stage in ("featurise", "query_tower", "ann", "products"):
        assert 5 == metric(listed, f'q2s_stage_seconds_count{{stage="{stage}"}}')
    assert 1 == metric(listed, 'q2s_release_info{engine="onnx",generation="7",release="small"}')


def test_refused_requests_are_not_counted_as_answered(listed: Client) -> None:
    """A 422 is no search."""
    listed.get("/search", params={"q": "lamp", "size": 0})

    assert 0 == metric(listed, 'q2s_effort_total{degraded="false",effort="low"}')


def test_failed_searches_are_counted_by_status(listed: Client) -> None:
    """Two 422, one 500; a 404 elsewhere is no search; every status is there at zero before its first."""
    assert 'q2s_problems_total{status="503"} 0.0' in listed.get("/metrics").text
    for path in ("/search?q=lamp&size=0", "/search", "/search?q=boom", "/nowhere", "/search?q=lamp"):
        listed.get(path)

    assert (2, 1, 0) == tuple(metric(listed, f'q2s_problems_total{{status="{status}"}}') for status in (422, 500, 404))


def test_buckets_reach_from_50_us_to_50_ms(listed: Client) -> None:
    """With a bound at the budget of 1.5 ms, so that its share can be read off."""
    listed.get("/search", params={"q": "lamp"})
    rows = [row for row in listed.get("/metrics").text.splitlines() if row.startswith("q2s_request_seconds_bucket")]
    bounds = [row.split('le="')[1].split('"')[0] for row in rows]

    assert ("5e-05", "0.05", "+Inf") == (bounds[0], bounds[-2], bounds[-1])
    assert "0.0015" in bounds


def test_a_client_that_leaves_in_mid_body_is_no_error(listed: Client, log: io.BytesIO) -> None:
    """Nothing is sent and nothing is logged as failed; its place in flight is free again."""
    sent: list[object] = []

    async def post(_: object) -> None:
        scope = {"type": "http", "method": "POST", "path": "/search", "query_string": b"", "headers": []}
        messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

        async def receive() -> dict[str, Any]:
            return next(messages)

        async def send(message: object) -> None:
            sent.append(message)

        await listed.app(scope, receive, send)

    for _ in range(300):  # more than may be in flight
        listed.run(post)

    assert [] == sent
    assert [] == lines(log, "unexpected error")
    assert 200 == listed.get("/search", params={"q": "lamp"}).status_code
