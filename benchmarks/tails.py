"""Results whose whole distributions are kept: HdrHistogram files and the percentile curve of every row."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hdrh.histogram import HdrHistogram
from matplotlib.figure import Figure

from benchmarks.axes import CURVE, over_percentiles, place
from benchmarks.histograms import save_histogram
from benchmarks.report import BenchResult


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
            axes.plot([place(at) for at, _ in curve], [us / 1000 for _, us in curve], label=name)
        over_percentiles(axes, self.title)
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
    known = [at for at in CURVE if histogram.total_count * (1 - at / 100) >= 1]
    return sorted(histogram.get_percentile_to_value_dict(known).items())


def _as_file_name(row: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", row.lower()).strip("-")
