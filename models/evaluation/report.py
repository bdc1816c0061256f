"""The result of an evaluation: metrics.json for machines, tables for people."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from models.evaluation.bootstrap import CONFIDENCE, ROUNDS, Estimate
from models.evaluation.retrieval import METRICS, Observations, SystemResult, compare, observe, result
from models.evaluation.systems import System
from models.evaluation.task import EvaluationTask

SLICED = ("roc_auc", "knn_recall_at_10", "recall_at_10", "ndcg_at_10")


@dataclass(frozen=True, kw_only=True)
class Gain:
    """The first system against another, by metric: the paired difference and its interval."""

    name: str
    over: str
    metrics: Mapping[str, Estimate | None]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Every system's figures on one task, the first system's gain over each of the others, and the conditions."""

    systems: list[SystemResult]
    gains: list[Gain]
    counts: Mapping[str, int]
    conditions: Mapping[str, Any] = field(default_factory=dict)
    observed: Sequence[Observations] = ()  # what each system did; not written

    def to_dict(self) -> dict[str, Any]:
        """For JSON; an estimate becomes {value, low, high}."""
        return {
            "conditions": dict(self.conditions),
            "counts": dict(self.counts),
            "confidence": CONFIDENCE,
            "systems": [
                {
                    "name": system.name,
                    "metrics": _plain(system.metrics),
                    "languages": _plain(system.languages),
                    "slices": [asdict(part) for part in system.slices],
                }
                for system in self.systems
            ],
            "gains": [{"name": gain.name, "over": gain.over, "metrics": _plain(gain.metrics)} for gain in self.gains],
        }

    def save(self, path: Path) -> None:
        """Write `metrics.json` beside, then rename."""
        beside = path.with_name(f"{path.name}.tmp")
        with beside.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(self.to_dict())))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)

    def tables(self) -> list[Table]:
        """Systems with intervals, the first one's gains, ROC AUC by language (if there are several), and the slices."""
        tables = [self._systems_table()]
        if self.gains:
            tables.append(self._gains_table())
        if len(self.systems[0].languages) > 1:
            tables.append(self._languages_table())
        return [*tables, self._slices_table()]

    def _systems_table(self) -> Table:
        table = _table("the whole, with 95 % intervals over queries", "", [system.name for system in self.systems])
        for metric, heading in METRICS.items():
            table.add_row(heading, *(_shown(system.metrics[metric]) for system in self.systems))
        return table

    def _gains_table(self) -> Table:
        table = _table(f"{self.gains[0].name} minus", "", [gain.over for gain in self.gains])
        for metric, heading in METRICS.items():
            table.add_row(heading, *(_shown(gain.metrics[metric], sign="+") for gain in self.gains))
        return table

    def _languages_table(self) -> Table:
        table = _table("ROC AUC by the query's language", "", [system.name for system in self.systems])
        for language in self.systems[0].languages:
            table.add_row(language, *(_shown(system.languages[language]) for system in self.systems))
        return table

    def _slices_table(self) -> Table:
        names = " / ".join(system.name for system in self.systems)
        table = _table(f"by slice: {names}", "slice", ["pairs", "rated queries", *(METRICS[name] for name in SLICED)])
        family = None
        for parts in zip(*(system.slices for system in self.systems), strict=True):
            first = parts[0]
            if family not in (None, first.family):
                table.add_section()
            family = first.family
            figures = [" / ".join(_figure(part.metrics[metric]) for part in parts) for metric in SLICED]
            table.add_row(f"{family} {first.label}", f"{first.pairs:,}", f"{first.judged_queries:,}", *figures)
        return table


def evaluate(
    task: EvaluationTask,
    systems: Sequence[System],
    *,
    batch: int,
    conditions: Mapping[str, Any] | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure every system on the task; the first is the one whose gains are asked for."""
    observed = []
    for done, system in enumerate(systems, 1):
        observed.append(observe(task, system, batch=batch, seed=seed))
        if progress is not None:
            progress(done, len(systems))
    return Evaluation(
        systems=[
            result(task, seen, name=system.name, rounds=rounds, seed=seed)
            for system, seen in zip(systems, observed, strict=True)
        ],
        gains=[
            Gain(
                name=systems[0].name,
                over=other.name,
                metrics=compare(task, observed[0], seen, rounds=rounds, seed=seed),
            )
            for other, seen in zip(systems[1:], observed[1:], strict=True)
        ],
        counts={
            "queries": len(task.queries),
            "products": len(task.product_languages),
            "test_pairs": len(task.pairs),
            "ratings": len(task.ratings),
            "left_out": task.left_out,
        },
        observed=observed,
        conditions={**(conditions or {}), "batch": min(batch, len(task.pairs)), "rounds": rounds, "seed": seed},
    )


def _plain(metrics: Mapping[str, Estimate | None]) -> dict[str, dict[str, float] | None]:
    return {name: None if value is None else value._asdict() for name, value in metrics.items()}


def _table(title: str, first: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _shown(value: Estimate | None, *, sign: str = "") -> str:
    return "-" if value is None else f"{value.value:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
