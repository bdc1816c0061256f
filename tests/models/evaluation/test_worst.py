"""The worst queries come with what was wanted and what came instead."""

import numpy as np
import pytest

from models.evaluation.retrieval import observe
from models.evaluation.worst import worst_queries
from tests.models.evaluation.test_retrieval import JUDGEMENTS, PRODUCTS, TableSystem, task_of

TITLES = PRODUCTS["title"].to_list()
# Queries: "robe" (relevant: c; a rated 0), "red dress" (relevant: a; b and d rated low).
GOOD_AND_BAD = TableSystem("words", [[0.8, 0.7, 0.1, 0.6], [0.9, 0.1, 0.2, 0.3]])


def test_the_lowest_ndcg_comes_first() -> None:
    """ "robe" finds its product last of four, "red dress" first."""
    task = task_of()
    bad, good = worst_queries(task, GOOD_AND_BAD, observe(task, GOOD_AND_BAD, batch=2), titles=TITLES)

    assert ("robe", None, "nDCG@10") == (bad.query, bad.country, bad.metric)
    assert pytest.approx(1 / np.log2(5)) == bad.value
    assert ["vestido rojo"] == bad.wanted
    assert ["red dress", "blue dress", "red shoe", "vestido rojo"] == [product.title for product in bad.retrieved]
    assert [False, None, None, True] == [product.relevant for product in bad.retrieved]
    assert "red dress" == good.query


def test_without_ratings_logged_products_count() -> None:
    """By KNN recall@10; of two equally bad queries the one that more people asked comes first."""
    task = task_of(judgements=JUDGEMENTS.clear())
    worst = worst_queries(task, GOOD_AND_BAD, observe(task, GOOD_AND_BAD, batch=2), titles=TITLES, count=1)

    assert [("KNN recall@10", 1.0)] == [(query.metric, query.value) for query in worst]
