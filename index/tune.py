"""Tune: measure nprobe and candidates on golden queries against exact search, and choose each effort's point."""

import os
import platform
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np

from index.ann import AnnIndex
from index.efforts import Targets, choose
from index.errors import TuneError
from index.operating_points import MAX_DEPTH, OperatingPoint, OperatingPoints
from index.radius import Radius
from index.strata import Strata, StratumRecall, by_stratum, notes_on
from index.sweep import (
    LIST_COST,
    RESCORE_COST,
    WARM_UP,
    Measured,
    Progress,
    measure,
    nearest,
    pareto_set,
    sweep,
    with_intervals,
)


class Tuning(NamedTuple):
    """The chosen points and everything they were chosen from (also inside `points.tuning`)."""

    points: OperatingPoints
    targets: Targets
    grid: list[Measured]
    pareto: list[Measured]
    strata: list[StratumRecall]
    notes: list[str]  # what could not be had and what it would take, strata that are left behind, the radius


def tune(
    ann: AnnIndex,
    exact: AnnIndex,
    queries: np.ndarray,
    *,
    targets: Targets | None = None,
    strata: Strata | None = None,
    radius: Radius | None = None,
    progress: Progress | None = None,
) -> Tuning:
    """Measure the grid and choose an operating point for every effort.

    Each effort is the cheapest setting, by codes scanned and candidates re-scored, that reaches its share of the exact
    ten nearest; `high` lists the depth limit's candidates. Times are reported, not chosen by: they depend on the day.

    Args:
        ann: the index to tune.
        exact: exact search over the same vectors.
        queries: (n, dim) float32 golden QUERY vectors; products are distributed otherwise.
        targets: the ann_recall@10 of each effort; those of `Targets.of` when None.
        strata: labels of the queries by stratum, such as their languages; the chosen points are measured for each.
        radius: what the points' `min_score` become; without it there is none.
        progress: called with (done, total) grid cells; the sweep may end before the total.

    Raises:
        TuneError: no queries, or strata of other queries.
    """
    if len(queries) == 0:
        raise TuneError("there are no golden queries to tune on; export the release with a data set that has queries")
    targets = targets or Targets.of()
    started = time.perf_counter()
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    grid = with_intervals(sweep(ann, queries, nearest(exact, queries), wanted=targets.high, progress=progress))
    chosen, notes = choose(grid, targets)
    recalls = by_stratum(chosen, strata or {}, queries=len(queries))
    promised = {effort: min(target, chosen[effort].ann_recall_at_10) for effort, target in targets._asdict().items()}
    notes += notes_on(recalls, promised)
    chosen["exact"] = _measure_exact(exact, queries)
    min_scores = {} if radius is None else radius.min_scores()
    points = {effort: _point(effort, cell, min_scores.get(effort)) for effort, cell in chosen.items()}
    pareto = pareto_set(grid)
    notes += [] if radius is None else radius.notes
    record = {
        "targets": targets._asdict(),
        "grid": [cell.figures() for cell in grid],
        "pareto": [cell.figures() for cell in pareto],
        "strata": [asdict(recall) for recall in recalls],
        "radius": None if radius is None else radius.record(),
        "notes": notes,
        "conditions": _conditions(len(queries), seconds=time.perf_counter() - started),
    }
    return Tuning(OperatingPoints(points, tuning=record), targets, grid, pareto, recalls, notes)


def _point(effort: str, cell: Measured, min_score: float | None) -> OperatingPoint:
    return OperatingPoint(effort=effort, min_score=min_score, **cell.figures())


def _measure_exact(exact: AnnIndex, queries: np.ndarray) -> Measured:
    """The effort `exact`, timed on a few queries: each compares every vector."""
    some = queries[:WARM_UP]
    cell = measure(exact, some, nearest(exact, some), nprobe=None, candidates=MAX_DEPTH, codes_scanned=exact.count)
    return with_intervals([cell])[0]


def _conditions(queries: int, *, seconds: float) -> dict[str, object]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": 1,
        "warm_up": WARM_UP,
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
