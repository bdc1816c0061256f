"""The sections of report.html: what each part of an evaluation puts on the page, as texts, pictures and tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from models.evaluation import plots
from models.evaluation.bootstrap import Estimate
from models.evaluation.plots import (
    AblationRow,
    Attention,
    ChannelImportance,
    Histories,
    RadiusStudy,
    Sensitivity,
    Spread,
)
from models.evaluation.report import SLICED, Evaluation
from models.evaluation.retrieval import METRICS
from models.training import checkpoint

UNKNOWN = "–"
TOLD = {"batch": "batches of {:,}", "rounds": "{:,} rounds of resampling"}  # conditions that the figures depend on


class Retrieved(NamedTuple):
    """A product that was returned; `relevant` is None where nobody rated it."""

    title: str
    score: float
    relevant: bool | None


@dataclass(frozen=True, kw_only=True)
class WorstQuery:
    """A query that went badly: what was wanted, and what came instead."""

    query: str
    country: str | None
    metric: str
    value: float
    wanted: Sequence[str]  # titles, logged or rated relevant
    retrieved: Sequence[Retrieved]  # best first; the page shows the first five


class Cell(NamedTuple):
    """A table's field; the detail, such as an interval, stands smaller beside the text."""

    text: str
    detail: str = ""
    strong: bool = False


class Group(NamedTuple):
    """Rows of a table that belong together."""

    heading: str
    rows: Sequence[tuple[str, Sequence[Cell]]]  # what the row is of, and its fields


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns of figures beside a column of names."""

    caption: str
    first: str  # heading of the names
    headings: Sequence[str]
    groups: Sequence[Group]
    spans: Sequence[tuple[str, int]] = ()  # headings above the headings, and how many of these each stands over
    prose: Sequence[str] = ()  # headings of columns that hold words


class Picture(NamedTuple):
    """An inline SVG, what it shows in words, and a caption."""

    svg: Markup
    label: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page."""

    name: str  # its anchor
    heading: str
    lead: str = ""
    sentences: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    worst_queries: Sequence[WorstQuery] = ()


def headline(evaluation: Evaluation) -> Section:
    """Systems by metrics, and what the first one gains."""
    told = [f"{count:,} {name.replace('_', ' ')}" for name, count in evaluation.counts.items()]
    told += [text.format(evaluation.conditions[name]) for name, text in TOLD.items() if name in evaluation.conditions]
    return Section(
        name="results",
        heading="Results",
        lead="Brackets hold 95 % intervals by bootstrap over queries. Bold are the best system, and gains whose "
        "interval excludes 0.",
        sentences=[f"Measured on: {', '.join(told)}."] if told else [],
        tables=[_systems_table(evaluation), *([_gains_table(evaluation)] if evaluation.gains else [])],
    )


def training(histories: Histories) -> Section:
    """Loss and validation ROC AUC of one run, or of several side by side."""
    names = ", ".join(histories)
    staged = any(seen.stage == 2 for history in histories.values() for seen in history)
    return Section(
        name="training",
        heading="Training",
        lead="Stage 2 trains on hard negatives. Its loss is another function: the stages' heights cannot be compared."
        if staged
        else "",
        pictures=[
            Picture(
                Markup(plots.training_curves(histories)),  # noqa: S704 - the picture escapes its own texts
                f"Loss and validation ROC AUC over training steps of {names}; the table below has the key figures.",
                "Above the loss, below the validation ROC AUC. A dotted line ends a stage; a ring is a run's best.",
            )
        ],
        tables=[
            _table(
                "The run in figures" if len(histories) == 1 else "The runs in figures",
                "run",
                ["steps", "stage 1", "stage 2", "best ROC AUC", "at step", "minutes"],
                [(name, _history_cells(history)) for name, history in histories.items()],
            )
        ],
    )


def attention_by_length(attention: Attention) -> Section:
    """Which channel the tower listens to, by query length."""
    told = ""
    if attention.counts.sum():
        means = np.average(np.nan_to_num(attention.weights), axis=0, weights=attention.counts)
        told = ", ".join(f"{name} {mean:.2f}" for name, mean in zip(attention.channels, means, strict=True))
    return Section(
        name="attention",
        heading="Attention by query length",
        lead="The mean attention weight of each channel. In the paper 3-grams lead below five characters and the text "
        "encoder above; over all queries 0.36 and 0.64.",
        sentences=[f"Here over all {int(attention.counts.sum()):,} queries: {told}."] if told else [],
        pictures=[
            Picture(
                Markup(plots.attention_by_length(attention)),  # noqa: S704 - as above
                f"Mean attention weight of {', '.join(attention.channels)} over the query's length in characters.",
                "The bars below count the queries of each length.",
            )
        ],
    )


def channel_importance(rows: Sequence[ChannelImportance], *, measure: str) -> Section:
    """What is lost without a channel."""
    towers = dict.fromkeys(row.tower for row in rows)
    return Section(
        name="importance",
        heading="Channel importance",
        lead="What the metric loses when one channel of one tower is replaced: by zeros, or by another example's. "
        "Lines are 95 % intervals.",
        pictures=[
            Picture(
                Markup(plots.channel_importance(rows, measure=measure)),  # noqa: S704 - as above
                f"Bars of the {measure} by channel of {', '.join(towers)}; the table below has the figures.",
                "The strongest channel of a tower first.",
            )
        ],
        tables=[
            Table(
                caption=measure[:1].upper() + measure[1:],
                first="channel",
                headings=["zeroed", "shuffled"],
                groups=[
                    Group(
                        tower,
                        [
                            (row.channel, [_estimated(row.zeroed), _estimated(row.shuffled)])
                            for row in plots.strongest_first(rows, tower)
                        ],
                    )
                    for tower in towers
                ],
            )
        ],
    )


def ablation(rows: Sequence[AblationRow], *, spread: str) -> Section:
    """What each part of the model is worth."""
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.metrics))
    noted = any(row.note for row in rows)
    return Section(
        name="ablation",
        heading="Ablation",
        lead=f"Means, and after ± the {spread}.",
        pictures=[
            Picture(
                Markup(plots.ablation_dots(rows)),  # noqa: S704 - as above
                f"Mean and spread of {', '.join(metrics)} by variant; the table below has the figures.",
                f"Lines are the {spread}; the dotted line is {rows[0].name}.",
            )
        ],
        tables=[
            Table(
                caption="Variants",
                first="variant",
                headings=[*metrics, *(["note"] if noted else [])],
                prose=["note"] if noted else [],
                groups=[
                    Group(
                        "",
                        [
                            (
                                row.name,
                                [_spread(row.metrics.get(metric)) for metric in metrics] + [Cell(row.note)] * noted,
                            )
                            for row in rows
                        ],
                    )
                ],
            )
        ],
    )


def sensitivities(studies: Sequence[Sensitivity], *, spread: str) -> Section:
    """How much a hand-tuned value matters, and whether adapting it does without the tuning (JD, EMNLP'23)."""
    return Section(
        name="sensitivity",
        heading="Fixed and adaptive hyper-parameters",
        lead=f"The blue line is a fixed value, with the {spread}; level lines are variants that choose it themselves.",
        pictures=[
            Picture(
                Markup(plots.sensitivity(study)),  # noqa: S704 - as above
                f"{study.metric} over the fixed {study.parameter}, beside {', '.join(study.adaptive)}.",
                f"{study.metric} by {study.parameter}.",
            )
            for study in studies
        ],
    )


def radius(study: RadiusStudy | None, sentences: Sequence[str]) -> Section:
    """What a minimum cosine keeps and what it costs."""
    pictures, tables = [], []
    if study is not None:
        pictures.append(
            Picture(
                Markup(plots.radius_tradeoff(study)),  # noqa: S704 - as above
                "Precision, recall, what a ranker makes of the results, and their number, over the minimum cosine; "
                "the table below has the figures.",
                "Above: precision among the rated results, recall, nDCG@10 after BM25 has ordered them again, and how "
                "much of its first ten stays when the radius is loosened by a step. Below: results per query.",
            )
        )
        shares = zip(study.precision, study.recall, study.ranked_ndcg, study.overlap, strict=True)
        tables.append(
            _table(
                "By minimum cosine",
                "minimum cosine",
                ["results per query", "precision of rated", "recall", "nDCG@10 ranked", "ranked unchanged"],
                [
                    (f"{least:.2f}", [Cell(f"{found:,.1f}"), *(Cell(_figure(share)) for share in own)])
                    for least, found, own in zip(study.minimum_cosine, study.results, shares, strict=True)
                ],
            )
        )
    return Section(
        name="radius",
        heading="Radius",
        lead="Results below a minimum cosine are not returned, as in the paper's radius mode. "
        "Looser finds more, and lets in noise that the rankers behind must handle.",
        sentences=sentences,
        pictures=pictures,
        tables=tables,
    )


def slices(evaluation: Evaluation) -> Section:
    """The figures by language, length, frequency and across languages."""
    systems = evaluation.systems
    rows = list(zip(*(system.slices for system in systems), strict=True))  # every system's of a slice
    return Section(
        name="slices",
        heading="Slices",
        lead="The same figures on parts of the test. A small part says little.",
        tables=[
            Table(
                caption="By slice",
                first="slice",
                headings=["pairs", "rated queries", *(system.name for _ in SLICED for system in systems)],
                spans=[("", 3), *((METRICS[metric], len(systems)) for metric in SLICED)],
                groups=[
                    Group(
                        family,
                        [
                            (
                                parts[0].label,
                                [
                                    Cell(f"{parts[0].pairs:,}"),
                                    Cell(f"{parts[0].judged_queries:,}"),
                                    *(Cell(_figure(part.metrics[metric])) for metric in SLICED for part in parts),
                                ],
                            )
                            for parts in own
                        ],
                    )
                    for family, own in groupby(rows, key=lambda parts: parts[0].family)
                ],
            )
        ],
    )


def worst_queries(queries: Sequence[WorstQuery]) -> Section:
    """Where to look for what is wrong."""
    return Section(
        name="worst-queries",
        heading="Worst queries",
        lead="What was wanted, and what came first.",
        worst_queries=queries,
    )


def _systems_table(evaluation: Evaluation) -> Table:
    rows = []
    for metric, heading in METRICS.items():
        found = [system.metrics[metric] for system in evaluation.systems]
        known = [estimate.value for estimate in found if estimate is not None]
        best = max(known) if len(known) > 1 else None
        rows.append((heading, [_estimated(estimate, best=best) for estimate in found]))
    return _table("Systems", "metric", [system.name for system in evaluation.systems], rows)


def _gains_table(evaluation: Evaluation) -> Table:
    gains = evaluation.gains
    return _table(
        f"What {gains[0].name} gains, query by query",
        "metric",
        [f"over {gain.over}" for gain in gains],
        [(heading, [_gained(gain.metrics[metric]) for gain in gains]) for metric, heading in METRICS.items()],
    )


def _history_cells(history: Sequence[checkpoint.Evaluation]) -> list[Cell]:
    best = max(history, key=lambda seen: seen.roc_auc)
    last = {seen.stage: seen.step for seen in history}  # a stage's last step
    steps = history[-1].step
    return [
        Cell(f"{steps:,}"),
        Cell(f"{last[1]:,}" if 1 in last else UNKNOWN),
        Cell(f"{steps - last.get(1, 0):,}" if 2 in last else UNKNOWN),
        Cell(f"{best.roc_auc:.4f}"),
        Cell(f"{best.step:,}"),
        Cell(f"{history[-1].seconds / 60:,.1f}"),
    ]


def _table(caption: str, first: str, headings: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell]]]) -> Table:
    return Table(caption=caption, first=first, headings=headings, groups=[Group("", rows)])


def _estimated(estimate: Estimate | None, *, best: float | None = None) -> Cell:
    if estimate is None:
        return Cell(UNKNOWN)
    value, low, high = estimate
    return Cell(f"{value:.3f}", f"[{low:.3f}, {high:.3f}]", strong=value == best)


def _gained(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell(UNKNOWN)
    value, low, high = estimate
    return Cell(f"{value:+.3f}", f"[{low:+.3f}, {high:+.3f}]", strong=low > 0 or high < 0)


def _spread(found: Spread | None) -> Cell:
    return Cell(UNKNOWN) if found is None else Cell(f"{found.mean:.3f}", f"± {found.spread:.3f}")


def _figure(value: float | None) -> str:
    return UNKNOWN if value is None or np.isnan(value) else f"{value:.3f}"
