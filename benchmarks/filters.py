"""Filtered search, by how much a filter leaves and what it has to do with the query, beside what else could be done."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.axes import label_logarithmic
from benchmarks.blocks import Arm, Block, Progress, in_turn, interleave
from benchmarks.conditions import conditions, pinned
from benchmarks.filter_cases import FILTERS, KINDS, Ask, Case, filter_cases
from benchmarks.peer_indexes import SERVED, Ours, built_index
from benchmarks.peers import calls_in_block
from benchmarks.report import BenchResult, Row
from benchmarks.scale import TARGET, cheapest_trial
from benchmarks.vectors import K, VectorSet, mean_recall, nearest
from index.ann import FaissIndex, Hits, RowFilter
from index.exact import ExactIndex
from index.filtered import FilteredSearch, FilterUse, Narrowed
from index.operating_points import OperatingPoint
from index.spec import choose_spec

SELECTIVITIES = (0.5, 0.1, 0.01, 0.001, 0.0001)
UNFILTERED = "no filter"
_TRIED = 5  # calls that tell how many a block affords


class Ways(NamedTuple):
    """What is compared: ways to search under a filter, at one operating point."""

    ann: FaissIndex
    exact: ExactIndex
    filtered: FilteredSearch
    low: OperatingPoint

    def ours(self, ask: Ask) -> Narrowed:
        """As /search does."""
        return self.filtered.search(ask.query, self.low, ask.only)

    def ours_at_first(self, ask: Ask) -> Narrowed:
        """With a filter that no search has met: a bitmap."""
        return self.filtered.search(ask.query, self.low, RowFilter(ask.only.bits, count=ask.only.count))

    def faiss(self, ask: Ask) -> Hits:
        """Faiss passes over what is not allowed, in the lists that it probes without a filter too."""
        return self.ann.search(ask.query, nprobe=self.low.nprobe, candidates=self.low.candidates, only=ask.only)

    def all_compared(self, ask: Ask) -> Hits:
        """Everything that is allowed."""
        return self.exact.search(ask.query, candidates=K, only=ask.only)

    def unfiltered(self, ask: Ask) -> Hits:
        """Whatever is near."""
        return self.ann.search(ask.query, nprobe=self.low.nprobe, candidates=self.low.candidates)

    def arms(self, cases: Sequence[Case], *, calls: int) -> dict[str, Callable[[int], Block]]:
        """Every way for every case, by "case, way"; and the search without a filter."""
        ways = {"ours": self.ours, "ours at first": self.ours_at_first, "Faiss": self.faiss, "exact": self.all_compared}
        arms = {f"{case.name}, {way}": _arm(call, case.asks, calls) for case in cases for way, call in ways.items()}
        return {UNFILTERED: _arm(self.unfiltered, cases[0].asks, calls), **arms}


@dataclass(frozen=True, kw_only=True)
class FiltersResult(BenchResult):
    """Its picture is recall and time against selectivity, a line per kind of filter."""

    def picture(self) -> Figure:
        figure = Figure(figsize=(11, 4.5), layout="constrained")
        recall, time = figure.subplots(1, 2)
        self._draw(recall, "ann_recall_at_10")
        self._draw(time, "p50_us")
        recall.set(ylabel="ann_recall@10", ylim=(0, 1.03))
        time.set(ylabel="p50, microseconds", yscale="log")
        label_logarithmic(time.yaxis)
        figure.suptitle(f"{self.title}\ndashed: Faiss' own filter at the same nprobe")
        figure.legend(*recall.get_legend_handles_labels(), loc="outside right upper")
        return figure

    def _draw(self, axes: Axes, column: str) -> None:
        for at, kind in enumerate(KINDS):
            rows = [row for row in self.rows if row["name"] == kind]
            shares, ours, theirs = ([row[name] for row in rows] for name in ("selectivity", column, f"faiss_{column}"))
            axes.plot(shares, ours, "o-", color=f"C{at}", label=kind)  # type: ignore[arg-type]  # these are numbers
            axes.plot(shares, theirs, "--", color=f"C{at}", alpha=0.5)  # type: ignore[arg-type]
        axes.set(xlabel="products that pass the filter", xscale="log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        axes.grid(alpha=0.3)


def run(
    vectors: VectorSet,
    *,
    cache: Path,
    selectivities: Sequence[float] = SELECTIVITIES,
    target: float = TARGET,
    seed: int = 0,
    blocks: int = 20,
    calls: int = 100,
    building: Progress | None = None,
    drawing: Progress | None = None,
    measuring: Progress | None = None,
) -> FiltersResult:
    """Search our index under filters of each selectivity and kind, one query a call, at the setting of `low`.

    Args:
        vectors: what is indexed and searched with.
        cache: keeps the built index and the exact nearest between runs.
        selectivities: shares of the products that pass.
        target: ann_recall@10; the setting is the cheapest that reaches it without a filter.
        seed: of the filters.
        blocks, calls: rounds, and calls of an arm in each (fewer of slow ones).
        building, drawing, measuring: called with (done, total) of each part.

    Raises:
        SpecError: the index cannot be built from these vectors.
        TuneError: a selectivity leaves no product, or no setting reaches the target.
    """
    ours = Ours("ours", choose_spec(count=vectors.count, dim=vectors.dim), candidates=SERVED)
    cases = filter_cases(vectors, selectivities, seed=seed, progress=drawing or _silent)
    built = built_index(ours, vectors, cache=cache, progress=building or _silent)
    ann, exact = ours.read(built.path), ExactIndex(vectors.products)
    with pinned() as core:
        trial = cheapest_trial(ours, ann, vectors, nearest(vectors, cache=cache), target)
        nprobe = None if ann.nlist is None else trial.effort.reach
        low = OperatingPoint(effort="low", nprobe=nprobe, candidates=trial.effort.candidates)
        ways = Ways(ann, exact, FilteredSearch(ann, exact), low)
        measured = interleave(ways.arms(cases, calls=calls), blocks=blocks, progress=measuring)
    return FiltersResult(
        bench="filters",
        title=f"Filtered search of {vectors.count:,} vectors of {vectors.dim}, one query a call, one thread",
        rows=[
            _unfiltered_row(low, trial.ann_recall_at_10, measured.arms[UNFILTERED]),
            *(_row(case, ways, measured.arms) for case in cases),
        ],
        conditions=conditions(
            threads=1,
            core=core,
            vectors=vectors.products_key,
            factory=ours.parameters,
            products=vectors.count,
            dim=vectors.dim,
            nprobe=low.nprobe,
            candidates=low.candidates,
            queries=len(vectors.queries),
            filters_of_a_case=FILTERS,
            queries_of_a_case=len(cases[0].asks),
            seed=seed,
            calls_per_block=calls,
            **measured.conditions(),
        ),
        notes=[*(f"{kind}: {meaning};" for kind, meaning in KINDS.items()), *_explained(), *measured.notes()],
    )


def _arm(call: Callable[[Ask], object], asks: Sequence[Ask], calls: int) -> Callable[[int], Block]:
    """Asks in turn, those of one filter scattered among those of the others; a slow way makes fewer calls a block."""
    mixed = [asks[at] for at in np.random.default_rng(0).permutation(len(asks))]
    times = np.empty(_TRIED)
    for at in range(_TRIED):
        started = perf_counter_ns()
        call(mixed[at % len(mixed)])
        times[at] = (perf_counter_ns() - started) / 1e3
    return in_turn(call, mixed, calls=calls_in_block(float(np.median(times)), most=calls))


def _recall(found: Sequence[Hits], near: np.ndarray) -> float:
    rows = np.full((len(found), K), -1, dtype=np.int64)
    for at, hits in enumerate(found):
        first = hits.numbers[0, :K]
        rows[at, : len(first)] = first
    return round(mean_recall(rows, near), 6)


def _row(case: Case, ways: Ways, arms: Mapping[str, Arm]) -> Row:
    found = [ways.ours(ask) for ask in case.asks]
    ours, first, faiss, exact = (arms[f"{case.name}, {way}"] for way in ("ours", "ours at first", "Faiss", "exact"))
    return {
        "name": case.kind,
        "selectivity": case.selectivity,
        "strategy": _strategies([each.use for each in found]),
        "lists_probed": _median([each.use.nprobe for each in found]),
        "ann_recall_at_10": _recall([each.hits for each in found], case.near),
        "p50_us": ours.p50_us,
        "p99_us": ours.p99_us,
        "cpu_us": ours.cpu_us,
        "first_use_us": first.p50_us,
        "faiss_ann_recall_at_10": _recall([ways.faiss(ask) for ask in case.asks], case.near),
        "faiss_p50_us": faiss.p50_us,
        "exact_p50_us": exact.p50_us,
    }


def _unfiltered_row(low: OperatingPoint, recall: float, timed: Arm) -> Row:
    return {
        "name": UNFILTERED,
        "selectivity": 1.0,
        "strategy": None,
        "lists_probed": low.nprobe,
        "ann_recall_at_10": recall,
        "p50_us": timed.p50_us,
        "p99_us": timed.p99_us,
        "cpu_us": timed.cpu_us,
    }


def _strategies(uses: Sequence[FilterUse]) -> str:
    return ", ".join(sorted({use.strategy for use in uses}))


def _median(probed: Sequence[int | None]) -> float | None:
    some = [nprobe for nprobe in probed if nprobe is not None]
    return float(np.median(some)) if some else None


def _explained() -> list[str]:
    return [
        "first use: p50 of a search with a bitmap that was never used before;",
        "faiss: the same index and bitmap at the nprobe and candidates of an unfiltered search;",
        "exact: everything that passes is compared.",
    ]


def _silent(_done: int, _total: int) -> None:
    """No progress is shown."""
