from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.queries import FEWEST_WORDS, MOST_WORDS, Query, choose, searched
from models.data.schema import EVENTS, Manifest
from models.errors import DataError
from models.runtime import open_release

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def dataset(path: Path, searches: list[tuple[str, str | None]], *, kind: str = "search") -> Path:
    """A dataset of events alone: nothing else is read here."""
    path.mkdir()
    events = [
        {"user": "u", "session": None, "query": query, "country": country, "product_id": None, "kind": kind}
        | {"time": NOON, "language": None}
        for query, country in searches
    ]
    pq.write_table(pa.Table.from_pylist(events, schema=EVENTS), path / "events.parquet")
    counts = {"events": len(events)}
    Manifest(source="test", licence="none", counts=counts, created="2026-01-01T00:00:00Z").save(path)
    return path


def test_only_searches_of_three_to_eight_words_are_drawn(tmp_path: Path) -> None:
    """Two words are too few, nine too many; spaces at the ends are no words."""
    long = "one two three four five six seven eight"
    asked = [("red dress", "US"), ("long red dress ", "US"), (long, None), (f"{long} nine", "US")]

    drawn = searched(dataset(tmp_path / "data", asked), count=2, seed=0)

    assert {Query("long red dress ", "US"), Query(long, None)} == set(drawn)


def test_a_query_is_drawn_once_with_the_first_of_its_countries(tmp_path: Path) -> None:
    """Asked from the US, from France and again from France: one query, from France."""
    asked = [("long red dress", "US"), ("long red dress", "FR"), ("long red dress", "FR")]

    assert [Query("long red dress", "FR")] == searched(dataset(tmp_path / "data", asked), count=1, seed=0)


def test_clicks_are_no_searches(tmp_path: Path) -> None:
    """A dataset of clicks alone has no query to ask."""
    data = dataset(tmp_path / "data", [("long red dress", "US")], kind="click")

    with pytest.raises(DataError, match=r"has 0 distinct queries of 3 to 8 words, fewer than 1; .* --queries"):
        searched(data, count=1, seed=0)


@given(seed=st.integers(0, 1000), count=st.integers(1, 50))
def test_a_draw_is_distinct_and_repeatable(seed: int, count: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the seed: no query twice, all of the right length, and the same ones in the same order again."""
    asked = [(f"thing number {at} of fifty", "US") for at in range(50)]
    data = dataset(tmp_path_factory.mktemp("drawn") / "data", asked)

    drawn = searched(data, count=count, seed=seed)

    assert count == len({query.text for query in drawn})
    assert all(FEWEST_WORDS <= len(query.text.split()) <= MOST_WORDS for query in drawn)
    assert drawn == searched(data, count=count, seed=seed)


def test_without_a_dataset_the_golden_queries_are_asked(release_dir: Path) -> None:
    """All of them, as the release has them, whatever number was asked for."""
    release = open_release(release_dir)

    chosen = choose(release, None, count=1, seed=0)

    assert [(query.query, query.country) for query in release.golden_queries()] == chosen.queries
    assert {"queries": "golden", "distinct_queries": len(chosen.queries)} == chosen.conditions()
