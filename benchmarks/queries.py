"""The queries that a benchmark asks: distinct ones of a dataset's searchers, or the release's golden ones."""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from models.data.schema import Dataset
from models.errors import DataError
from models.runtime import Release
from service.schemas import MAX_QUERY

FEWEST_WORDS, MOST_WORDS = 3, 8


class Query(NamedTuple):
    """As a searcher asked it."""

    text: str
    country: str | None


class Queries(NamedTuple):
    """Distinct queries in the order in which they are asked, and where they are from."""

    queries: list[Query]
    source: str

    def conditions(self) -> dict[str, str | int]:
        """For a result's conditions."""
        return {"queries": self.source, "distinct_queries": len(self.queries)}


def choose(release: Release, data: Path | None, *, count: int, seed: int) -> Queries:
    """`count` searched queries of the dataset `data`; without one, the release's golden queries, however many.

    Raises:
        DataError: no such dataset, or it has too few queries.
        ReleaseError: the release's golden queries cannot be read.
    """
    if data is None:
        return Queries(golden(release), "golden")
    return Queries(searched(data, count=count, seed=seed), f"{FEWEST_WORDS}-{MOST_WORDS} words of {data.name}'s events")


def golden(release: Release) -> list[Query]:
    """As tuning sees them."""
    return [Query(query.query[:MAX_QUERY], query.country) for query in release.golden_queries()]


def searched(data: Path, *, count: int, seed: int) -> list[Query]:
    """Distinct queries of 3 to 8 words that were searched for, drawn evenly; equal seeds, equal queries.

    Raises:
        DataError: no such dataset, or it has too few of them.
    """
    if "events" not in Dataset.open(data).manifest.counts:
        raise DataError(f"{data} has no events, so no searches; leave --data out to ask the golden queries")
    found = _distinct(pl.scan_parquet(data / "events.parquet"))
    if len(found) < count:
        raise DataError(
            f"{data} has {len(found):,} distinct queries of {FEWEST_WORDS} to {MOST_WORDS} words, fewer than "
            f"{count:,}; ask for fewer with --queries or make a larger sample"
        )
    return [Query(*row) for row in found.sample(count, seed=seed, shuffle=True).rows()]


def _distinct(events: pl.LazyFrame) -> pl.DataFrame:
    """Each query once, from the first of its countries in the alphabet, in an order that does not depend on threads."""
    words = pl.col("query").str.strip_chars().str.split(" ").list.len()
    return (
        events.filter(pl.col("kind") == "search", words.is_between(FEWEST_WORDS, MOST_WORDS))
        .filter(pl.col("query").str.len_chars() <= MAX_QUERY)
        .group_by("query")
        .agg(pl.col("country").min())
        .sort("query")
        .collect()
    )
