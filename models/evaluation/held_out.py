"""What a run is asked, on days and ratings that chose nothing, and its vectors that answer."""

import numpy as np

from models.data.conversations import split_judgements, training_pairs
from models.data.schema import Dataset
from models.evaluation.systems import VectorSystem
from models.evaluation.task import EvaluationTask
from models.training.batches import DocumentTable, QueryTable
from models.training.run import Run
from models.training.validation import embed_rows


def held_out_task(run: Run, dataset: Dataset) -> EvaluationTask:
    """The pairs of the test days, and the ratings that chose nothing."""
    pairs = training_pairs(dataset, seed=run.config.seed)
    judgements = dataset.judgements()
    if not pairs.train["weak"].any():  # with a click log a third of the rated queries chose the weights
        _, judgements = split_judgements(judgements)
    products = dataset.products(["product_id", "language"])
    return EvaluationTask.build(products=products, pairs=pairs.test, judgements=judgements)


def vector_system(name: str, run: Run, task: EvaluationTask, documents: DocumentTable) -> VectorSystem:
    """Exact search in the run's vectors of these documents."""
    queries = QueryTable(task.queries, run.featurizer)
    return VectorSystem(
        name,
        query_vectors=embed_rows(run.towers.query, queries, np.arange(len(queries))),
        product_vectors=embed_rows(run.towers.document, documents, np.arange(len(documents))),
    )
