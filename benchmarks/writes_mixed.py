"""Minutes of searches, writes and bulk loads on one server that compacts meanwhile: does anything grow?"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from msgspec.structs import replace

from benchmarks.blocks import Progress
from benchmarks.conditions import conditions, searched
from benchmarks.disturbance import cpu_times, steal_between
from benchmarks.http import first_target
from benchmarks.open_loop import Outcome, ask
from benchmarks.open_loop_client import Load
from benchmarks.overload_report import Verdict
from benchmarks.queries import choose
from benchmarks.report import BenchResult
from benchmarks.server import PATIENT, started
from benchmarks.writes_copy import copied
from benchmarks.writes_load import (
    Posted,
    WriteLoad,
    Written,
    latency_row,
    post,
    until_acknowledged_us,
    until_searchable_us,
)
from benchmarks.writes_material import Material
from benchmarks.writes_samples import ROW_BYTES, Observed, Sample, flat
from benchmarks.writes_verdicts import sustained
from index.catalogue import Catalogue
from index.generations import open_current
from models.runtime import open_release

WAITING: Final = 0.1  # of the writes, until they are searchable
ANY_SHARE: Final = "0.000001"  # of the products; the number of changes decides when to compact


@dataclass(frozen=True, kw_only=True)
class MixedResult(BenchResult):
    """A table, and what the server held over time."""

    samples: Sequence[Sample]

    def picture(self) -> Figure:
        """Memory, handles, the store and the delta over minutes; each drop of the delta is a compaction."""
        minutes = [sample.at_s / 60 for sample in self.samples]
        curves: dict[str, dict[str, list[float]]] = {
            "MB of private memory": {
                "all": [sample.held.private_bytes / 1e6 for sample in self.samples],
                "beside the delta": [sample.beside_delta / 1e6 for sample in self.samples],
            },
            "handles": {
                "open files": [sample.held.files for sample in self.samples],
                "threads": [sample.held.threads for sample in self.samples],
                "temporary files": [sample.temporary_files for sample in self.samples],
            },
            "MB of the store": {
                "its file": [sample.file_bytes / 1e6 for sample in self.samples],
                "what rows take of it": [sample.used_bytes / 1e6 for sample in self.samples],
            },
            "rows of the delta": {"delta": [sample.delta_rows for sample in self.samples]},
        }
        figure = Figure(figsize=(9, 6), layout="constrained")
        figure.suptitle(self.title)
        for axes, (label, lines) in zip(figure.subplots(2, 2).flat, curves.items(), strict=True):
            for name, values in lines.items():
                axes.plot(minutes, values, label=name)
            axes.set(xlabel="minutes", ylabel=label, ylim=(0, 1.1 * max(map(max, lines.values())) or 1))
            axes.grid(alpha=0.3)
            if len(lines) > 1:
                axes.legend()
        return figure


def run(
    release: Path,
    catalogue: Path,
    *,
    data: Path | None = None,
    queries: int = 20_000,
    seed: int = 0,
    minutes: float = 10.0,
    search_rate: float = 100.0,
    write_rate: float = 50.0,
    lines: int = 1_000,
    compact_from: int = 10_000,
    piece_s: float = 30.0,
    every_s: float = 5.0,
    progress: Progress | None = None,
) -> MixedResult:
    """Search, write, and load in bulk at rates below what the server can do; all in open loops, over a copy.

    Args:
        data, queries, seed: a dataset whose searched queries are asked, how many, and how they are drawn; without one,
            the release's golden queries. The seed also draws what is written.
        minutes: of load, rounded to whole pieces.
        search_rate, write_rate: a second.
        lines: of one bulk load in each piece.
        compact_from: changes that call for a compaction, whatever the catalogue's size.
        piece_s: seconds of load that are prepared in one go.
        every_s: seconds between two samples of what the server holds.
        progress: called with (done, total) pieces.

    Raises:
        ReleaseError, DataError: the release or the dataset cannot be opened, or has too few queries.
        CatalogueError, IndexFileError: the catalogue cannot be read or copied.
        ClientError: there is no room for a copy, the server does not start, or does not answer.
    """
    opened = open_release(release)
    chosen = choose(opened, data, count=queries, seed=seed)
    manifest = open_current(catalogue, verify=False).manifest
    pieces = max(1, round(60 * minutes / piece_s))
    before = cpu_times()
    with ExitStack() as stack:
        copy = stack.enter_context(copied(catalogue))
        temporary = stack.enter_context(TemporaryDirectory())
        models = stack.enter_context(Catalogue.open(catalogue))
        settings = {
            "Q2S_WRITES": "true",
            "Q2S_COMPACT_AT": ANY_SHARE,
            "Q2S_COMPACT_FROM": str(compact_from),
            "Q2S_TIMEOUT_MS": "20000",  # a write that waits is to be timed, not given up
            "TMPDIR": temporary,
        }
        server = stack.enter_context(started(release, copy, settings=settings | PATIENT))
        mixed = Mixed(
            searches=Load(
                host=server.host,
                port=server.port,
                targets=[first_target(query) for query in chosen.queries],
                rate=search_rate,
                seconds=piece_s,
                spin=False,
            ),
            writes=WriteLoad(
                server=server,
                material=Material(models, seed=seed),
                rate=write_rate,
                waiting=WAITING,
                arrivals="poisson",
                seed=seed,
            ),
            lines=lines,
        )
        samples: list[Sample] = []
        observed = Observed(server=server, catalogue=copy, temporary=Path(temporary), every_s=every_s)
        with observed.throughout(samples):
            for number in range(pieces):
                mixed.go_on(number)
                if progress is not None:
                    progress(number + 1, pieces)
    return judged(
        mixed,
        samples,
        conditions=conditions(
            threads=1,
            **searched(manifest),
            **chosen.conditions(),
            minutes=pieces * piece_s / 60,
            searches_per_s=search_rate,
            writes_per_s=write_rate,
            bulk_lines_per_piece=lines,
            seconds_per_piece=piece_s,
            compact_from=compact_from,
            steal=round(steal_between(before, cpu_times()), 4),
        ),
    )


class Mixed:
    """Searches, writes and lines at once.

    Args:
        searches: one piece of them.
        writes: at their rate.
        lines: of one bulk load in each piece.
    """

    def __init__(self, *, searches: Load, writes: WriteLoad, lines: int) -> None:
        self._searches = searches
        self._writes = writes
        self._lines = lines
        self.searched: list[Outcome] = []
        self.written: list[Written] = []
        self.posted: list[Posted] = []

    def go_on(self, number: int) -> None:
        """One piece more. Raises ClientError where the server cannot be reached."""
        first = int(number * self._searches.rate * self._searches.seconds)
        changes = self._writes.material.take(self._lines)
        with ThreadPoolExecutor(1) as pool, self._writes.going(self._searches.seconds, self.written, number=number):
            searching = pool.submit(ask, replace(self._searches, first=first, seed=number))
            self.posted.append(post(self._writes.server, changes))
            self.searched.append(searching.result())


def judged(mixed: Mixed, samples: Sequence[Sample], *, conditions: Mapping[str, Any]) -> MixedResult:
    """What was asked and answered, and whether anything grew."""
    verdicts = [searched_all(mixed.searched), sustained(mixed.written), posted_all(mixed.posted), *flat(samples)]
    latencies = np.concatenate([each.from_due_us[each.succeeded] for each in mixed.searched])
    return MixedResult(
        bench="writes-mixed",
        title=f"{conditions['minutes']:g} minutes of searches, writes and bulk loads",
        rows=[
            latency_row("search", latencies),
            latency_row("write, until acknowledged", until_acknowledged_us(mixed.written)),
            latency_row("write, until searchable", until_searchable_us(mixed.written)),
            latency_row("bulk load", np.array([each.seconds * 1e6 for each in mixed.posted])),
        ],
        conditions={
            **conditions,
            "compactions": samples[-1].generation - samples[0].generation,
            "samples": len(samples),
            "holds": all(verdict.holds for verdict in verdicts),
        },
        notes=[
            *map(str, verdicts),
            "memory, files and threads: of all processes of the server, what they hold at least in a third of the run;",
            f"the store: what rows take of its file, which has {samples[-1].file_bytes / 1e6:.1f} MB in the end;",
            "it keeps as many free pages as one compaction needed: what is freed while that reads waits for its end;",
            f"a row of the delta may take {ROW_BYTES:,} bytes until a compaction; latencies count from when it was due",
        ],
        samples=samples,
    )


def searched_all(outcomes: Sequence[Outcome]) -> Verdict:
    """Every search is answered with hits."""
    asked, answered = sum(each.asked for each in outcomes), sum(int(each.succeeded.sum()) for each in outcomes)
    return Verdict(answered == asked, f"{answered:,} of {asked:,} searches were answered")


def posted_all(posted: Sequence[Posted]) -> Verdict:
    """Every line is acknowledged."""
    lines, done = sum(each.lines for each in posted), sum(each.done for each in posted)
    return Verdict(done == lines, f"{done:,} of {lines:,} lines of bulk loads were done")
