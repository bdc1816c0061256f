"""Positive pairs, splits, head and golden queries."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.conversations import (
    conversations,
    golden_queries,
    head_queries,
    normalise,
    split_by_time,
    split_judgements,
    training_pairs,
)
from models.data.schema import EVENTS, PRODUCTS, Dataset, DatasetWriter
from models.errors import DataError

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
STEPS = ("search", "click", "message", "reply")


def journey(*steps: tuple[str, float], user: str = "u", query: str = "sofa", product: str = "p") -> list[dict]:
    """Events at the given hours after noon."""
    return [
        {
            "user": user,
            "session": "s",
            "query": query,
            "country": "US",
            "product_id": None if kind == "search" else product,
            "kind": kind,
            "time": NOON + timedelta(hours=hours),
            "language": "en",
        }
        for kind, hours in steps
    ]


def events(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(pa.Table.from_pylist(list(rows), EVENTS)))


def test_four_events_in_order_are_a_pair() -> None:
    """Search, click, message and reply within a day: one pair, dated by its search."""
    found = conversations(events(*journey(("search", 0), ("click", 1), ("message", 2), ("reply", 24))))

    assert [("sofa", "US", "en", "p", NOON)] == found.rows()


@pytest.mark.parametrize(
    "steps",
    [
        [("search", 0), ("click", 1), ("message", 2)],
        [("search", 0), ("message", 1), ("reply", 2)],
        [("click", 0), ("message", 1), ("reply", 2)],
        [("search", 0), ("click", 2), ("message", 1), ("reply", 3)],
        [("search", 3), ("click", 1), ("message", 2), ("reply", 4)],
        [("search", 0), ("click", 1), ("message", 2), ("reply", 24.01)],
    ],
    ids=["no reply", "no click", "no search", "message first", "search last", "late reply"],
)
def test_anything_less_is_no_pair(steps: list[tuple[str, float]]) -> None:
    """A missing step, a wrong order or a reply after 24 h make no pair."""
    assert conversations(events(*journey(*steps))).is_empty()


def test_steps_of_different_journeys_do_not_mix() -> None:
    """Another user, query or product cannot complete a conversation."""
    search, click, message = journey(("search", 0), ("click", 1), ("message", 2))
    replies = [
        *journey(("reply", 3), user="other"),
        *journey(("reply", 3), query="other"),
        *journey(("reply", 3), product="other"),
    ]

    assert conversations(events(search, click, message, *replies)).is_empty()


def test_latest_search_counts() -> None:
    """The same search two days later makes the pair that the first one was too early for."""
    steps = [("search", 0), ("click", 1), ("search", 48), ("click", 49), ("message", 50), ("reply", 51)]

    assert [NOON + timedelta(hours=48)] == conversations(events(*journey(*steps)))["time"].to_list()


def test_unknown_country_and_session_still_make_pairs() -> None:
    """Null keys match null keys."""
    rows = journey(("search", 0), ("click", 1), ("message", 2), ("reply", 3))
    blank = [row | {"country": None, "session": None} for row in rows]

    assert [("sofa", None, "en", "p", NOON)] == conversations(events(*blank)).rows()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 40)), max_size=10))
def test_pair_exists_exactly_where_four_events_fit(steps: list[tuple[str, float]]) -> None:
    """Trying all quadruples by hand gives the same answer."""
    hours = {kind: [h for k, h in steps if k == kind] for kind in STEPS}
    fits = any(
        s <= c <= m <= r <= s + 24
        for s in hours["search"]
        for c in hours["click"]
        for m in hours["message"]
        for r in hours["reply"]
    )

    assert fits == (not conversations(events(*journey(*steps))).is_empty())


def test_split_is_by_time() -> None:
    """Of 32 days the first 28 train, two validate, two test; nothing is lost."""
    days = [NOON + timedelta(days=day) for day in range(33)]
    pairs = pl.DataFrame({"query": "q", "product_id": "p", "time": days})

    split = split_by_time(pairs)

    assert (28, 2, 3) == tuple(part.height for part in split)
    assert split.train["time"].max() < split.validation["time"].min()
    assert split.validation["time"].max() < split.test["time"].min()


def test_head_queries_are_the_most_frequent() -> None:
    """Case and spaces do not make another query; ties are alphabetical."""
    pairs = pl.DataFrame({"query": ["Sofa", "sofa ", "bed", "ＢＥＤ", "car", "axe"]})

    assert ["bed", "sofa", "axe"] == head_queries(pairs, 3)


def test_judgements_are_split_by_query() -> None:
    """A query is in one part only, the parts make the whole, about a third validates, and it never changes."""
    judgements = pl.DataFrame({"query": [f"query {n}" for n in range(3000) for _ in range(2)]})

    validation, test = split_judgements(judgements)

    assert not set(validation["query"]) & set(test["query"])
    assert judgements.height == validation.height + test.height
    assert 0.3 < validation.height / judgements.height < 0.37
    assert ["query 7", "query 8", "query 13"] == validation["query"].unique(maintain_order=True).to_list()[:3]


def test_spelling_of_a_query_does_not_change_its_part() -> None:
    """The split hashes the normalised query."""
    validation, test = split_judgements(pl.DataFrame({"query": ["Red  Sofa", "red sofa", "ＲＥＤ sofa"]}))

    assert {0, 3} == {validation.height, test.height}
    assert "red sofa" == normalise(" Ｒed\tSOFA ")


def test_training_pairs_of_the_sample(market: Dataset) -> None:
    """Real conversations, later days held out, marked as not weak."""
    split = training_pairs(market, seed=0)

    assert ["query", "country", "language", "product_id", "time", "weak"] == split.train.columns
    assert not any(part["weak"].any() for part in split)
    assert split.train["time"].max() < split.validation["time"].min() < split.test["time"].min()
    assert 0.04 < split.test.height / sum(part.height for part in split) < 0.09


def test_events_without_conversation_are_refused(tmp_path: Path) -> None:
    """Searches alone cannot train; the message says what a conversation takes."""
    with DatasetWriter(tmp_path / "d", source="x", licence="x") as writer:
        writer.add_products(pa.Table.from_pylist([{"product_id": "p", "title": "sofa"}], PRODUCTS))
        writer.add_events(pa.Table.from_pylist(journey(("search", 0)), EVENTS))

    with pytest.raises(DataError, match="1 events but no conversation; expected search, click, message and reply"):
        training_pairs(Dataset.open(tmp_path / "d"), seed=0)


def test_golden_queries_are_stratified(market: Dataset) -> None:
    """Head, torso and tail, and every language within each, have nearly equal shares; equal seed, equal sample."""
    golden = golden_queries(market, size=180, seed=1)

    counts = golden.group_by("stratum", "language").len()
    assert 180 == golden.select("query", "country").n_unique()
    assert 18 == counts.height
    assert counts["len"].min() >= 9
    assert golden.equals(golden_queries(market, size=180, seed=1))


def test_head_queries_are_asked_more_often_than_tail_queries(market: Dataset) -> None:
    """The strata follow the number of searches."""
    golden = golden_queries(market, size=300, seed=1)
    searches = market.events().filter(pl.col("kind") == "search").group_by("query", "country", "language").len()
    asked = golden.join(searches, on=["query", "country", "language"])

    least = asked.filter(pl.col("stratum") == "head")["len"].min()
    assert least >= asked.filter(pl.col("stratum") == "torso")["len"].max()
    assert least > asked.filter(pl.col("stratum") == "tail")["len"].max()


def test_golden_queries_end_with_the_queries(market: Dataset) -> None:
    """Asking for more than there are gives all of them once."""
    searches = market.events().filter(pl.col("kind") == "search")
    golden = golden_queries(market, size=10**6, seed=0)

    assert searches.select("query", "country", "language").n_unique() == golden.height
