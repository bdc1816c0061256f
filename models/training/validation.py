"""The validation ROC AUC that early stopping watches (Que2Search 3.1 and 3.4)."""

from collections.abc import Iterator

import numpy as np
import polars as pl
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from models.data.conversations import split_judgements
from models.data.schema import RELEVANT
from models.features import Featurizer
from models.towers import Tower, TwoTowers, as_tensors
from models.training.batches import ProductRows, QueryTable, Rows, number_pairs

MAX_JUDGEMENTS = 5_000
MAX_POSITIVES, NEGATIVES_PER_POSITIVE = 500, 10
EMBED_BATCH = 256


def embed_rows(tower: Tower, table: Rows, rows: np.ndarray) -> np.ndarray:
    """Vectors (n, d) float32 in the order of `rows`; texts of like length share a batch, so little is padding."""
    vectors = np.zeros((len(rows), tower.dim), dtype=np.float32)
    with torch.inference_mode():
        for at, features in tower_batches(tower, table, rows):
            vectors[at] = tower(*features).cpu().numpy()
    return vectors


def tower_batches(tower: Tower, table: Rows, rows: np.ndarray) -> Iterator[tuple[np.ndarray, list[Tensor]]]:
    """The places in `rows` of a batch and its features, for a tower that learns nothing now; like lengths together."""
    order = np.argsort(table.lengths[rows], kind="stable")
    tower.eval()
    for start in range(0, len(rows), EMBED_BATCH):
        at = order[start : start + EMBED_BATCH]
        yield at, as_tensors(table.batch(rows[at]), tower, tower.device)


class Validation:
    """Queries, documents and whether each pair belongs together."""

    def __init__(self, examples: pl.DataFrame, *, documents: ProductRows, featurizer: Featurizer) -> None:
        """`examples` has the columns query, country, product_id and relevant (bool)."""
        numbered = number_pairs(examples, documents)
        self._queries = QueryTable(numbered.queries, featurizer)
        self._documents = documents
        self._query_at = numbered.query_rows
        self._document_rows, self._document_at = np.unique(numbered.document_rows, return_inverse=True)
        self._relevant = examples["relevant"].to_numpy()

    def roc_auc(self, towers: TwoTowers) -> float:
        """The chance that a relevant pair has a higher cosine than one that is not, over all pairs."""
        queries = embed_rows(towers.query, self._queries, np.arange(len(self._queries)))
        documents = embed_rows(towers.document, self._documents, self._document_rows)
        cosines = (queries[self._query_at] * documents[self._document_at]).sum(axis=1)
        return float(roc_auc_score(self._relevant, cosines))


def validation_examples(
    judgements: pl.DataFrame, pairs: pl.DataFrame, *, documents: ProductRows, seed: int
) -> pl.DataFrame:
    """Rated pairs of the validation share of queries; without enough ratings, held-out pairs against random products.

    Ratings are used only where there is a click log to train on: with weak pairs they are all kept for the test.
    """
    judged, _ = split_judgements(judgements)
    judged = judged.filter(pl.col("product_id").is_in(list(documents.row_of))).head(MAX_JUDGEMENTS)
    relevant = judged.select("query", "country", "product_id", relevant=pl.col("rating") >= RELEVANT)
    from_log = not pairs["weak"].any()
    if from_log and relevant["relevant"].n_unique() == 2:
        return relevant
    return _against_random(pairs.head(MAX_POSITIVES), list(documents.row_of), seed=seed)


def _against_random(pairs: pl.DataFrame, product_ids: list[str], *, seed: int) -> pl.DataFrame:
    positives = pairs.select("query", "country", "product_id", relevant=pl.lit(value=True))
    drawn = np.random.default_rng([seed, 1]).integers(len(product_ids), size=len(pairs) * NEGATIVES_PER_POSITIVE)
    repeated = pl.concat([positives] * NEGATIVES_PER_POSITIVE)
    negatives = repeated.with_columns(
        product_id=pl.Series([product_ids[at] for at in drawn], dtype=pl.String), relevant=pl.lit(value=False)
    )
    return pl.concat([positives, negatives])
