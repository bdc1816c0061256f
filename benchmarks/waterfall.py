"""Where the time of a search goes: its stages, one behind the other."""

from dataclasses import dataclass

from matplotlib.figure import Figure

from benchmarks.report import Row
from benchmarks.tails import TailResult
from service.clock import STAGES

REST = "rest"


@dataclass(frozen=True, kw_only=True)
class SearchResult(TailResult):
    """Rows with `STAGE_us` and `rest_us` are pages, whose stages are drawn."""

    def pictures(self) -> dict[str, Figure]:
        return {**super().pictures(), f"{self.bench}-stages": self.waterfall()}

    def waterfall(self) -> Figure:
        """A bar per page: the stages' medians in the order in which they run, then that of what is left."""
        pages = [row for row in self.rows if f"{REST}_us" in row][::-1]
        names = [str(row["name"]) for row in pages]
        figure = Figure(figsize=(9, 1.6 + 0.45 * len(pages)), layout="constrained")
        axes = figure.subplots()
        starts = [0.0] * len(pages)
        for stage in (*STAGES, REST):
            widths = [_microseconds(row, stage) for row in pages]
            if any(widths):
                axes.barh(names, widths, left=starts, height=0.6, label=stage)
            starts = [start + width for start, width in zip(starts, widths, strict=True)]
        axes.set(title=self.title, xlabel="microseconds, medians")
        axes.grid(axis="x", alpha=0.3)
        axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.25))
        return figure


def _microseconds(row: Row, stage: str) -> float:
    """Zero where the page has no such stage."""
    return float(row.get(f"{stage}_us") or 0.0)
