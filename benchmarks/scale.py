"""How a search's time grows with the number of products, at equal ann_recall@10."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks.blocks import Arm, Progress, interleave
from benchmarks.conditions import conditions, pinned
from benchmarks.peer_indexes import SERVED, BuiltIndex, Ours, built_index, search_ours
from benchmarks.peers import Trial, Trials, arm, part
from benchmarks.report import BenchResult, Row
from benchmarks.vectors import VectorSet, nearest
from index.ann import FaissIndex
from index.errors import TuneError
from index.spec import choose_spec

SIZES = (10_000, 100_000, 1_000_000)
TARGET = 0.95


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """p50 = factor * products ^ exponent, fitted by least squares to the logarithms."""

    factor: float  # microseconds
    exponent: float
    residual: float  # the largest, as a share: 0.1 is a point 10 % off the line

    def at(self, products: np.ndarray) -> np.ndarray:
        """Microseconds."""
        fitted: np.ndarray = self.factor * products**self.exponent
        return fitted


class Sized(NamedTuple):
    """Our index of one size."""

    products: int
    factory: str
    built: BuiltIndex
    ann: FaissIndex
    trial: Trial  # of the cheapest setting that reaches the target
    codes_scanned: float  # mean


@dataclass(frozen=True, kw_only=True)
class ScaleResult(BenchResult):
    """Its picture is p50 against the number of products, with the fitted line."""

    law: PowerLaw

    def picture(self) -> Figure:
        products, p50 = (np.array([row[column] for row in self.rows]) for column in ("products", "p50_us"))
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        axes.loglog(products, p50, "o", label="p50")
        axes.loglog(products, self.law.at(products), color="tab:gray", label=f"products^{self.law.exponent:.2f}")
        axes.set(title=self.title, xlabel="products", ylabel="microseconds")
        axes.grid(alpha=0.3)
        axes.legend()
        return figure


def run(
    vectors: VectorSet,
    *,
    cache: Path,
    sizes: Sequence[int] = SIZES,
    target: float = TARGET,
    blocks: int = 20,
    calls: int = 100,
    building: Progress | None = None,
    choosing: Progress | None = None,
    measuring: Progress | None = None,
) -> ScaleResult:
    """Build the index that is chosen for each size, and search it at the cheapest setting that reaches the target.

    Args:
        vectors: at least as many as the largest size; a smaller one takes the first of them.
        cache: keeps built indexes and the exact nearest between runs.
        sizes: numbers of products, two or more.
        target: ann_recall@10.
        blocks, calls: rounds, and calls of each size in one.
        building, choosing, measuring: called with (done, total) of each part.

    Raises:
        SpecError: an index cannot be built from these vectors.
        TuneError: there are fewer vectors than a size, fewer than two sizes, or no setting reaches the target.
    """
    sizes = sorted(set(sizes))
    if len(sizes) < 2 or sizes[-1] > vectors.count:
        raise TuneError(f"sizes {sizes} must be two or more, and none above the {vectors.count} vectors")
    sets = [vectors.first(size) for size in sizes]
    specs = [choose_spec(count=some.count, dim=some.dim) for some in sets]
    ours = [Ours("ours", spec, candidates=SERVED) for spec in specs]
    built = [
        built_index(peer, some, cache=cache, progress=part(building, at, len(sets)))
        for at, (peer, some) in enumerate(zip(ours, sets, strict=True))
    ]
    with pinned() as core:
        sized = []
        for at, (peer, some, index) in enumerate(zip(ours, sets, built, strict=True)):
            sized.append(_sized(peer, some, index, nearest(some, cache=cache), target))
            if choosing is not None:
                choosing(at + 1, len(sets))
        arms = {
            f"{one.products:,}": arm(partial(search_ours, one.ann), one.trial, vectors.queries, calls=calls)
            for one in sized
        }
        measured = interleave(arms, blocks=blocks, progress=measuring)
    rows = [_row(one, measured.arms[f"{one.products:,}"]) for one in sized]
    law = power_law(np.array(sizes), np.array([measured.arms[f"{size:,}"].p50_us for size in sizes]))
    return ScaleResult(
        bench="scale",
        title=f"Search at ann_recall@10 of {target}, one query a call, one thread",
        law=law,
        rows=rows,
        conditions=conditions(
            threads=1,
            core=core,
            vectors=vectors.products_key,
            dim=vectors.dim,
            queries=len(vectors.queries),
            calls_per_block=calls,
            build_cores=built[-1].build_cores,
            exponent=round(law.exponent, 3),
            residual=round(law.residual, 3),
            **measured.conditions(),
        ),
        notes=[
            f"p50 grows as products^{law.exponent:.2f}; no size is more than {law.residual:.0%} off that line.",
            *measured.notes(),
        ],
    )


def power_law(products: np.ndarray, p50_us: np.ndarray) -> PowerLaw:
    """Fit p50 against the number of products, each (n,), n >= 2."""
    exponent, intercept = np.polyfit(np.log(products), np.log(p50_us), 1)
    factor = np.exp(intercept)
    residuals = p50_us / (factor * products**exponent) - 1
    return PowerLaw(factor=float(factor), exponent=float(exponent), residual=float(np.abs(residuals).max()))


def cheapest_trial(peer: Ours, ann: FaissIndex, vectors: VectorSet, near: np.ndarray, target: float) -> Trial:
    """The setting of our index that reaches ann_recall@10 of `target` in the least time.

    Raises:
        TuneError: none does.
    """
    trials = Trials(peer, partial(search_ours, ann), vectors.queries, near)
    trial = trials.cheapest(target)
    if trial is None:
        raise TuneError(
            f"{peer.parameters} over {vectors.count:,} vectors reaches {trials.best_recall:.3f}, not {target}; "
            "lower the target"
        )
    return trial


def _sized(peer: Ours, vectors: VectorSet, built: BuiltIndex, near: np.ndarray, target: float) -> Sized:
    ann = peer.read(built.path)
    trial = cheapest_trial(peer, ann, vectors, near, target)
    nprobe = None if ann.nlist is None else trial.effort.reach
    codes = float(ann.codes_scanned(vectors.queries, nprobe=nprobe).mean())
    return Sized(vectors.count, peer.parameters, built, ann, trial, codes)


def _row(one: Sized, timed: Arm) -> Row:
    return {
        "name": f"{one.products:,}",
        "products": one.products,
        "factory": one.factory,
        "nprobe": None if one.ann.nlist is None else one.trial.effort.reach,
        "candidates": one.trial.effort.candidates,
        "ann_recall_at_10": one.trial.ann_recall_at_10,
        "codes_scanned": one.codes_scanned,
        "p50_us": timed.p50_us,
        "p99_us": timed.p99_us,
        "cpu_us": timed.cpu_us,
        "bytes_per_product": one.built.bytes_per_product,
        "build_s": one.built.build_s,
    }
