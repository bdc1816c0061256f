"""Pictures of a report: matplotlib figures as inline SVG that a page in light or dark colours can hold.

Text stays text and takes the page's font. What is drawn in `INK` takes the page's text colour; the series' colours are
legible on both grounds. Equal data give equal bytes, and no two pictures of a page share an id.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import cycle, groupby, pairwise
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from models.evaluation.bootstrap import Estimate
from models.training import checkpoint

INK = "#010101"  # becomes the page's text colour; not black, which matplotlib would leave out
SERIES = ("#2f7fc1", "#d2691e", "#1f9a72", "#a468d5", "#d1477f", "#7d8590")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":")
WIDTH = 8.0  # inches
LABEL = 36  # characters of a name that a picture has room for
DECADES = 30  # a range wider than this is drawn on a logarithmic scale
POINTS = 60  # more of them are a line without markers

Histories = Mapping[str, Sequence[checkpoint.Evaluation]]


class Attention(NamedTuple):
    """The mean attention weight of each of a tower's channels, by query length; n lengths, c channels."""

    lengths: np.ndarray  # (n,) characters
    channels: Sequence[str]
    weights: np.ndarray  # (n, c)
    counts: np.ndarray  # (n,) queries of that length


class ChannelImportance(NamedTuple):
    """What a metric loses without one channel: replaced by zeros, and by another example's (Que2Search, Table 2)."""

    tower: str
    channel: str
    zeroed: Estimate
    shuffled: Estimate


class Spread(NamedTuple):
    """A mean over repetitions, and how far they lie from it."""

    mean: float
    spread: float


class AblationRow(NamedTuple):
    """A variant's metrics by name, and a word on it."""

    name: str
    metrics: Mapping[str, Spread]
    note: str = ""


class Sensitivity(NamedTuple):
    """A metric over the values of one hyper-parameter, beside variants that choose it themselves."""

    parameter: str
    metric: str
    fixed: Mapping[float, Spread]
    adaptive: Mapping[str, Spread]


class RadiusStudy(NamedTuple):
    """What is found and how good it is, when nothing below a cosine is returned; r radii."""

    minimum_cosine: np.ndarray  # (r,)
    results: np.ndarray  # (r,) mean per query
    precision: np.ndarray  # (r,) of the rated results; NaN where there are none
    recall: np.ndarray  # (r,)
    ranked_ndcg: np.ndarray  # (r,) nDCG@10 after a ranker has ordered the results again
    overlap: np.ndarray  # (r,) share of its first ten that the next tighter radius showed; NaN at the tightest


def training_curves(histories: Histories) -> str:
    """Loss and validation ROC AUC over steps, run by run; a dotted line ends a stage, a ring is the best (Fig. 3)."""

    def draw(figure: Figure) -> None:
        loss_axes, auc_axes = figure.subplots(2, 1, sharex=True)
        lines: list[Artist] = []
        for run, (history, colour, dash) in enumerate(zip(histories.values(), cycle(SERIES), cycle(DASHES))):
            look: dict[str, Any] = {"color": colour, "linestyle": dash, "markersize": 3}
            look["marker"] = "o" if len(history) <= POINTS else ""
            for _, stage in groupby(history, key=lambda seen: seen.stage):  # another stage's loss is another function
                steps, losses = zip(*((seen.step, seen.loss) for seen in stage), strict=True)
                loss_axes.plot(steps, losses, **look)
            lines += auc_axes.plot([seen.step for seen in history], [seen.roc_auc for seen in history], **look)
            best = max(history, key=lambda seen: seen.roc_auc)
            auc_axes.plot(best.step, best.roc_auc, "o", color=colour, markersize=8, fillstyle="none")
            for before, after in pairwise(history):
                if before.stage != after.stage:
                    _mark_stage(loss_axes, auc_axes, before.step, f"stage {after.stage}", colour, row=run)
        _wide_range(loss_axes, np.array([seen.loss for history in histories.values() for seen in history]))
        loss_axes.set_ylabel("loss")
        auc_axes.set(ylabel="validation ROC AUC", xlabel="step")
        auc_axes.xaxis.set_major_formatter("{x:,.0f}")
        auc_axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(histories) > 1:
            _legend(figure, lines, list(histories))

    return _svg("curves", draw, height=4.6)


def attention_by_length(attention: Attention) -> str:
    """A line per channel, and how many queries it stands on."""

    def draw(figure: Figure) -> None:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        lines: list[Artist] = []
        for weights, colour, marker in zip(attention.weights.T, cycle(SERIES), cycle(MARKERS)):
            lines += axes.plot(attention.lengths, weights, color=colour, marker=marker, markersize=4)
        axes.set(ylabel="attention weight", ylim=(0, 1))
        below.bar(attention.lengths, attention.counts, color=SERIES[-1], width=0.8)
        below.set(ylabel="queries", xlabel="query length, characters")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        below.yaxis.set_major_formatter("{x:,.0f}")
        _legend(figure, lines, attention.channels)

    return _svg("attention", draw, height=4.2)


def channel_importance(rows: Sequence[ChannelImportance], *, measure: str) -> str:
    """Two bars with intervals per channel, a panel per tower, the strongest channel first."""
    towers = {tower: strongest_first(rows, tower) for tower in dict.fromkeys(row.tower for row in rows)}

    def draw(figure: Figure) -> None:
        panels = figure.subplots(
            len(towers), 1, sharex=True, squeeze=False, height_ratios=[len(own) for own in towers.values()]
        )[:, 0]
        for axes, (tower, own) in zip(panels, towers.items(), strict=True):
            places = np.arange(len(own))
            kinds = ([row.zeroed for row in own], [row.shuffled for row in own])
            bars = [
                _bars(axes, places + shift, estimates, colour)
                for shift, estimates, colour in zip((-0.19, 0.19), kinds, SERIES, strict=False)
            ]
            axes.axvline(0, color=INK, linewidth=0.8)
            axes.set_yticks(places, [_short(row.channel) for row in own])
            axes.invert_yaxis()
            axes.set_title(_short(tower), loc="left")
            axes.grid(visible=False, axis="y")
        panels[-1].set_xlabel(measure)
        _legend(figure, bars, ["zeroed", "shuffled"])

    return _svg("importance", draw, height=1.0 + 0.45 * len(rows) + 0.3 * len(towers))


def ablation_dots(rows: Sequence[AblationRow]) -> str:
    """A panel per metric: each variant's mean and spread, and a dotted line through the first variant."""
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.metrics))
    columns = min(len(metrics), 3)
    lines = -(-len(metrics) // columns)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
        for axes, metric in zip(panels, metrics, strict=False):
            for place, row in enumerate(rows):
                if metric in row.metrics:
                    mean, spread = row.metrics[metric]
                    axes.hlines(place, mean - spread, mean + spread, color=INK, linewidth=1.2)
                    axes.plot(mean, place, "o", color=SERIES[0], markersize=6)
            if metric in rows[0].metrics:
                axes.axvline(rows[0].metrics[metric].mean, color=INK, linestyle=":", linewidth=1)
            axes.set_title(_short(metric), loc="left")
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.margins(x=0.12)
        for axes in panels[len(metrics) :]:
            axes.set_visible(False)
        panels[0].set_yticks(range(len(rows)), [_short(row.name) for row in rows])
        panels[0].set_ylim(len(rows) - 0.5, -0.5)

    return _svg("ablation", draw, height=lines * (0.8 + 0.3 * len(rows)))


def sensitivity(study: Sensitivity) -> str:
    """The fixed values' curve with its spread, and a level line per adaptive variant."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        values = sorted(study.fixed)
        means, spreads = zip(*(study.fixed[value] for value in values), strict=True)
        lines: list[Artist] = [axes.errorbar(values, means, yerr=spreads, color=SERIES[0], marker="o", capsize=3)[0]]
        looks = zip(study.adaptive.values(), cycle(SERIES[1:]), cycle(DASHES[1:] + DASHES[:1]))
        for (mean, _), colour, dash in looks:
            lines.append(axes.axhline(mean, color=colour, linestyle=dash))
        axes.set(xscale="log", xlabel=study.parameter, ylabel=study.metric)
        axes.set_xticks(values, [f"{value:.3g}" for value in values])
        axes.xaxis.set_minor_locator(NullLocator())
        _legend(figure, lines, ["fixed", *study.adaptive])

    return _svg(f"sensitivity-{study.parameter}", draw, height=3.6)


def radius_tradeoff(study: RadiusStudy) -> str:
    """Shares, and below them the number of results, over the minimum cosine."""

    def draw(figure: Figure) -> None:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        lines: list[Artist] = []
        shares = (study.precision, study.recall, study.ranked_ndcg, study.overlap)
        for values, colour, marker in zip(shares, SERIES, MARKERS, strict=False):
            lines += axes.plot(study.minimum_cosine, values, color=colour, marker=marker, markersize=4)
        axes.set(ylabel="share", ylim=(0, 1.02))
        below.plot(study.minimum_cosine, study.results, color=SERIES[-1], marker=MARKERS[-1], markersize=4)
        below.set(ylabel="results per query", xlabel="minimum cosine")
        if np.nanmax(study.results) > DECADES:
            below.set_yscale("symlog", linthresh=1)  # logarithmic, with a place for none
            below.yaxis.set_major_formatter("{x:,.0f}")
        below.set_ylim(bottom=0)
        _legend(figure, lines, ["precision", "recall", "nDCG@10 after a ranker", "its first ten unchanged"])

    return _svg("radius", draw, height=4.2)


def strongest_first(rows: Sequence[ChannelImportance], tower: str) -> list[ChannelImportance]:
    """A tower's channels, the most important first."""
    return sorted((row for row in rows if row.tower == tower), key=lambda row: -row.zeroed.value)


def _mark_stage(above: Axes, below: Axes, step: int, name: str, colour: str, *, row: int) -> None:
    """A line through both pictures; the name stands where the curves are high, in a row of its run."""
    for axes in (above, below):
        axes.axvline(step, color=colour, linestyle=":", linewidth=1.2)
    below.annotate(
        name,
        (step, 0.04 + 0.09 * row),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        color=colour,
        annotation_clip=False,
    )


def _bars(axes: Axes, places: np.ndarray, estimates: Sequence[Estimate], colour: str) -> Artist:
    """Horizontal bars with their intervals, which need not hold the value."""
    bars = axes.barh(places, [found.value for found in estimates], height=0.34, color=colour)
    axes.hlines(places, [found.low for found in estimates], [found.high for found in estimates], color=INK, linewidth=1)
    first: Artist = bars[0]
    return first


def _wide_range(axes: Axes, values: np.ndarray) -> None:
    if values.min() > 0 and values.max() / values.min() > DECADES:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")


def _legend(figure: Figure, handles: Sequence[Artist], names: Sequence[str]) -> None:
    """Above everything, where it hides nothing."""
    shown = [_short(name) for name in names]
    figure.legend(handles, shown, loc="outside upper left", ncols=min(len(shown), 3), frameon=False)


def _short(name: str) -> str:
    return name if len(name) <= LABEL else f"{name[: LABEL - 1]}…"


def _svg(name: str, draw: Callable[[Figure], None], *, height: float) -> str:
    """Draw and save a figure of `height` inches as an <svg> element whose ids begin with `name`."""
    written = BytesIO()
    with _style(salt=name):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure)
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    return _inline(written.getvalue(), name)


@contextmanager
def _style(*, salt: str) -> Iterator[None]:
    """Our look whatever the user's matplotlibrc says."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rc("svg", fonttype="none", hashsalt=salt)  # ids follow from the content, not from the moment
        mpl.rc("text", parse_math=False, color=INK)  # a dollar in a name is a dollar
        mpl.rc("font", size=9)
        mpl.rc("axes", titlesize=9, titleweight="bold", grid=True, axisbelow=True, edgecolor=INK, labelcolor=INK)
        mpl.rc("axes.spines", top=False, right=False)
        mpl.rc("xtick", color=INK)
        mpl.rc("ytick", color=INK)
        mpl.rc("grid", color=INK, alpha=0.15)
        mpl.rc("lines", linewidth=1.6)
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the page's fonts have it
        yield


def _inline(svg: bytes, name: str) -> str:
    """The element alone, for HTML: no namespaces, no metadata, no style sheet, ids of its own, the page's ink."""
    root = ET.fromstring(svg)  # noqa: S314 - written by us, a line before
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):  # that style sheet would hold for the whole page
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(key): _own(_local(key), value, name) for key, value in element.attrib.items()}
    for unused in ("width", "height", "version"):
        root.attrib.pop(unused, None)
    root.attrib |= {"aria-hidden": "true", "focusable": "false"}  # the figure around it speaks for it
    return ET.tostring(root, encoding="unicode")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _own(key: str, value: str, name: str) -> str:
    """An attribute's value, its ids made the picture's own, its ink the page's."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return re.sub(r"^#", f"#{name}-", value)
    if key == "style":
        value = re.sub(r"font-family:[^;]*;?", "", value)
    return value.replace(INK, "currentColor").replace("url(#", f"url(#{name}-")
