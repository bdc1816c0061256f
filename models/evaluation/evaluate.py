"""A run against its baselines on the data's test days: what `que2search evaluate` shows."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from index.lexical import LexicalIndex, LexicalProduct
from models.config import TRIGRAM_ONLY
from models.data.conversations import split_judgements, training_pairs
from models.data.schema import Dataset
from models.evaluation.report import Evaluation, evaluate
from models.evaluation.systems import LexicalSystem, System, VectorSystem
from models.evaluation.task import EvaluationTask
from models.training.batches import DocumentTable, QueryTable
from models.training.run import Run
from models.training.train import train_once
from models.training.trainer import Reporter
from models.training.validation import embed_rows

METRICS_FILE = "metrics.json"
TRIGRAM_RUN = "trigram"  # the baseline's own run directory, inside the run's


def evaluate_run(
    run: Run, dataset: Dataset, *, report: Reporter | None = None, progress: Callable[[int, int], None] | None = None
) -> Evaluation:
    """Measure the run, its trigram-only variant and BM25 on test pairs and test ratings; write metrics.json.

    The variant is the paper's baseline: the same data, featuriser and settings, 3-gram channels alone. It is trained
    when it is not there yet, and reported through `report`.

    Raises:
        RunError, DataError: the run or the dataset cannot be used.
    """
    task = held_out_task(run, dataset)
    variant = trigram_variant(run, dataset, report=report)
    systems: list[System] = [
        *run_systems({"full model": run, "trigram only": variant}, task, dataset),
        LexicalSystem("BM25", lexical=_lexical(dataset), texts=task.queries["query"].to_list()),
    ]
    batch, conditions = run.config.train.batch, _conditions(run, dataset)
    evaluation = evaluate(task, systems, batch=batch, conditions=conditions, progress=progress)
    evaluation.save(run.path / METRICS_FILE)
    return evaluation


def evaluate_missing(run: Run, dataset: Dataset) -> Evaluation:
    """The run with everything there, without any description, and without any image: why blending exists (3.6).

    Raises:
        DataError: the dataset cannot be used.
    """
    task = held_out_task(run, dataset)
    documents = DocumentTable(dataset, run.featurizer)
    systems = [
        _vector_system(name, run, task, table)
        for name, table in (
            ("all there", documents),
            ("no descriptions", documents.without(descriptions=True)),
            ("no images", documents.without(images=True)),
        )
    ]
    return evaluate(task, systems, batch=run.config.train.batch, conditions=_conditions(run, dataset))


def trigram_variant(run: Run, dataset: Dataset, *, report: Reporter | None = None) -> Run:
    """The run's trigram-only variant, trained now unless it was before, on the same data and settings."""
    config = run.config.replace_channels(**TRIGRAM_ONLY)
    return train_once(dataset, run.path / TRIGRAM_RUN, config, featurizer=run.featurizer, report=report)


def held_out_task(run: Run, dataset: Dataset) -> EvaluationTask:
    """The pairs of the test days, and the ratings that chose nothing."""
    pairs = training_pairs(dataset, seed=run.config.seed)
    judgements = dataset.judgements()
    if not pairs.train["weak"].any():  # with a click log a third of the rated queries chose the weights
        _, judgements = split_judgements(judgements)
    products = dataset.products(["product_id", "language"])
    return EvaluationTask.build(products=products, pairs=pairs.test, judgements=judgements)


def run_systems(runs: Mapping[str, Run], task: EvaluationTask, dataset: Dataset) -> list[System]:
    """Exact search in each run's own vectors, by name; the runs share a featuriser."""
    documents = DocumentTable(dataset, next(iter(runs.values())).featurizer)
    return [_vector_system(name, run, task, documents) for name, run in runs.items()]


def _vector_system(name: str, run: Run, task: EvaluationTask, documents: DocumentTable) -> VectorSystem:
    queries = QueryTable(task.queries, run.featurizer)
    return VectorSystem(
        name,
        query_vectors=embed_rows(run.towers.query, queries, np.arange(len(queries))),
        product_vectors=embed_rows(run.towers.document, documents, np.arange(len(documents))),
    )


def _lexical(dataset: Dataset) -> LexicalIndex:
    columns = dataset.products(["title", "description", "brand"]).iter_rows()
    return LexicalIndex.build(LexicalProduct(row, *fields) for row, fields in enumerate(columns))


def _conditions(run: Run, dataset: Dataset) -> dict[str, Any]:
    return {"run": str(run.path), "dataset": str(dataset.path), "preset": run.config.preset}
