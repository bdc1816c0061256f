"""A run against its baselines on the data's test days: what `que2search evaluate` shows."""

from collections.abc import Callable

import numpy as np
import polars as pl

from index.lexical import LexicalIndex, LexicalProduct
from models.config import TRIGRAM_ONLY
from models.data.conversations import split_judgements, training_pairs
from models.data.schema import Dataset
from models.errors import RunError
from models.evaluation.report import Evaluation, evaluate
from models.evaluation.systems import LexicalSystem, System, VectorSystem
from models.evaluation.task import EvaluationTask
from models.towers import TwoTowers
from models.training.batches import DocumentTable, QueryTable
from models.training.run import Run, record, run_identity
from models.training.train import train
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
    products = dataset.products(["product_id", "title", "description", "brand", "language"])
    task = _task(run, dataset, products)
    baseline = trigram_variant(run, dataset, report=report)
    documents = DocumentTable(dataset, run.featurizer)
    systems: list[System] = [
        *(
            _vector_system(name, towers, task, documents, run)
            for name, towers in (("full model", run.towers), ("trigram only", baseline.towers))
        ),
        LexicalSystem("BM25", lexical=_lexical(products), texts=task.queries["query"].to_list()),
    ]
    conditions = {"run": str(run.path), "dataset": str(dataset.path), "preset": run.config.preset}
    evaluation = evaluate(task, systems, batch=run.config.train.batch, conditions=conditions, progress=progress)
    evaluation.save(run.path / METRICS_FILE)
    return evaluation


def evaluate_missing(run: Run, dataset: Dataset) -> Evaluation:
    """The run with everything there, without any description, and without any image: why blending exists (3.6).

    Raises:
        DataError: the dataset cannot be used.
    """
    products = dataset.products(["product_id", "language"])
    task = _task(run, dataset, products)
    documents = DocumentTable(dataset, run.featurizer)
    systems: list[System] = [
        _vector_system(name, run.towers, task, table, run)
        for name, table in (
            ("all there", documents),
            ("no descriptions", documents.without(descriptions=True)),
            ("no images", documents.without(images=True)),
        )
    ]
    conditions = {"run": str(run.path), "dataset": str(dataset.path), "preset": run.config.preset}
    return evaluate(task, systems, batch=run.config.train.batch, conditions=conditions)


def trigram_variant(run: Run, dataset: Dataset, *, report: Reporter | None = None) -> Run:
    """The run's trigram-only variant, trained now unless it was before, on the same data and settings."""
    path = run.path / TRIGRAM_RUN
    config = run.config.replace_channels(**TRIGRAM_ONLY)
    try:
        if record(path).position.identity == run_identity(config, dataset):
            return Run.open(path)
    except RunError:
        pass  # not there, or unfinished
    return train(dataset, path, config, featurizer=run.featurizer, report=report)


def _task(run: Run, dataset: Dataset, products: pl.DataFrame) -> EvaluationTask:
    """The pairs of the test days, and the ratings that chose nothing."""
    pairs = training_pairs(dataset, seed=run.config.seed)
    judgements = dataset.judgements()
    if not pairs.train["weak"].any():  # with a click log a third of the rated queries chose the weights
        _, judgements = split_judgements(judgements)
    return EvaluationTask.build(products=products, pairs=pairs.test, judgements=judgements)


def _vector_system(
    name: str, towers: TwoTowers, task: EvaluationTask, documents: DocumentTable, run: Run
) -> VectorSystem:
    queries = QueryTable(task.queries, run.featurizer)
    return VectorSystem(
        name,
        query_vectors=embed_rows(towers.query, queries, np.arange(len(queries))),
        product_vectors=embed_rows(towers.document, documents, np.arange(len(documents))),
    )


def _lexical(products: pl.DataFrame) -> LexicalIndex:
    columns = products.select("title", "description", "brand").iter_rows()
    return LexicalIndex.build(LexicalProduct(row, *fields) for row, fields in enumerate(columns))
