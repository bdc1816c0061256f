"""The sweep: every setting of nprobe and candidates measured on golden queries, against exact search."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from index.ann import AnnIndex
from index.intervals import Interval, mean_intervals
from index.operating_points import MAX_DEPTH, MAX_SIZE

CANDIDATES = (MAX_SIZE, 200, 300, 500, MAX_DEPTH)
RECALLS_AT = (10, MAX_SIZE)  # what a first page shows, and the largest page
WARM_UP = 20  # queries searched before the clock counts
_TIE = 1e-6  # float32 rounding between two ways to add up one inner product
FLAT_GAIN = 5e-4  # recall; two steps of nprobe that gain less end the sweep
_ENOUGH = 0.999  # so does reaching this, one step later
# The cost of a search, in codes scanned; fitted to times of one thread at 20,000 and 1,000,000 vectors of 128 floats.
LIST_COST = 200  # opening one more list: its lookup tables, and half a block of 32 codes too many
RESCORE_COST = 125  # re-scoring one candidate: cache misses on a whole vector, and a longer list to keep sorted

Progress = Callable[[int, int], None]
Nearest = Mapping[int, np.ndarray]  # of one query: k -> the numbers of the exact k nearest, and of ties with the last


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One cell of the grid, over all golden queries, searched one at a time on one thread."""

    nprobe: int | None
    candidates: int
    ann_recall_at_10: float
    ann_recall_at_100: float | None = None
    ann_recall_at_10_interval: Interval | None = None
    ann_recall_at_100_interval: Interval | None = None
    codes_scanned: float  # mean
    p50_us: float
    p99_us: float
    recalls: np.ndarray | None = field(default=None, repr=False, compare=False)  # (q, len(RECALLS_AT)), by query

    @property
    def cost(self) -> float:
        """Work that does not depend on how busy the machine was."""
        return self.codes_scanned + LIST_COST * (self.nprobe or 0) + RESCORE_COST * self.candidates

    def figures(self) -> dict[str, Any]:
        """Every member but those by query: what is kept in a file."""
        return {member.name: getattr(self, member.name) for member in fields(self) if member.name != "recalls"}


def nearest(exact: AnnIndex, queries: np.ndarray) -> list[Nearest]:
    """Per query the numbers of the exact ten and hundred nearest, each with whatever ties with the last."""
    hits = exact.search(queries, nprobe=None, candidates=MAX_DEPTH)
    floors = {k: hits.scores[:, min(k, exact.count) - 1] - _TIE for k in RECALLS_AT}
    return [
        {k: numbers[scores >= floor[i]] for k, floor in floors.items()}
        for i, (numbers, scores) in enumerate(zip(hits.numbers, hits.scores, strict=True))
    ]


def ann_recall(found: np.ndarray, relevant: Nearest, *, k: int = 10) -> float:
    """Share of the exact k nearest (fewer when there are fewer) among the first k found."""
    return float(ann_recalls(found[None, :], [relevant], k=k)[0])


def ann_recalls(found: np.ndarray, relevant: Sequence[Nearest], *, k: int) -> np.ndarray:
    """`ann_recall` of each query: (q, at least k) numbers found, -1 where there was none, give (q,)."""
    wanted = [each[k] for each in relevant]
    sizes = np.array([len(numbers) for numbers in wanted])
    rows = np.arange(len(wanted)) << 33  # above any number, so that a query's products match no other's
    keys = np.sort(np.repeat(rows, sizes) + np.concatenate(wanted))
    asked = found[:, :k] + rows[:, None]
    places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    shares: np.ndarray = (keys[places] == asked).sum(axis=1) / np.minimum(sizes, k)
    return shares


def nprobe_grid(nlist: int | None) -> list[int | None]:
    """1, 2, 3, 4, 6, 8, 12, ... nlist: two steps per doubling. [None] without lists."""
    if nlist is None:
        return [None]
    steps = {2**i for i in range(nlist.bit_length())} | {3 * 2**i for i in range(nlist.bit_length())} | {nlist}
    return sorted(step for step in steps if step <= nlist)


def sweep(
    ann: AnnIndex,
    queries: np.ndarray,
    relevant: Sequence[Nearest],
    *,
    wanted: float = 0.0,
    progress: Progress | None = None,
) -> list[Measured]:
    """Measure the grid by rising nprobe, until more lists stop helping.

    Where that is below the ann_recall@10 `wanted`, all lists are measured too: the limit is then known, not guessed.
    """
    nprobes = nprobe_grid(ann.nlist)
    grid: list[Measured] = []
    best: list[float] = []  # ann_recall@10 with the most candidates, by nprobe
    for nprobe in nprobes:
        if _is_enough(best) and (nprobe != ann.nlist or max(best) >= wanted):
            continue
        codes = float(ann.codes_scanned(queries, nprobe=nprobe).mean())
        for candidates in CANDIDATES:
            grid.append(measure(ann, queries, relevant, nprobe=nprobe, candidates=candidates, codes_scanned=codes))
            if progress is not None:
                progress(len(grid), len(nprobes) * len(CANDIDATES))
        best.append(grid[-1].ann_recall_at_10)
    return grid


def _is_enough(recalls: Sequence[float]) -> bool:
    if len(recalls) < 3:
        return False
    return recalls[-2] >= _ENOUGH or recalls[-1] - recalls[-3] < FLAT_GAIN


def measure(
    ann: AnnIndex,
    queries: np.ndarray,
    relevant: Sequence[Nearest],
    *,
    nprobe: int | None,
    candidates: int,
    codes_scanned: float,
) -> Measured:
    """Search every query alone, as a request does, on this thread."""
    for i in range(min(WARM_UP, len(queries))):
        ann.search(queries[i : i + 1], nprobe=nprobe, candidates=candidates)
    times = np.empty(len(queries))
    found = np.empty((len(queries), max(RECALLS_AT)), dtype=np.int64)
    for i in range(len(queries)):
        start = time.perf_counter_ns()
        hits = ann.search(queries[i : i + 1], nprobe=nprobe, candidates=candidates)
        times[i] = (time.perf_counter_ns() - start) / 1e3
        found[i] = hits.numbers[0, : max(RECALLS_AT)]
    recalls = np.stack([ann_recalls(found, relevant, k=k) for k in RECALLS_AT], axis=1)
    at_10, at_100 = recalls.mean(axis=0).tolist()
    return Measured(
        nprobe=nprobe,
        candidates=candidates,
        ann_recall_at_10=round(at_10, 6),
        ann_recall_at_100=round(at_100, 6),
        codes_scanned=round(codes_scanned, 1),
        p50_us=round(float(np.quantile(times, 0.5)), 1),
        p99_us=round(float(np.quantile(times, 0.99)), 1),
        recalls=recalls,
    )


def with_intervals(grid: Sequence[Measured]) -> list[Measured]:
    """The same cells with the intervals of their recalls; the same resampled queries for all of them."""
    found = mean_intervals(np.concatenate([cell.recalls for cell in grid if cell.recalls is not None], axis=1))
    return [
        replace(cell, ann_recall_at_10_interval=at_10, ann_recall_at_100_interval=at_100)
        for cell, at_10, at_100 in zip(grid, found[::2], found[1::2], strict=True)
    ]


def cheapest(cells: Sequence[Measured], recall: float) -> Measured:
    """By cost, of the cells that reach the ann_recall@10; else of those that come closest."""
    goal = min(recall, max(cell.ann_recall_at_10 for cell in cells))
    return min((cell for cell in cells if cell.ann_recall_at_10 >= goal), key=lambda cell: cell.cost)


def pareto_set(grid: Sequence[Measured]) -> list[Measured]:
    """The cells that no cheaper (or equally cheap) cell matches in recall, by rising cost."""
    pareto: list[Measured] = []
    for cell in sorted(grid, key=lambda cell: (cell.cost, -cell.ann_recall_at_10)):
        if not pareto or cell.ann_recall_at_10 > pareto[-1].ann_recall_at_10:
            pareto.append(cell)
    return pareto
