"""Filters to measure a search under: how much each leaves, and what that has to do with the queries asked under it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.blocks import Progress
from benchmarks.vectors import VectorSet, exact_nearest
from index.ann import RowFilter
from index.errors import TuneError

KINDS = {
    "random": "products drawn by chance, queries at large",
    "near": "the products nearest to one of them, queries most about these",
    "any": "the same products, queries at large",
    "far": "the same products, queries least about them",
}
FILTERS = 5  # drawn by chance, and as many regions, for each selectivity
_QUERIES = 100  # asked under each filter, at most ...
_ABOUT = 0.1  # ... and no more than this share of all queries


class Ask(NamedTuple):
    """A query, and what it may find."""

    query: np.ndarray  # (1, d) float32
    only: RowFilter


class Case(NamedTuple):
    """One selectivity and one kind of filter."""

    selectivity: float
    kind: str
    asks: list[Ask]  # n
    near: np.ndarray  # (n, 20): the exact nearest of what is allowed, as `benchmarks.vectors.nearest` gives them

    @property
    def name(self) -> str:
        """Such as "1 %, near"."""
        return f"{100 * self.selectivity:.4g} %, {self.kind}"


def filter_cases(vectors: VectorSet, selectivities: Sequence[float], *, seed: int, progress: Progress) -> list[Case]:
    """A case for every selectivity and kind.

    Args:
        vectors: what is searched, and the queries.
        selectivities: shares of the products that pass.
        seed: of the filters, and of the queries at large.
        progress: called with (done, total) filters.

    Raises:
        TuneError: a selectivity is no share, or leaves no product.
    """
    draw = np.random.default_rng(seed)
    cases = []
    for at, share in enumerate(selectivities):
        size = _size(share, vectors.count)
        parts: dict[str, list[tuple[list[Ask], np.ndarray]]] = {kind: [] for kind in KINDS}
        for number in range(FILTERS):
            for kind, part in _drawn(vectors, size, draw).items():
                parts[kind].append(part)
            progress(at * FILTERS + number + 1, len(selectivities) * FILTERS)
        for kind, drawn in parts.items():
            asks = [ask for part, _ in drawn for ask in part]
            cases.append(Case(share, kind, asks, np.concatenate([near for _, near in drawn])))
    return cases


def _size(share: float, count: int) -> int:
    size = round(share * count)
    if not 0 < share <= 1 or size == 0:
        raise TuneError(f"selectivity {share} leaves {size} of {count:,} products; name shares above 0 and up to 1")
    return size


def _drawn(vectors: VectorSet, size: int, draw: np.random.Generator) -> dict[str, tuple[list[Ask], np.ndarray]]:
    """One filter by chance and one region, with what is asked of them."""
    asked = max(1, min(_QUERIES, round(_ABOUT * len(vectors.queries))))
    at_large = draw.choice(len(vectors.queries), size=asked, replace=False)
    by_chance = draw.choice(vectors.count, size=size, replace=False)
    anchor = vectors.products[draw.integers(vectors.count)]
    region = np.argpartition(-(vectors.products @ anchor), size - 1)[:size]
    by_distance = np.argsort(-(vectors.queries @ anchor))
    of_region = {"near": by_distance[:asked], "any": at_large, "far": by_distance[-asked:]}
    return {**_asked(vectors, by_chance, {"random": at_large}), **_asked(vectors, region, of_region)}


def _asked(
    vectors: VectorSet, rows: np.ndarray, queries: dict[str, np.ndarray]
) -> dict[str, tuple[list[Ask], np.ndarray]]:
    """Queries by kind, each (n,) places, under the filter that allows `rows`."""
    rows = np.sort(rows)
    mask = np.zeros(vectors.count, dtype=bool)
    mask[rows] = True
    only = RowFilter.of(mask)
    allowed = vectors.products[rows]
    asked = {}
    for kind, places in queries.items():
        near = exact_nearest(VectorSet(source=kind, products=allowed, queries=vectors.queries[places]))
        asks = [Ask(vectors.queries[place : place + 1], only) for place in places.tolist()]
        asked[kind] = asks, np.where(near >= 0, rows[near], -1)
    return asked
