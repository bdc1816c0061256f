"""Judgements: a stratified sample of queries with products rated from the hidden truth."""

import numpy as np
import pyarrow as pa

from models.data.schema import JUDGEMENTS
from models.data.synthetic.facts import Ints
from models.data.synthetic.listings import product_ids
from models.data.synthetic.matches import Truth
from models.data.synthetic.queries import Query, QueryPool
from models.data.synthetic.vocabulary import Vocabulary

QUERIES = 800
_STRATA = 3  # head, torso, tail: a third of the searches each
# Rated products per query. Nearly all queries have fewer relevant products than the cap: those are complete.
_MOST_RELEVANT, _MOST_NEAR, _MOST_ELSEWHERE, _SIBLINGS, _RANDOM = 50, 20, 8, 4, 4


def write_judgements(vocabulary: Vocabulary, truth: Truth, pool: QueryPool, *, rng: np.random.Generator) -> pa.Table:
    """Rows (JUDGEMENTS): relevant products, near misses, siblings of the category and random products."""
    rows = []
    for number in stratified_sample(pool, QUERIES, rng):
        query = pool.queries[number]
        products = _rated_products(vocabulary, truth, query, rng)
        ratings = truth.rate(query.intent, products)
        code = vocabulary.countries[query.intent.country].code
        for product, rating in zip(products.tolist(), ratings.tolist(), strict=True):
            rows.append((query.text, code, product_ids(product, 1)[0], rating, query.language))
    columns = zip(*rows, strict=True) if rows else [()] * len(JUDGEMENTS.names)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, JUDGEMENTS, strict=True)],
        schema=JUDGEMENTS,
    )


def stratified_sample(pool: QueryPool, size: int, rng: np.random.Generator) -> list[int]:
    """Numbers of queries, as evenly as the pool allows over head, torso and tail and over countries.

    Every country has its language, and its own share of searchers who write another one.
    """
    stratum = np.minimum((np.cumsum(pool.shares) * _STRATA).astype(np.int64), _STRATA - 1)
    cells: dict[tuple[int, int], list[int]] = {}
    for number in rng.permutation(len(pool.queries)).tolist():
        cells.setdefault((int(stratum[number]), pool.queries[number].intent.country), []).append(number)
    chosen: list[int] = []
    depth = 0
    while len(chosen) < min(size, len(pool.queries)):
        for _, numbers in sorted(cells.items()):
            if depth < len(numbers):
                chosen.append(numbers[depth])
        depth += 1
    return sorted(chosen[:size])


def _rated_products(vocabulary: Vocabulary, truth: Truth, query: Query, rng: np.random.Generator) -> Ints:
    related, ratings = truth.related(query.intent)
    here = np.isin(truth.facts.country[related], _market(vocabulary, query))
    groups = [
        _some(related[ratings >= 2], _MOST_RELEVANT, rng),
        _some(related[(ratings == 1) & here], _MOST_NEAR, rng),
        _some(related[(ratings == 1) & ~here], _MOST_ELSEWHERE, rng),
        _some(_siblings(vocabulary, truth, query), _SIBLINGS, rng),
        rng.integers(len(truth.facts), size=_RANDOM),
    ]
    return np.unique(np.concatenate(groups))


def _market(vocabulary: Vocabulary, query: Query) -> list[int]:
    market = vocabulary.countries[query.intent.country].market
    return [number for number, country in enumerate(vocabulary.countries) if country.market == market]


def _siblings(vocabulary: Vocabulary, truth: Truth, query: Query) -> Ints:
    """Products of the same market in other categories of the same branch: a table for a chair."""
    parent = vocabulary.leaves[query.intent.leaf].parent
    leaves = [
        number for number, leaf in enumerate(vocabulary.leaves) if leaf.parent == parent and number != query.intent.leaf
    ]
    facts = truth.facts
    return np.flatnonzero(np.isin(facts.leaf, leaves) & np.isin(facts.country, _market(vocabulary, query)))


def _some(products: Ints, most: int, rng: np.random.Generator) -> Ints:
    return products if len(products) <= most else rng.choice(products, most, replace=False)
