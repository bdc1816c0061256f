"""POST /search/batch: what single searches answer, in one request."""

from typing import Any

import httpx
import pytest

from tests.service.harness import Client
from tests.service.test_observability import metric

SEARCHES: list[dict[str, Any]] = [
    {"q": "green guitar"},
    {"q": "lamp", "country": "US", "size": 3},
    {"q": "lamp", "page": 2, "effort": "exact"},
    {"q": "guitar", "mode": "lexical"},
    {"q": "red lamp", "mode": "hybrid", "explain": True},
    {"q": "long " * 60},
]


def batch(client: Client, searches: object) -> httpx.Response:
    return client.post("/search/batch", json={"searches": searches})


def without_timings(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "timings_us"}


def test_each_answer_is_that_of_the_search_alone(client: Client) -> None:
    """Whatever mode, page and options; padding to the longest query of the batch changes no hit."""
    answers = batch(client, SEARCHES).json()["answers"]
    alone = [client.post("/search", json=search).json() for search in SEARCHES]

    assert [without_timings(answer) for answer in alone] == [without_timings(answer) for answer in answers]


def test_a_wrong_search_has_a_problem_in_its_place(client: Client) -> None:
    """The others are answered; each problem names its field and value."""
    answers = batch(client, [{"q": "lamp"}, {"q": "lamp", "size": 0}, {"sise": 1}, {"q": "lamp", "cursor": "x"}]).json()
    right, *wrong = answers["answers"]

    assert right["hits"]
    assert [(422, "size"), (422, "sise"), (422, "cursor")] == [(each["status"], each["field"]) for each in wrong]
    assert all(each["request_id"] for each in wrong)


@pytest.mark.parametrize("searches", [[], [{"q": "lamp"}] * 65, "lamp", [1], None])
def test_what_is_no_batch_is_refused_as_a_whole(client: Client, searches: object) -> None:
    """1 to 64 objects; the problem names the field."""
    answer = batch(client, searches)

    assert 422 == answer.status_code
    assert answer.json()["field"].startswith("searches")


def test_every_search_of_a_batch_is_counted(client: Client) -> None:
    """As if it had come alone."""
    counts = [
        'q2s_request_seconds_count{effort="low",mode="vector",page="first"}',
        'q2s_request_seconds_count{effort="high",mode="vector",page="later"}',
        'q2s_problems_total{status="422"}',
    ]
    before = [metric(client, line) for line in counts]
    batch(client, [{"q": "lamp"}, {"q": "lamp"}, {"q": "lamp", "page": 2}, {"q": ""}])

    assert [2, 1, 1] == [metric(client, line) - count for line, count in zip(counts, before, strict=True)]
