"""All that is known of a run, gathered for its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from models.data.schema import Dataset
from models.evaluation.ablation import AblationResult, RowResult
from models.evaluation.channels import EncodedChannels, attention_by_length, channel_importance
from models.evaluation.page import Page
from models.evaluation.plots import AblationRow, Sensitivity, Spread
from models.evaluation.radius import radius_study, reading
from models.evaluation.report import Evaluation
from models.evaluation.retrieval import METRICS
from models.evaluation.systems import System
from models.evaluation.task import EvaluationTask
from models.evaluation.worst import worst_queries
from models.training.batches import DocumentTable, QueryTable
from models.training.run import Run, record

ABLATION_METRICS = ("roc_auc", "batch_recall_at_1", "knn_recall_at_10")
SWEPT = "query_roc_auc"  # what the fixed values are compared by


def run_page(
    run: Run,
    dataset: Dataset,
    *,
    task: EvaluationTask,
    documents: DocumentTable,
    system: System,
    ranker: System,
    evaluation: Evaluation,
    beside: Mapping[str, Path] | None = None,
    ablation: AblationResult | None = None,
    sweep: AblationResult | None = None,
) -> Page:
    """What `report.html` shows of a run.

    Args:
        documents: the dataset's, as the run reads them.
        system: the run's own, on the task.
        ranker: what may order its results again, see `radius_study`.
        evaluation: its figures, the run's own first.
        beside: further finished runs whose curves are laid beside.
        ablation, sweep: results of `ablate` and `ablate-adaptive`, where there are any.

    Raises:
        RunError: one of the runs beside is unfinished.
    """
    queries = EncodedChannels.of(
        run.towers.query, QueryTable(task.queries, run.featurizer), np.arange(len(task.queries))
    )
    rated = np.unique(task.judged[:, 1])
    rated_documents = EncodedChannels.of(run.towers.document, documents, rated)
    radius = radius_study(task, system, ranker)
    titles = dataset.products(["title"])["title"].to_list()
    runs = {run.path.name: run.path, **(beside or {})}
    return Page(
        title=f"que2search: {run.path.name}",
        conditions=evaluation.conditions,
        evaluation=evaluation,
        histories={name: record(path).position.history for name, path in runs.items()},
        attention=attention_by_length(queries, task.queries["query"].to_list()),
        importance=channel_importance(queries, rated_documents, task, products=rated),
        ablation=_ablation_rows(ablation) if ablation else None,
        sensitivities=_sensitivities(sweep) if sweep else (),
        radius=radius,
        radius_findings=reading(radius) if radius else None,
        worst_queries=worst_queries(task, system, evaluation.observed[0], titles=titles),
    )


def _ablation_rows(result: AblationResult) -> list[AblationRow]:
    return [
        AblationRow(
            row.name,
            {
                METRICS[metric]: Spread(row.metrics[metric].mean, row.metrics[metric].deviation)
                for metric in ABLATION_METRICS
                if metric in row.metrics
            },
            _note(row),
        )
        for row in result.rows
    ]


def _note(row: RowResult) -> str:
    """Against which row it helps, and what the paper has."""
    compared = f"over {row.over}: {row.verdict}" if row.over else ""
    return "; ".join(filter(None, [compared, row.paper and f"paper: {row.paper}"]))


def _sensitivities(result: AblationResult) -> Sequence[Sensitivity]:
    """A picture per hyper-parameter."""
    families = dict.fromkeys(row.family for row in result.rows if row.family)
    found = []
    for family in families:
        rows = [row for row in result.rows if row.family == family and SWEPT in row.metrics]
        spreads = {row.name: Spread(row.metrics[SWEPT].mean, row.metrics[SWEPT].deviation) for row in rows}
        fixed = {row.value: spreads[row.name] for row in rows if row.value is not None}
        adaptive = {row.name: spreads[row.name] for row in rows if row.value is None}
        if fixed:
            found.append(Sensitivity(family, METRICS[SWEPT], fixed, adaptive))
    return found
