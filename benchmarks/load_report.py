"""A load's result: one table that is read in ten seconds, the verdict on the budget, and a picture of the tails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.axes import CURVE, over_percentiles, place
from benchmarks.load_record import CLIENT, FROM_SEND, LATE, Recorder
from benchmarks.load_walk import FIRST, LATER
from benchmarks.report import BenchResult, Row
from service.clock import STAGES, TOTAL

FLOOR = "empty route"
SHOWN: Mapping[str, float] = {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9, "max": 100}
COLUMNS = [(side, at) for side in ("server", "client") for at in ("p50", "p99", "p99_9")]
COLUMNS += [("over floor", "p50"), ("over floor", "p99")]
LATE_US = 1000  # a generator that is later than this at its P99 is part of what it measures


@dataclass(frozen=True, kw_only=True)
class LoadResult(BenchResult):
    """A table of page kinds; latencies of the server (without the socket) and of the client (from the due time)."""

    budget_ms: float
    problems: Sequence[str]  # why the load failed; empty: it passed
    failures: Mapping[str, int]  # by page kind and reason
    stages: Mapping[str, Mapping[str, Mapping[str, int]]]  # page kind -> stage -> percentile -> microseconds
    curves: Mapping[str, Sequence[tuple[float, int]]] = field(default_factory=dict)  # percentile, microseconds

    @property
    def passed(self) -> bool:
        return not self.problems

    @property
    def verdict(self) -> str:
        """One line, or one per problem."""
        if self.problems:
            return "\n".join(f"FAIL: {problem}" for problem in self.problems)
        p99_us = self.stages[FIRST][TOTAL]["p99"]
        return f"PASS: first page P99 {_ms(p99_us)} ms in the server, budget {self.budget_ms:g} ms; no check failed"

    def table(self) -> Table:
        """Milliseconds to 0.01."""
        caption = "\n".join([*self._stage_lines(), *self.notes])
        table = Table(title=self.title, caption=caption, box=SIMPLE_HEAD, padding=0, show_edge=False)  # 80 wide
        table.title_justify = table.caption_justify = "left"
        table.add_column("milliseconds", no_wrap=True)
        for heading in ("asked", "failed", *(_heading(*column) for column in COLUMNS)):
            table.add_column(heading, justify="right", no_wrap=True, style="bold" if heading == "server\nP99" else None)
        for row in self.rows:
            latencies = [_ms(row.get(f"{side.replace(' ', '_')}_{at}_us")) for side, at in COLUMNS]
            table.add_row(str(row["name"]), f"{row['asked']:,}", f"{row['failed']:,}", *latencies)
        return table

    def markdown(self) -> str:
        """With the verdict, which a terminal shows below the files."""
        return f"{super().markdown()}\n{self.verdict}\n"

    def picture(self) -> Figure:
        """Latency over percentile, the tail stretched: each step right is a tenth of the requests before."""
        figure = Figure(figsize=(9, 5), layout="constrained")
        axes = figure.subplots()
        colours = {FIRST: "tab:blue", LATER: "tab:orange", FLOOR: "tab:gray"}
        for name, curve in self.curves.items():
            side, row = name.split(", ", 1)
            style = "-" if side == "server" else "--"
            x, y = [place(at) for at, _ in curve], [us / 1000 for _, us in curve]
            axes.plot(x, y, style, color=colours[row], label=name)
        axes.axhline(self.budget_ms, color="tab:red", linewidth=1, label=f"budget at P99: {self.budget_ms:g} ms")
        over_percentiles(axes, self.title)
        axes.legend()
        return figure

    def _stage_lines(self) -> list[str]:
        return [
            f"{row} P99: " + ", ".join(f"{stage} {_ms(at['p99'])}" for stage, at in stages)
            for row in (FIRST, LATER)
            if (stages := [(stage, at) for stage in STAGES if (at := self.stages.get(row, {}).get(stage))])
        ]


def load_result(
    recorder: Recorder, *, title: str, budget_ms: float, unanswered: int, conditions: Mapping[str, object]
) -> LoadResult:
    """Judge and sum up a run.

    Args:
        recorder: what was measured, its last block closed.
        title: of the table and the picture.
        budget_ms: what the first page's P99 may take in the server.
        unanswered: requests that were due and had no answer when waiting ended.
        conditions: of the measurement.
    """
    stages = {row: {stage: _at(recorder, row, stage) for stage in (*STAGES, TOTAL)} for row in (FIRST, LATER)}
    late = _at(recorder, FIRST, LATE)
    problems = _budget_problems(stages[FIRST][TOTAL], budget_ms)
    problems += [
        f"{count:,} x {name}; the first: {recorder.examples[name]}" for name, count in recorder.failures.items()
    ]
    problems += [f"{unanswered:,} requests were due and never answered"] * (unanswered > 0)
    return LoadResult(
        bench="load",
        title=title,
        rows=_rows(recorder, stages),
        conditions={**conditions, "late_p50_us": late.get("p50"), "late_p99_us": late.get("p99")},
        notes=_notes(recorder, late),
        budget_ms=budget_ms,
        problems=problems,
        failures=dict(recorder.failures),
        stages=stages,
        curves=_curves(recorder),
    )


def _budget_problems(total: Mapping[str, int], budget_ms: float) -> list[str]:
    if "p99" not in total:
        return ["no first page was measured"]
    if total["p99"] > budget_ms * 1000:
        return [f"first page P99 {_ms(total['p99'])} ms in the server is over the budget of {budget_ms:g} ms"]
    return []


def _rows(recorder: Recorder, stages: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[Row]:
    floor = _at(recorder, FLOOR, CLIENT)
    rows: list[Row] = []
    for name in (FIRST, LATER, FLOOR):
        server, client = stages.get(name, {}).get(TOTAL, {}), _at(recorder, name, CLIENT)
        over = {} if name == FLOOR else {at: client[at] - floor[at] for at in client if at in floor}
        row: dict[str, str | int | float | None] = {"name": name}
        row |= {"asked": recorder.asked[name], "failed": recorder.failed[name]}
        sides = {"server": server, "client": client, "from_send": _at(recorder, name, FROM_SEND), "over_floor": over}
        rows.append(row | {f"{side}_{at}_us": figures.get(at) for side, figures in sides.items() for at in SHOWN})
    return rows


def _notes(recorder: Recorder, late: Mapping[str, int]) -> list[str]:
    notes = ["client: counted from the due time; floor: an empty route, asked in between"]
    if not recorder.quiet:
        notes.append("every second had CPU steal above 2 %: the figures are of disturbed seconds")
    elif recorder.set_aside:
        notes.append(f"{recorder.set_aside} seconds with CPU steal above 2 % were set aside")
    if late.get("p99", 0) > LATE_US:
        notes.append(f"the client sent late, P99 {_ms(late['p99'])} ms: its figures are partly its own")
    if recorder.degraded:
        notes.append(f"{recorder.degraded:,} answers were degraded")
    return notes


def _curves(recorder: Recorder) -> dict[str, list[tuple[float, int]]]:
    """As far as there are requests: a percentile that less than one request is beyond says nothing."""
    wanted = [("server", TOTAL, FIRST), ("server", TOTAL, LATER)]
    wanted += [("client", CLIENT, row) for row in (FIRST, LATER, FLOOR)]
    curves = {}
    for side, measure, row in wanted:
        if histogram := recorder.counted.get((row, measure)):
            known = [at for at in CURVE if histogram.count * (1 - at / 100) >= 1]
            curves[f"{side}, {row}"] = sorted(histogram.percentiles(known).items())
    return curves


def _at(recorder: Recorder, row: str, measure: str) -> dict[str, int]:
    """The percentiles of `SHOWN`, microseconds; empty where nothing was measured."""
    histogram = recorder.counted.get((row, measure))
    found = histogram.percentiles(SHOWN.values()) if histogram else {}
    return {name: found[at] for name, at in SHOWN.items() if at in found}


def _heading(side: str, at: str) -> str:
    return f"{side}\n{at.replace('_', '.').upper()}".replace(" ", "\n")


def _ms(microseconds: object) -> str:
    """Milliseconds to 0.01; from a second on, where nobody asks for them, without decimals."""
    if not isinstance(microseconds, int | float):
        return "-"
    return f"{microseconds / 1000:.2f}" if microseconds < 1e6 else f"{microseconds / 1000:,.0f}"
