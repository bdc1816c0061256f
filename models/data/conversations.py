"""Positive pairs from events, and the queries that matter.

A conversation is search -> click -> message -> reply within a window (24 h): the positive pair of Que2Search
(section 3.2). Evaluation looks at later days than training did.
"""

import hashlib
from datetime import timedelta
from typing import NamedTuple

import polars as pl

from models.data.schema import EVENT_KINDS, Dataset
from models.data.weak import weak_pairs
from models.errors import DataError
from models.features import normalise

# Of the time that the events span: 1/16 each for validation and test (3.5 days each of eight weeks).
HELD_OUT_SHARE = 1 / 16
# Of the products of a catalogue without events.
WEAK_HELD_OUT_PERCENT = 5

_JOURNEY = ["user", "session", "query", "country", "product_id"]


class PairSplit(NamedTuple):
    """Positive pairs: query, country|null, language|null, product_id, time|null, weak."""

    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame


def conversations(events: pl.DataFrame, *, window: timedelta = timedelta(hours=24)) -> pl.DataFrame:
    """One row per positive pair and journey: query, country, language, product_id, time (of its last search).

    The four events must come in this order, by the same user in the same session, for the same query and
    product, the reply at most `window` after the search. Equal times count as in order.
    """
    keyed = events.with_columns(pl.col("session", "country").fill_null(""))
    search, click, message, reply = (keyed.filter(pl.col("kind") == kind) for kind in EVENT_KINDS)
    # From each reply backwards to the LATEST message, click and search before it: if any four fit, these do.
    chain = reply.sort("time").with_columns(pl.col("time").alias("reply_time"))
    for step, keys in ((message, _JOURNEY), (click, _JOURNEY), (search, _JOURNEY[:-1])):
        earlier = step.select(*keys, "time", earlier="time").sort("time")
        chain = (
            chain.sort("time")
            .join_asof(earlier, on="time", by=keys, strategy="backward", check_sortedness=False)
            .drop_nulls("earlier")
            .with_columns(time="earlier")
            .drop("earlier")
        )
    found = chain.filter(pl.col("reply_time") - pl.col("time") <= window)
    return (
        found.unique([*_JOURNEY, "time"])
        .with_columns(country=pl.col("country").replace("", None))
        .sort("time", *_JOURNEY)
        .select("query", "country", "language", "product_id", "time")
    )


def training_pairs(dataset: Dataset, *, seed: int) -> PairSplit:
    """Conversations split by time; weak pairs of the catalogue's own text where there are no events.

    Raises DataError where neither gives a pair.
    """
    events = dataset.events()
    if events.is_empty():
        return _split_by_product(weak_pairs(dataset.products(), seed=seed), seed)
    pairs = conversations(events).with_columns(weak=pl.lit(value=False))
    if pairs.is_empty():
        raise DataError(
            f"{dataset.path}: {events.height} events but no conversation; expected search, click, message and "
            "reply of one user, session, query and product within 24 h"
        )
    return split_by_time(pairs)


def split_by_time(pairs: pl.DataFrame) -> PairSplit:
    """The last 1/16 of the time is the test, the 1/16 before it the validation, the rest is for training."""
    time = pl.col("time")
    last, span = time.max(), time.max() - time.min()
    test_from, validation_from = last - span * HELD_OUT_SHARE, last - span * (2 * HELD_OUT_SHARE)
    return PairSplit(
        train=pairs.filter(time < validation_from),
        validation=pairs.filter((time >= validation_from) & (time < test_from)),
        test=pairs.filter(time >= test_from),
    )


def _split_by_product(pairs: pl.DataFrame, seed: int) -> PairSplit:
    """A product is in one part only; which one depends on its id and the seed."""
    if pairs.is_empty():
        raise DataError("no weak pair could be derived: the products have no words in title, brand or category")
    buckets = {id_: _bucket(f"{seed}:{id_}", 100) for id_ in pairs["product_id"].unique().to_list()}
    bucket = pl.col("product_id").replace_strict(buckets, return_dtype=pl.Int64)
    held = WEAK_HELD_OUT_PERCENT
    return PairSplit(
        train=pairs.filter(bucket >= 2 * held),
        validation=pairs.filter((bucket >= held) & (bucket < 2 * held)),
        test=pairs.filter(bucket < held),
    )


def head_queries(pairs: pl.DataFrame, n: int, *, least: int = 1) -> list[str]:
    """The `n` most frequent queries that have `least` pairs or more, normalised; ties in alphabetical order."""
    frequent = _frequencies(pairs.select("query")).filter(pl.col("count") >= least)
    return frequent.head(n)["query"].to_list()


def golden_queries(dataset: Dataset, *, size: int, seed: int) -> pl.DataFrame:
    """Real queries to tune on: query, country|null, language|null, stratum (head, torso, tail).

    Each stratum holds a third of the searches; all three, and every language within them, are sampled as evenly
    as they allow. Without events the queries are those of the weak pairs. Fewer than `size` where there are no more.
    """
    events = dataset.events()
    asked = (
        weak_pairs(dataset.products(), seed=seed) if events.is_empty() else events.filter(pl.col("kind") == "search")
    )
    columns = ["query", "country", "language"]
    counted = asked.group_by(columns).len("count").sort(["count", *columns], descending=[True, False, False, False])
    volume = pl.col("count").cum_sum() - pl.col("count")
    stratum = (volume * 3 // pl.col("count").sum()).replace_strict({0: "head", 1: "torso", 2: "tail"})
    shuffled = counted.with_columns(stratum=stratum).sample(fraction=1, shuffle=True, seed=seed)
    turn = pl.int_range(pl.len()).over("stratum", "language")
    return shuffled.with_columns(turn=turn).sort("turn", "stratum", "language").head(size).select(*columns, "stratum")


def split_judgements(judgements: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(validation, test): a third and two thirds of the queries, by a hash of the query that never changes."""
    thirds = [_bucket(normalise(query), 3) for query in judgements["query"]]
    third = pl.Series(thirds, dtype=pl.Int64)
    return judgements.filter(third == 0), judgements.filter(third != 0)


def _frequencies(queries: pl.DataFrame) -> pl.DataFrame:
    same = queries["query"].unique().to_list()
    key = pl.col("query").replace_strict({query: normalise(query) for query in same}, return_dtype=pl.String)
    return queries.group_by(key).len("count").sort(["count", "query"], descending=[True, False])


def _bucket(key: str, buckets: int) -> int:
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % buckets
