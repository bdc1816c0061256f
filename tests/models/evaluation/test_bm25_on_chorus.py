import csv
import gzip
import json
import os
from pathlib import Path

import polars as pl
import pytest

from index.lexical import LexicalIndex, LexicalProduct
from models.evaluation.retrieval import observe, result
from models.evaluation.systems import LexicalSystem
from models.evaluation.task import EvaluationTask


@pytest.fixture
def chorus() -> Path:
    if "Q2S_TEST_DATA" not in os.environ:
        pytest.skip("Q2S_TEST_DATA is unset: no real ratings to measure on")
    return Path(os.environ["Q2S_TEST_DATA"]) / "chorus"


def test_bm25_keeps_its_quality_on_human_ratings(chorus: Path) -> None:
    """Plain BM25 over title + description has ROC AUC 0.765, recall@10 0.672, nDCG@10 0.648; best fields, more."""
    with gzip.open(chorus / "products.jsonl.gz") as file:
        products = [json.loads(line) for line in file]
    with (chorus / "judgements_dev.csv").open() as file:
        rated = [{**row, "country": None, "rating": int(row["rating"])} for row in csv.DictReader(file)]
    judgements = pl.DataFrame(rated, schema_overrides={"country": pl.String})
    frame = pl.DataFrame({"product_id": [product["id"] for product in products]})
    task = EvaluationTask.build(products=frame, pairs=judgements.clear(), judgements=judgements)
    lexical = LexicalIndex.build(
        LexicalProduct(row, product["title"], product.get("short_description"), product.get("supplier"))
        for row, product in enumerate(products)
    )
    system = LexicalSystem("BM25", lexical=lexical, texts=task.queries["query"].to_list())

    found = result(task, observe(task, system, batch=256), name=system.name, rounds=100).metrics

    assert 0 == task.left_out
    for metric, measured in {"query_roc_auc": 0.791, "recall_at_10": 0.787, "ndcg_at_10": 0.734}.items():
        assert found[metric].value >= measured - 0.005, metric
