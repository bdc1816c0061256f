"""The picture of a tuning: what every setting finds against what it takes, and the efforts that were chosen."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from benchmarks.axes import label_logarithmic
from index.operating_points import EFFORTS, OperatingPoint
from index.sweep import Measured
from index.tune import Tuning

PICTURE_FILE = "tuning.png"
COLOURS = {"minimal": "#7d8590", "low": "#2f7fc1", "balanced": "#1f9a72", "high": "#d2691e", "exact": "#a468d5"}
LEAST_MISSED = 1e-3  # all that is found is drawn as if this share were missed
RECALLS = (0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 1)


def save(tuning: Tuning, folder: Path, *, title: str) -> Path:
    """Write the picture into `folder`, whole or not at all; returns its path."""
    path = folder / PICTURE_FILE
    beside = path.with_name(f"{path.name}.tmp")
    picture(tuning, title=title).savefig(beside, format="png", dpi=150)
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)
    return path


def picture(tuning: Tuning, *, title: str) -> Figure:
    """ann_recall@10 over p50, both stretched: each step up misses fewer of the nearest by a factor."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    _scale(axes, tuning)
    axes.plot(*_places(tuning.grid), ".", color="#b6bcc4", label="settings measured", zorder=1)
    axes.plot(*_places(tuning.pareto), ".", color="#4d545c", label="Pareto set, by work", zorder=3)
    axes.step(
        *_places(_fastest(tuning.grid)),
        where="post",
        color="#7d8590",
        linewidth=0.8,
        label="best so far, by p50",
        zorder=2,
    )
    for effort, target in tuning.targets._asdict().items():
        axes.axhline(_drawn(target), color=COLOURS[effort], linewidth=0.9, linestyle=":", zorder=0)
    settings: dict[tuple[int | None, int, bool], list[OperatingPoint]] = {}
    for effort in EFFORTS:
        point = tuning.points[effort]
        settings.setdefault((point.nprobe, point.candidates, effort == "exact"), []).append(point)
    for same in settings.values():
        _mark(axes, same)
    axes.set_title(title, loc="left")
    axes.plot([], [], ":", color="#4d545c", linewidth=0.9, label="targets, in the colour of their effort")
    axes.plot([], [], color="#4d545c", linewidth=2, label="95 % interval over queries")
    axes.legend(loc="lower right", framealpha=1, edgecolor="none", fontsize=9)
    return figure


def _places(cells: Sequence[Measured]) -> tuple[list[float], list[float]]:
    """x and y."""
    return [cell.p50_us for cell in cells], [_drawn(cell.ann_recall_at_10) for cell in cells]


def _fastest(cells: Sequence[Measured]) -> list[Measured]:
    """Those that no faster one matches in recall, by rising p50."""
    fastest: list[Measured] = []
    for cell in sorted(cells, key=lambda cell: (cell.p50_us, -cell.ann_recall_at_10)):
        if not fastest or cell.ann_recall_at_10 > fastest[-1].ann_recall_at_10:
            fastest.append(cell)
    return fastest


def _mark(axes: Axes, same: Sequence[OperatingPoint]) -> None:
    """The efforts of one setting: a point, the interval of its recall, a label in the empty corner of fast and good."""
    point, colour = same[-1], COLOURS[same[-1].effort]
    if point.p50_us is None or point.ann_recall_at_10 is None or point.ann_recall_at_10_interval is None:
        return
    recall = _drawn(point.ann_recall_at_10)
    low, high = map(_drawn, point.ann_recall_at_10_interval)
    axes.vlines(point.p50_us, low, high, color=colour, linewidth=2, zorder=4)
    axes.plot(point.p50_us, recall, "o", color=colour, markersize=8, markeredgecolor="white", zorder=5)
    lists = "all vectors" if point.nprobe is None else f"nprobe {point.nprobe}"
    axes.annotate(
        f"{', '.join(each.effort for each in same)}  {point.ann_recall_at_10:.3f}\n"
        f"{lists}, {point.candidates:,} candidates",
        (point.p50_us, recall),
        xytext=(-9, 7),
        textcoords="offset points",
        horizontalalignment="right",
        color=colour,
        fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        zorder=6,
    )


def _scale(axes: Axes, tuning: Tuning) -> None:
    """Time to the right, with room for labels on the left; recall upwards."""
    times = [cell.p50_us for cell in tuning.grid] + [tuning.points["exact"].p50_us or 1.0]
    stretch = max(2.0, max(times) / min(times))
    axes.set(xlabel="p50 of a search of the index, microseconds", ylabel="ann_recall@10", xscale="log")
    axes.set_xlim(min(times) / stretch**0.3, max(times) * stretch**0.08)
    axes.set_yscale("function", functions=(_stretched, _shrunk))
    lowest = min(cell.ann_recall_at_10 for cell in tuning.grid)
    axes.set_ylim(min(0.75, _shrunk(_stretched(lowest) - 0.05)), 1 - LEAST_MISSED / 2)
    axes.yaxis.set_major_locator(FixedLocator([_drawn(recall) for recall in RECALLS]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda recall, _: f"{recall:g}" if recall < _drawn(1) else "1")
    label_logarithmic(axes.xaxis)
    axes.grid(alpha=0.25)


def _drawn(recall: float) -> float:
    return min(recall, 1 - LEAST_MISSED)


def _stretched(recall: np.ndarray | float) -> Any:
    return -np.log10(np.maximum(1 - np.asarray(recall), LEAST_MISSED / 4))


def _shrunk(height: np.ndarray | float) -> Any:
    return 1 - 10.0 ** -np.asarray(height)
