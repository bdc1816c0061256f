"""Eight weeks of events: search, click, message, reply, with drop-off and noise at each step."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.data.schema import EVENT_KINDS, EVENTS, RELEVANT
from models.data.synthetic.facts import NONE, Ints
from models.data.synthetic.listings import LAST_DAY, product_ids
from models.data.synthetic.matches import Ragged, Truth
from models.data.synthetic.queries import QueryPool
from models.data.synthetic.vocabulary import Vocabulary

WEEKS = 8
SEARCHES_PER_PRODUCT = 7
_CHUNK = 50_000  # searches
_MOST_MATCHES = 64  # products per query that searchers ever see
_MOST_CLICKS = 3
_CLICKS = (0.25, 0.35, 0.25, 0.15)  # searches with 0, 1, 2, 3 clicks
# Clicks on what was wanted, on a near miss, on anything; and how many of each lead to a message.
_CLICK_SHARES = (0.84, 0.09, 0.07)
_MESSAGE_SHARES = np.array([0.55, 0.2, 0.05])
_REPLY_SHARE = 0.75
_LATE_SHARE = 0.07  # replies that come after 24 h
_DAY_US = 86_400_000_000

Floats = NDArray[np.float64]


def write_events(vocabulary: Vocabulary, truth: Truth, pool: QueryPool, *, count: int, seed: int) -> Iterator[pa.Table]:
    """Tables (EVENTS) of at most _CHUNK searches and what follows from them, in order of the searches."""
    crowd = _Crowd(vocabulary, truth, pool)
    for chunk, first in enumerate(range(0, count, _CHUNK)):
        size = min(_CHUNK, count - first)
        yield crowd.chunk(first, size, count, np.random.default_rng([seed, 3, chunk]))


class _Crowd:
    """All searchers: who searches what, when, and how far they go."""

    def __init__(self, vocabulary: Vocabulary, truth: Truth, pool: QueryPool) -> None:
        wanted, near = [], []
        for query in pool.queries:
            products, ratings = truth.related(query.intent)
            # Copies: a slice would keep every product of the category alive.
            wanted.append(products[ratings >= RELEVANT][:_MOST_MATCHES].copy())
            near.append(products[ratings == RELEVANT - 1][:_MOST_MATCHES].copy())
        self._wanted, self._near = Ragged.of(wanted), Ragged.of(near)
        self._cumulative = np.cumsum(pool.shares)
        self._products = len(truth.facts)
        self._texts = pa.array([query.text for query in pool.queries])
        self._languages = pa.array([query.language for query in pool.queries])
        codes = [vocabulary.countries[query.intent.country].code for query in pool.queries]
        self._countries = pa.array(codes)
        self._ids = pa.array(product_ids(0, self._products))

    def chunk(self, first: int, size: int, total: int, rng: np.random.Generator) -> pa.Table:
        query = np.searchsorted(self._cumulative, rng.random(size) * self._cumulative[-1]).clip(
            max=len(self._texts) - 1
        )
        user = rng.integers(max(total // 4, 1), size=size)
        time = self._search_times(first, size, total, rng)
        clicks = rng.choice(_MOST_CLICKS + 1, size, p=_CLICKS)

        search = np.repeat(np.arange(size), clicks)
        product, intent_kind = self._clicked(query[search], rng)
        clicked_at = time[search] + _minutes(rng, len(search), 3)
        messaged = rng.random(len(search)) < _MESSAGE_SHARES[intent_kind]
        messaged_at = clicked_at + _minutes(rng, len(search), 20)
        replied = messaged & (rng.random(len(search)) < _REPLY_SHARE)
        late = rng.random(len(search)) < _LATE_SHARE
        replied_at = messaged_at + np.where(late, _DAY_US + _minutes(rng, len(search), 1440), 0)
        replied_at = replied_at + _minutes(rng, len(search), 90)

        steps = [(0, np.arange(size), np.full(size, NONE), time), (1, search, product, clicked_at)]
        for kind, taken, at in ((2, messaged, messaged_at), (3, replied, replied_at)):
            steps.append((kind, search[taken], product[taken], at[taken]))
        return self._table(steps, query, user, first)

    def _search_times(self, first: int, size: int, total: int, rng: np.random.Generator) -> Ints:
        """Microseconds since the epoch, rising from chunk to chunk."""
        start = _micros(LAST_DAY - timedelta(weeks=WEEKS))
        share = (first + size * np.sort(rng.random(size))) / total
        return start + (share * WEEKS * 7 * _DAY_US).astype(np.int64)

    def _clicked(self, query: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """The product of each click, and whether it was wanted (0), near (1) or anything (2)."""
        kind = rng.choice(len(_CLICK_SHARES), len(query), p=_CLICK_SHARES)
        anything = rng.integers(self._products, size=len(query))
        # A power above 1: the products at the top of a list get most of the clicks.
        wanted = self._wanted.choose(query, rng.random(len(query)) ** 1.5)
        near = self._near.choose(query, rng.random(len(query)))
        product = np.select([kind == 0, kind == 1], [wanted, near], anything)
        return np.where(product == NONE, anything, product), np.where(product == NONE, 2, kind)

    def _table(self, steps: list[tuple[int, Ints, Ints, Ints]], query: Ints, user: Ints, first: int) -> pa.Table:
        kind = np.concatenate([np.full(len(search), step) for step, search, _, _ in steps])
        search = np.concatenate([search for _, search, _, _ in steps])
        product = np.concatenate([product for _, _, product, _ in steps])
        time = np.concatenate([time for _, _, _, time in steps])
        order = np.lexsort((kind, time, search))
        order = order[time[order] < _micros(LAST_DAY)]  # the log ends there
        kind, search, product, time = kind[order], search[order], product[order], time[order]
        asked = pa.array(query[search])
        columns = {
            "user": _named("U", user[search]),
            "session": _named("V", first + search),
            "query": self._texts.take(asked),
            "country": self._countries.take(asked),
            "product_id": self._ids.take(pa.array(product, mask=product == NONE)),
            "kind": pa.array(EVENT_KINDS).take(pa.array(kind)),
            "time": pa.array(time, EVENTS.field("time").type),
            "language": self._languages.take(asked),
        }
        return pa.table([columns[name] for name in EVENTS.names], schema=EVENTS)


def _micros(day: datetime) -> int:
    return int(day.timestamp()) * 1_000_000


def _minutes(rng: np.random.Generator, count: int, mean: float) -> Ints:
    return (rng.exponential(mean, count) * 60_000_000).astype(np.int64) + 1_000_000


def _named(prefix: str, numbers: Ints) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), "")
