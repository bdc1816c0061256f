"""The current generation's operating points: what each finds of the exact nearest products, and what it costs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.blocks import Progress, in_turn, interleave
from benchmarks.conditions import conditions, pinned, searched
from benchmarks.report import BenchResult, Row
from index.ann import AnnIndex
from index.generations import Generation, open_current
from index.operating_points import EFFORTS, OperatingPoint
from index.sweep import RECALLS_AT, Nearest, ann_recalls, nearest
from models.runtime import open_release


def run(
    release: Path, catalogue: Path, *, blocks: int = 20, calls: int = 100, progress: Progress | None = None
) -> BenchResult:
    """Search golden queries one at a time on one thread, as a request does, at every effort.

    Raises:
        ReleaseError, IndexFileError: the release or the generation cannot be opened, or there are no golden queries.
    """
    opened, generation = open_release(release), open_current(catalogue)
    queries = opened.golden_vectors()
    points = [generation.operating_points[effort] for effort in EFFORTS]
    arms = {
        point.effort: in_turn(partial(_search, generation, point), np.split(queries, len(queries)), calls=calls)
        for point in points
    }
    with pinned() as core:
        measured = interleave(arms, blocks=blocks, progress=progress)
    relevant = nearest(generation.exact, queries)
    rows: list[Row] = [
        {
            "name": point.effort,
            "nprobe": point.nprobe,
            "candidates": point.candidates,
            **recalls(generation, point, queries, relevant),
            "codes_scanned": codes_scanned(generation, point, queries),
            "p50_us": measured.arms[point.effort].p50_us,
            "p99_us": measured.arms[point.effort].p99_us,
            "cpu_us": measured.arms[point.effort].cpu_us,
        }
        for point in points
    ]
    manifest = generation.manifest
    return BenchResult(
        bench="ann",
        title=f"Search of {manifest.count:,} vectors, one golden query, one thread",
        rows=rows,
        conditions=conditions(
            threads=1,
            core=core,
            **searched(manifest),
            dim=manifest.dim,
            golden_queries=len(queries),
            calls_per_block=calls,
            **measured.conditions(),
        ),
        notes=[*_untuned(generation), *measured.notes()],
    )


def recalls(
    generation: Generation, point: OperatingPoint, queries: np.ndarray, relevant: Sequence[Nearest]
) -> dict[str, float]:
    """ann_recall@10 and @100: the mean share of the exact nearest that the operating point finds."""
    found = generation.search(queries, point).numbers
    return {f"ann_recall_at_{k}": float(ann_recalls(found, relevant, k=k).mean()) for k in RECALLS_AT}


def codes_scanned(generation: Generation, point: OperatingPoint, queries: np.ndarray) -> float:
    """Mean number of stored codes that a query is compared with."""
    ann: AnnIndex = generation.exact if point.effort == "exact" else generation.ann
    return float(ann.codes_scanned(queries, nprobe=point.nprobe).mean())


def _search(generation: Generation, point: OperatingPoint, query: np.ndarray) -> object:
    return generation.search(query, point)


def _untuned(generation: Generation) -> list[str]:
    tuned = generation.operating_points.tuning is not None
    return [] if tuned else ["the operating points are rules of thumb: run `que2search tune` first"]
