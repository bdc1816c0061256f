"""Tune: measure nprobe and candidates on golden queries against exact search, and choose each effort's point."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np

from index.ann import AnnIndex
from index.errors import TuneError
from index.operating_points import MAX_DEPTH, MAX_SIZE, OperatingPoint, OperatingPoints

CANDIDATES = (MAX_SIZE, 200, 300, 500, MAX_DEPTH)
MINIMAL_TARGET = 0.80
BALANCED_TARGET = 0.97
_RECALL_AT = 10
_TIE = 1e-6  # float32 rounding between two ways to add up one inner product
_WARM_UP = 20  # queries searched before the clock counts
_FLAT_GAIN = 5e-4  # recall; two steps of nprobe that gain less end the sweep
_ENOUGH = 0.999  # so does reaching this, one step later
# The cost of a search, in codes scanned; fitted to times of one thread at 20,000 and 1,000,000 vectors of 128 floats.
LIST_COST = 200  # opening one more list: its lookup tables, and half a block of 32 codes too many
RESCORE_COST = 125  # re-scoring one candidate: cache misses on a whole vector, and a longer list to keep sorted

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One cell of the grid, over all golden queries, searched one at a time on one thread."""

    nprobe: int | None
    candidates: int
    ann_recall_at_10: float
    codes_scanned: float  # mean
    p50_us: float
    p99_us: float

    @property
    def cost(self) -> float:
        """Work that does not depend on how busy the machine was."""
        return self.codes_scanned + LIST_COST * (self.nprobe or 0) + RESCORE_COST * self.candidates


class Tuning(NamedTuple):
    """The chosen points and everything they were chosen from (also inside `points.tuning`)."""

    points: OperatingPoints
    grid: list[Measured]
    pareto: list[Measured]
    notes: list[str]  # targets that could not be met, and what was done


def tune(
    ann: AnnIndex,
    exact: AnnIndex,
    queries: np.ndarray,
    *,
    low_target: float = 0.95,
    high_target: float = 0.99,
    progress: Progress | None = None,
) -> Tuning:
    """Measure the grid and choose an operating point for every effort.

    Each effort is the cheapest setting, by codes scanned and candidates re-scored, that reaches its share of the exact
    ten nearest: `minimal` 0.80, `low` low_target, `balanced` 0.97 (or halfway, when the targets leave no room), `high`
    high_target with the depth limit's candidates. Times are reported, not chosen by: they depend on the day.

    Args:
        ann: the index to tune.
        exact: exact search over the same vectors.
        queries: (n, dim) float32 golden QUERY vectors; products are distributed otherwise.
        low_target, high_target: ann_recall@10.
        progress: called with (done, total) grid cells; the sweep may end before the total.

    Raises:
        TuneError: no queries, or targets that are no shares in ascending order.
    """
    if len(queries) == 0:
        raise TuneError("there are no golden queries to tune on; export the release with a data set that has queries")
    if not 0 < low_target <= high_target <= 1:
        raise TuneError(f"targets must satisfy 0 < low <= high <= 1, got low={low_target}, high={high_target}")
    started = time.perf_counter()
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    grid = sweep(ann, queries, nearest(exact, queries), progress=progress)
    chosen, notes = choose(grid, low_target=low_target, high_target=high_target)
    points = {effort: _point(effort, cell) for effort, cell in chosen.items()}
    points["exact"] = _exact_point(exact, queries)
    pareto = pareto_set(grid)
    record = {
        "targets": {"low": low_target, "high": high_target},
        "grid": [asdict(cell) for cell in grid],
        "pareto": [asdict(cell) for cell in pareto],
        "notes": notes,
        "conditions": _conditions(len(queries), seconds=time.perf_counter() - started),
    }
    return Tuning(OperatingPoints(points, record), grid, pareto, notes)


def nearest(exact: AnnIndex, queries: np.ndarray) -> list[np.ndarray]:
    """Per query the numbers of the exact ten nearest, and of whatever ties with the tenth."""
    hits = exact.search(queries, nprobe=None, candidates=MAX_SIZE)
    floors = hits.scores[:, min(_RECALL_AT, exact.count) - 1] - _TIE
    return [numbers[scores >= floor] for numbers, scores, floor in zip(hits.numbers, hits.scores, floors, strict=True)]


def ann_recall(found: np.ndarray, relevant: np.ndarray) -> float:
    """Share of the exact ten nearest (fewer when there are fewer) among the first ten found."""
    hits = np.isin(found[:_RECALL_AT], relevant).sum()
    return float(hits) / min(_RECALL_AT, len(relevant))


def nprobe_grid(nlist: int | None) -> list[int | None]:
    """1, 2, 3, 4, 6, 8, 12, ... nlist: two steps per doubling. [None] without lists."""
    if nlist is None:
        return [None]
    steps = {2**i for i in range(nlist.bit_length())} | {3 * 2**i for i in range(nlist.bit_length())} | {nlist}
    return sorted(step for step in steps if step <= nlist)


def sweep(
    ann: AnnIndex, queries: np.ndarray, relevant: Sequence[np.ndarray], *, progress: Progress | None = None
) -> list[Measured]:
    """Measure the grid by rising nprobe, until more lists stop helping."""
    nprobes = nprobe_grid(ann.nlist)
    grid: list[Measured] = []
    best: list[float] = []  # ann_recall@10 with the most candidates, by nprobe
    for nprobe in nprobes:
        codes = float(ann.codes_scanned(queries, nprobe=nprobe).mean())
        for candidates in CANDIDATES:
            grid.append(measure(ann, queries, relevant, nprobe=nprobe, candidates=candidates, codes_scanned=codes))
            if progress is not None:
                progress(len(grid), len(nprobes) * len(CANDIDATES))
        best.append(grid[-1].ann_recall_at_10)
        if _is_enough(best):
            break
    return grid


def _is_enough(recalls: Sequence[float]) -> bool:
    if len(recalls) < 3:
        return False
    return recalls[-2] >= _ENOUGH or recalls[-1] - recalls[-3] < _FLAT_GAIN


def measure(
    ann: AnnIndex,
    queries: np.ndarray,
    relevant: Sequence[np.ndarray],
    *,
    nprobe: int | None,
    candidates: int,
    codes_scanned: float,
) -> Measured:
    """Search every query alone, as a request does, on this thread."""
    for i in range(min(_WARM_UP, len(queries))):
        ann.search(queries[i : i + 1], nprobe=nprobe, candidates=candidates)
    times = np.empty(len(queries))
    recalls = np.empty(len(queries))
    for i, numbers in enumerate(relevant):
        start = time.perf_counter_ns()
        hits = ann.search(queries[i : i + 1], nprobe=nprobe, candidates=candidates)
        times[i] = (time.perf_counter_ns() - start) / 1e3
        recalls[i] = ann_recall(hits.numbers[0], numbers)
    return Measured(
        nprobe=nprobe,
        candidates=candidates,
        ann_recall_at_10=round(float(recalls.mean()), 6),
        codes_scanned=round(codes_scanned, 1),
        p50_us=round(float(np.quantile(times, 0.5)), 1),
        p99_us=round(float(np.quantile(times, 0.99)), 1),
    )


def pareto_set(grid: Sequence[Measured]) -> list[Measured]:
    """The cells that no cheaper (or equally cheap) cell matches in recall, by rising cost."""
    pareto: list[Measured] = []
    for cell in sorted(grid, key=lambda cell: (cell.cost, -cell.ann_recall_at_10)):
        if not pareto or cell.ann_recall_at_10 > pareto[-1].ann_recall_at_10:
            pareto.append(cell)
    return pareto


def choose(grid: Sequence[Measured], *, low_target: float, high_target: float) -> tuple[dict[str, Measured], list[str]]:
    """A cell for every effort but `exact`, and notes on what could not be had. See `tune`."""
    notes: list[str] = []
    deep = [cell for cell in grid if cell.candidates >= MAX_DEPTH]
    low = _cheapest(grid, low_target, "low", notes)
    high = _cheapest(deep, high_target, "high", notes)
    if low.nprobe is not None and high.nprobe is not None:
        low, high = _set_apart(grid, deep, low, high, notes)
    middle = BALANCED_TARGET if low_target < BALANCED_TARGET < high_target else (low_target + high_target) / 2
    between = [cell for cell in grid if _lists(low) <= _lists(cell) <= _lists(high)]
    below = [cell for cell in grid if _lists(cell) <= _lists(low)]
    chosen = {
        "minimal": min(_reaching(below, MINIMAL_TARGET), key=_cost, default=low),
        "low": low,
        "balanced": min(_reaching(between, middle), key=_cost, default=high),
        "high": high,
    }
    return chosen, notes


def _set_apart(
    grid: Sequence[Measured], deep: Sequence[Measured], low: Measured, high: Measured, notes: list[str]
) -> tuple[Measured, Measured]:
    """Make `low` probe strictly fewer lists than `high`.

    `high` is raised rather than `low` lowered: each target still holds, and only later pages, which may cost more, do.
    Where the grid ends at `low`, that one is lowered.
    """
    if _lists(low) < _lists(high):
        return low, high
    above = [cell for cell in deep if _lists(cell) > _lists(low)]
    if above:
        return low, min(above, key=_cost)
    below = [cell for cell in grid if _lists(cell) < _lists(high)]
    if not below:
        notes.append(f"low and high both probe {_lists(high)} list, the only choice there is")
        return low, high
    lowered = max(below, key=lambda cell: (cell.ann_recall_at_10, -cell.cost))
    notes.append(
        f"low was lowered to nprobe {lowered.nprobe} (ann_recall@10 {lowered.ann_recall_at_10:.3f}) "
        f"to stay below high's {high.nprobe}"
    )
    return lowered, high


def _cheapest(cells: Sequence[Measured], target: float, effort: str, notes: list[str]) -> Measured:
    """The cheapest cell that reaches the target; else the best there is, and a note."""
    reaching = _reaching(cells, target)
    if not reaching:
        best = max(cell.ann_recall_at_10 for cell in cells)
        reaching = _reaching(cells, best)
        notes.append(
            f"{effort} cannot reach ann_recall@10 {target}: the best is {best:.3f}; "
            "build with exact re-scoring (RFlat) or finer codes"
        )
    return min(reaching, key=_cost)


def _reaching(cells: Sequence[Measured], target: float) -> list[Measured]:
    return [cell for cell in cells if cell.ann_recall_at_10 >= target]


def _cost(cell: Measured) -> float:
    return cell.cost


def _lists(cell: Measured) -> int:
    return cell.nprobe or 0


def _point(effort: str, cell: Measured) -> OperatingPoint:
    return OperatingPoint(effort=effort, **asdict(cell))


def _exact_point(exact: AnnIndex, queries: np.ndarray) -> OperatingPoint:
    """The effort `exact`, timed on a few queries: each compares every vector."""
    some = queries[:_WARM_UP]
    relevant = nearest(exact, some)
    cell = measure(exact, some, relevant, nprobe=None, candidates=MAX_DEPTH, codes_scanned=exact.count)
    return _point("exact", cell)


def _conditions(queries: int, *, seconds: float) -> dict[str, object]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": 1,
        "warm_up": _WARM_UP,
        "queries": queries,
        "cost": {"list": LIST_COST, "re-scored candidate": RESCORE_COST},
        "faiss": faiss.__version__,
        "faiss_build": faiss.get_compile_options().strip(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
