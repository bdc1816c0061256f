import json
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from benchmarks.load_walk import CheckError, Walk, check_status
from models.runtime import GoldenQuery
from tests.benchmarks.fake_service import search_answer

Answer = dict[str, Any]


def body(page: int, change: Callable[[Answer], object] = len) -> bytes:
    answer = search_answer("lamp", page=page)
    change(answer)
    return json.dumps(answer).encode()


def fields(target: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(target).query)


def test_a_walk_follows_the_cursor_to_the_last_page() -> None:
    """First page by query, later ones by query and cursor; then nothing follows."""
    walk = Walk(GoldenQuery(query="rote lämp & co", country="DE"))
    rows, cursors = [], []
    for page in (1, 2, 3):
        rows.append(walk.row)
        asked = fields(walk.target)
        cursors.append(asked.get("cursor"))
        walk.accept(200, body(page))

        assert (["rote lämp & co"], ["DE"]) == (asked["q"], asked["country"])
    assert ["first page", "later page", "later page"] == rows
    assert [None, ["2"], ["3"]] == cursors
    assert not walk.goes_on(Random(0))


def test_people_page_deeper_with_falling_probability() -> None:
    """Half of them want page 2, a quarter of those page 3."""
    draw = Random(0)
    wanted = {1: 0, 2: 0}
    for _ in range(10_000):
        walk = Walk(GoldenQuery(query="lamp"))
        for page in wanted:
            walk.accept(200, body(page))
            wanted[page] += walk.goes_on(draw)

    assert {1: 0.5, 2: 0.25} == pytest.approx({page: count / 10_000 for page, count in wanted.items()}, abs=0.02)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda answer: answer["search"].pop("effort"), "not a search's answer"),
        (lambda answer: answer["search"].pop("nprobe"), "not a search's answer"),
        (lambda answer: answer.pop("cursor"), "not a search's answer"),
        (lambda answer: answer["search"].update(effort="heroic"), "not a search's answer"),
        (lambda answer: answer.update(page=2), "another page"),
        (lambda answer: answer["hits"].pop(), "wrong number of hits"),
        (lambda answer: answer["hits"].append(answer["hits"][-1]), "wrong number of hits"),
        (lambda answer: answer.update(hits=[], cursor=None), "wrong number of hits"),
        (lambda answer: answer["hits"].reverse(), "hits out of order"),
        (lambda answer: answer["hits"][3].update(id="p2"), "a product came twice"),
    ],
)
def test_what_the_api_does_not_promise_is_a_named_failure(change: Callable[[Answer], object], reason: str) -> None:
    """And ends the walk: the next request starts another one."""
    walk = Walk(GoldenQuery(query="lamp"))

    with pytest.raises(CheckError) as failure:
        walk.accept(200, body(1, change))

    assert reason == failure.value.reason
    assert not walk.goes_on(Random(0))


def test_ids_are_unique_across_the_whole_walk() -> None:
    """A product of page 1 that comes back on page 2 is named."""
    walk = Walk(GoldenQuery(query="lamp"))
    walk.accept(200, body(1))

    with pytest.raises(CheckError, match="came twice: p9"):
        walk.accept(200, body(2, lambda answer: answer["hits"][0].update(id="p9")))


def test_a_short_last_page_and_an_index_without_nprobe_are_fine() -> None:
    """Null is a value, and the last page has what is left."""
    walk = Walk(GoldenQuery(query="lamp"))
    walk.accept(200, body(1, lambda answer: answer["search"].update(nprobe=None)))

    assert 4 == len(walk.accept(200, body(2, lambda a: a.update(hits=a["hits"][:4], cursor=None))).hits)


def test_a_status_other_than_200_is_named() -> None:
    """By its number; 0 stands for a broken connection."""
    for status, reason in ((429, "status 429"), (503, "status 503"), (0, "no answer")):
        with pytest.raises(CheckError) as failure:
            check_status(status, b"why")
        assert reason == failure.value.reason
    check_status(200, b"")
