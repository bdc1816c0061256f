"""Indexes of several libraries at equal ann_recall@10: what each takes in time and memory, in one run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks.axes import label_logarithmic
from benchmarks.blocks import Arm, Block, Progress, in_turn, interleave
from benchmarks.conditions import conditions, pinned
from benchmarks.peer_indexes import (
    CONNECTIVITY,
    EF_CONSTRUCTION,
    BuiltIndex,
    Effort,
    PeerIndex,
    Search,
    built_index,
    has_choice,
    is_installed,
    peer_indexes,
    shown,
)
from benchmarks.report import BenchResult, Row
from benchmarks.vectors import K, VectorSet, mean_recall, nearest

TARGETS = (0.90, 0.95, 0.99)
BASELINE = "hnswlib"
_WARM_UP = 20  # queries searched before a trial's clock counts
_FLAT_GAIN = 5e-4  # recall; two doublings of the reach that gain less end the search for a setting
_PRECISION = 16  # a reach is found to within one part in this
_ROUNDS = 3  # in which the settings that reach a target are timed again
_TOO_SLOW = 2.0  # times the best setting so far: more candidates are not worth looking further for
_BLOCK_US = 100_000  # an arm's block takes about this, so that slow ones do not hold up the rest
_FEWEST_CALLS = 5  # in a block


class Trial(NamedTuple):
    """One setting, tried with every query."""

    effort: Effort
    ann_recall_at_10: float
    p50_us: float  # undisturbed or not: good enough to choose by, not to report


class Opened(NamedTuple):
    """An index in memory."""

    peer: PeerIndex
    built: BuiltIndex
    search: Search


class Contender(NamedTuple):
    """An index at a target."""

    opened: Opened
    target: float | None  # None: there is only one setting
    trial: Trial | None  # of the cheapest setting; None: no setting reaches the target
    best_recall: float  # of all that were tried

    @property
    def arm(self) -> str:
        """The name it is timed under."""
        return f"{self.opened.peer.name} {self.target}"


@dataclass(frozen=True, kw_only=True)
class PeersResult(BenchResult):
    """Its picture is the trade: recall against time, a line per index."""

    def picture(self) -> Figure:
        figure = Figure(figsize=(9, 5), layout="constrained")
        axes = figure.subplots()
        for name, rows in _by_name(self.rows).items():
            recall, p50 = ([row[column] for row in rows] for column in ("ann_recall_at_10", "p50_us"))
            axes.plot(recall, p50, "o-", label=name)  # type: ignore[arg-type]  # the measured ones are numbers
        axes.set(title=self.title, xlabel="ann_recall@10", ylabel="p50, microseconds", yscale="log")
        label_logarithmic(axes.yaxis)
        axes.grid(alpha=0.3)
        figure.legend(loc="outside right upper")
        return figure


def run(
    vectors: VectorSet,
    *,
    cache: Path,
    targets: Sequence[float] = TARGETS,
    peers: Sequence[PeerIndex] | None = None,
    blocks: int = 20,
    calls: int = 100,
    building: Progress | None = None,
    choosing: Progress | None = None,
    measuring: Progress | None = None,
) -> BenchResult:
    """Build or open every index, find the cheapest setting for each target, time all of them in interleaved blocks.

    One query a call, ten nearest, on one thread of one core.

    Args:
        vectors: what is indexed and searched with.
        cache: keeps built indexes and the exact nearest between runs.
        targets: ann_recall@10.
        peers: what is compared; all of `peer_indexes` when None. Those not installed are left out, with a note.
        blocks, calls: rounds, and calls of an arm in each (fewer of slow ones).
        building, choosing, measuring: called with (done, total) of each part.

    Raises:
        SpecError: one of our indexes cannot be built from these vectors.
    """
    peers = peer_indexes(count=vectors.count, dim=vectors.dim) if peers is None else peers
    present = [peer for peer in peers if is_installed(peer)]
    built = [
        built_index(peer, vectors, cache=cache, progress=part(building, at, len(present)))
        for at, peer in enumerate(present)
    ]
    near = nearest(vectors, cache=cache)
    opened = [Opened(peer, index, peer.open(index.path)) for peer, index in zip(present, built, strict=True)]
    with pinned() as core:
        contenders: list[Contender] = []
        for at, one in enumerate(opened):
            contenders += _contenders(one, vectors.queries, near, targets)
            if choosing is not None:
                choosing(at + 1, len(opened))
        measured = interleave(_arms(contenders, vectors.queries, calls), blocks=blocks, progress=measuring)
    return PeersResult(
        bench="peers",
        title=f"The {K} nearest of {vectors.count:,} vectors of {vectors.dim}, one query a call, one thread",
        rows=_rows(contenders, measured.arms),
        conditions=conditions(
            threads=1,
            core=core,
            vectors=vectors.products_key,
            products=vectors.count,
            dim=vectors.dim,
            queries=len(vectors.queries),
            calls_per_block=calls,
            graphs=f"M {CONNECTIVITY}, ef_construction {EF_CONSTRUCTION}",
            **{peer.package: version(peer.package) for peer in present},
            **measured.conditions(),
        ),
        notes=[*_absent(peers), *_out_of_reach(contenders), *_sizes(opened), *measured.notes()],
    )


class Trials:
    """Settings of one index, each tried once."""

    def __init__(self, peer: PeerIndex, search: Search, queries: np.ndarray, near: np.ndarray) -> None:
        self._peer = peer
        self._search = search
        self._queries = queries
        self._near = near
        self._tried: dict[Effort, Trial] = {}

    @property
    def best_recall(self) -> float:
        """Of all settings tried so far."""
        return max(trial.ann_recall_at_10 for trial in self._tried.values())

    def of(self, effort: Effort) -> Trial:
        """Search with every query, one a call."""
        if effort not in self._tried:
            self._tried[effort] = try_out(self._search, effort, self._queries, self._near)
        return self._tried[effort]

    def cheapest(self, target: float) -> Trial | None:
        """The setting that reaches ann_recall@10 of `target` in the least time; None: none does.

        For each number of candidates that is the least reach that will do.
        """
        good: list[Trial] = []
        for candidates in self._peer.candidates:
            limit_us = _TOO_SLOW * min((trial.p50_us for trial in good), default=np.inf)
            trial = self._least(target, candidates, limit_us)
            if trial is not None:
                good.append(trial)
        return self._fastest(good) if len(good) > 1 else next(iter(good), None)

    def _fastest(self, good: Sequence[Trial]) -> Trial:
        """Of settings that were tried minutes apart, on a machine in other moods: timed again, in turn."""
        rounds = [
            [try_out(self._search, trial.effort, self._queries, self._near) for trial in good] for _ in range(_ROUNDS)
        ]
        medians = np.median([[trial.p50_us for trial in again] for again in rounds], axis=0)
        return good[int(medians.argmin())]

    def _least(self, target: float, candidates: int, limit_us: float) -> Trial | None:
        """Double the reach until it will do, then halve the gap to the last that did not."""
        reaches = self._peer.reaches
        below, reach = reaches[0] - 1, reaches[0]
        recalls: list[float] = []
        while (trial := self.of(Effort(reach, candidates))).ann_recall_at_10 < target:
            recalls.append(trial.ann_recall_at_10)
            if reach == reaches[-1] or trial.p50_us > limit_us or _is_flat(recalls):
                return None
            below, reach = reach, min(2 * reach, reaches[-1])
        while trial.effort.reach - below > 1 + trial.effort.reach // _PRECISION:
            middle = self.of(Effort((below + trial.effort.reach) // 2, candidates))
            if middle.ann_recall_at_10 < target:
                below = middle.effort.reach
            else:
                trial = middle
        return trial


def try_out(search: Search, effort: Effort, queries: np.ndarray, near: np.ndarray) -> Trial:
    """Search with each of (n, d) queries alone, on this thread."""
    for query in queries[:_WARM_UP]:
        search(query, effort)
    found = np.full((len(queries), K), -1, dtype=np.int64)
    times = np.empty(len(queries))
    for i, query in enumerate(queries):
        started = perf_counter_ns()
        rows = search(query, effort)
        times[i] = (perf_counter_ns() - started) / 1e3
        found[i, : len(rows)] = rows
    return Trial(effort, round(mean_recall(found, near), 6), float(np.median(times)))


def part(progress: Progress | None, at: int, parts: int) -> Progress:
    """The progress of the part `at` of several that count alike, each as 100 steps."""
    if progress is None:
        return lambda _done, _total: None
    return lambda done, total: progress(100 * at + 100 * done // total, 100 * parts)


def arm(search: Search, trial: Trial, queries: np.ndarray, *, calls: int) -> Callable[[int], Block]:
    """Queries in turn at one setting; a slow one makes fewer calls a block."""
    fewer = calls_in_block(trial.p50_us, most=calls)
    return in_turn(lambda query: search(query, trial.effort), list(queries), calls=fewer)


def calls_in_block(p50_us: float, *, most: int) -> int:
    """How many calls an arm makes in a block, so that it does not hold up the others."""
    return min(most, max(_FEWEST_CALLS, int(_BLOCK_US / p50_us)))


def _contenders(opened: Opened, queries: np.ndarray, near: np.ndarray, targets: Sequence[float]) -> list[Contender]:
    trials = Trials(opened.peer, opened.search, queries, near)
    if not has_choice(opened.peer):
        only = trials.of(Effort(opened.peer.reaches[0]))
        return [Contender(opened, None, only, only.ann_recall_at_10)]
    chosen = [trials.cheapest(target) for target in targets]
    return [Contender(opened, target, trial, trials.best_recall) for target, trial in zip(targets, chosen, strict=True)]


def _arms(contenders: Sequence[Contender], queries: np.ndarray, calls: int) -> dict[str, Callable[[int], Block]]:
    return {
        one.arm: arm(one.opened.search, one.trial, queries, calls=calls) for one in contenders if one.trial is not None
    }


def _rows(contenders: Sequence[Contender], arms: Mapping[str, Arm]) -> list[Row]:
    """By target, what has no choice last."""
    baseline = {one.target: arms.get(one.arm) for one in contenders if one.opened.peer.name == BASELINE}
    ordered = sorted(contenders, key=lambda one: (one.target is None, one.target))
    return [_row(one, arms.get(one.arm), baseline.get(one.target)) for one in ordered]


def _row(one: Contender, timed: Arm | None, baseline: Arm | None) -> Row:
    peer, built = one.opened.peer, one.opened.built
    return {
        "name": peer.name,
        "target": one.target,
        "effort": None if one.trial is None else shown(peer, one.trial.effort),
        "ann_recall_at_10": None if one.trial is None else one.trial.ann_recall_at_10,
        "p50_us": None if timed is None else timed.p50_us,
        "p99_us": None if timed is None else timed.p99_us,
        "cpu_us": None if timed is None else timed.cpu_us,
        f"p50_over_{BASELINE}": None if timed is None or baseline is None else timed.p50_us / baseline.p50_us,
        "bytes_per_product": built.bytes_per_product,
        "build_s": built.build_s,
    }


def _absent(peers: Sequence[PeerIndex]) -> list[str]:
    missing = sorted({peer.package for peer in peers if not is_installed(peer)})
    return [f"{package} is not installed; the extra `peers` brings it" for package in missing]


def _out_of_reach(contenders: Sequence[Contender]) -> list[str]:
    return [
        f"{one.opened.peer.name} does not reach {one.target}: the best of all settings tried is {one.best_recall:.3f}"
        for one in contenders
        if one.trial is None
    ]


def _sizes(opened: Sequence[Opened]) -> list[str]:
    cores = {one.built.build_cores for one in opened}
    built_with = " or ".join(map(str, sorted(cores)))
    return [f"bytes per product are those of the index's files; build seconds are with {built_with} cores"]


def _by_name(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Those that were measured."""
    named: dict[str, list[Row]] = {}
    for row in rows:
        if row["p50_us"] is not None:
            named.setdefault(str(row["name"]), []).append(row)
    return named


def _is_flat(recalls: Sequence[float]) -> bool:
    return len(recalls) > 2 and recalls[-1] - recalls[-3] < _FLAT_GAIN
