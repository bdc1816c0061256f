"""Results whose whole distributions are kept: HdrHistogram files and the percentile curve of every row."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hdrh.histogram import HdrHistogram
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

from benchmarks.histograms import save_histogram
from benchmarks.report import BenchResult

_CURVE = [100 * (1 - 10 ** (-step / 20)) for step in range(81)]  # 0 to 99.99, twenty for each tenth of what is left
_TICKS = (0, 50, 90, 99, 99.9, 99.99)


@dataclass(frozen=True, kw_only=True)
class TailResult(BenchResult):
    """A table with, by row, the HdrHistogram of its latencies in microseconds."""

    histograms: Mapping[str, str]  # HdrHistogram's compressed text (V2)

    def pictures(self) -> dict[str, Figure]:
        return {**super().pictures(), f"{self.bench}-percentiles": self.percentiles()}

    def percentiles(self) -> Figure:
        """Latency over percentile, the tail stretched: each step right is a tenth of the calls before."""
        figure = Figure(figsize=(9, 5), layout="constrained")
        axes = figure.subplots()
        for name, encoded in self.histograms.items():
            curve = curve_of(HdrHistogram.decode(encoded))
            axes.plot([1 / (1 - at / 100) for at, _ in curve], [us / 1000 for _, us in curve], label=name)
        axes.set(title=self.title, xlabel="percentile", ylabel="milliseconds")
        _stretch(axes)
        axes.legend()
        return figure

    def save(self, folder: Path) -> list[Path]:
        """Write BENCH-ROW.hgrm and BENCH-ROW.hlog too."""
        paths = super().save(folder)
        for name, encoded in self.histograms.items():
            paths += save_histogram(HdrHistogram.decode(encoded), folder / f"{self.bench}-{_as_file_name(name)}")
        return paths


def curve_of(histogram: HdrHistogram) -> list[tuple[float, int]]:
    """(percentile, microseconds), as far as there are calls: a percentile that none is beyond says nothing."""
    known = [at for at in _CURVE if histogram.total_count * (1 - at / 100) >= 1]
    return sorted(histogram.get_percentile_to_value_dict(known).items())


def _stretch(axes: Axes) -> None:
    axes.set(xscale="log", yscale="log")
    axes.xaxis.set_major_locator(FixedLocator([1 / (1 - tick / 100) for tick in _TICKS]))
    axes.set_xticklabels([f"{tick:g}" for tick in _TICKS])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)


def _as_file_name(row: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", row.lower()).strip("-")
