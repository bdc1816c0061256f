import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from index.lexical import LexicalIndex, LexicalProduct
from models.evaluation.report import evaluate
from models.evaluation.retrieval import Observations, observe, result
from models.evaluation.slices import slices
from models.evaluation.systems import LexicalSystem, System, VectorSystem
from models.evaluation.task import EvaluationTask

PRODUCTS = pl.DataFrame(
    {
        "product_id": ["a", "b", "c", "d"],
        "language": ["en", "en", "es", None],
        "title": ["red dress", "blue dress", "vestido rojo", "red shoe"],
    }
)
PAIRS = pl.DataFrame(
    {
        "query": ["red dress", "robe", "red dress", "red dress"],
        "country": ["US", None, "US", "US"],
        "product_id": ["a", "c", "a", "gone"],
    }
)
JUDGEMENTS = pl.DataFrame(
    {
        "query": ["red dress", "red dress", "red dress", "robe", "robe", "red dress"],
        "country": ["US", "US", "US", None, None, "US"],
        "product_id": ["a", "b", "d", "c", "a", "a"],
        "rating": [3, 1, 0, 2, 0, 0],
        "language": ["en", "en", "en", "fr", "fr", "en"],
    }
)
GOLDEN = pl.DataFrame(
    {
        "query": ["robe", "never asked"],
        "country": [None, "US"],
        "language": ["fr", "en"],
        "stratum": ["tail", "head"],
    }
)


class TableSystem:
    """Scores written down: row = query, column = product."""

    def __init__(self, name: str, table: Sequence[Sequence[float]]) -> None:
        self.name = name
        self._table = np.array(table, dtype=np.float32)

    def nearest(self, queries: np.ndarray, *, k: int) -> np.ndarray:
        rows = np.argsort(-self._table[queries], axis=1, kind="stable")[:, :k]
        return np.pad(rows, ((0, 0), (0, k - rows.shape[1])), constant_values=-1)

    def scores(self, queries: np.ndarray, products: np.ndarray) -> np.ndarray:
        return self._table[queries, products]


def task_of(pairs: pl.DataFrame = PAIRS, judgements: pl.DataFrame = JUDGEMENTS) -> EvaluationTask:
    return EvaluationTask.build(products=PRODUCTS, pairs=pairs, judgements=judgements, golden=GOLDEN)


def metrics_of(task: EvaluationTask, system: System, batch: int = 2) -> dict[str, float | None]:
    found = result(task, observe(task, system, batch=batch), name=system.name, rounds=20).metrics
    return {name: None if value is None else value.value for name, value in found.items()}


def test_a_task_numbers_queries_and_products() -> None:
    """Queries are told apart by text and country; what no table asks is no query; unknown products are left out."""
    task = task_of()

    assert [("robe", None, "fr", "tail"), ("red dress", "US", "en", None)] == task.queries.rows()
    assert [[1, 0], [0, 2], [1, 0]] == task.pairs.tolist()
    assert [[1, 0], [1, 1], [1, 3], [0, 2], [0, 0]] == task.judged.tolist()
    assert [3, 1, 0, 2, 0] == task.ratings.tolist()
    assert 1 == task.left_out


def test_figures_can_be_checked_by_hand() -> None:
    """robe ranks d a c b, red dress a d b c: every metric follows from that."""
    task = task_of()
    system = TableSystem("table", [[0.8, 0.1, 0.7, 0.9], [0.9, 0.3, 0.1, 0.4]])

    found = metrics_of(task, system, batch=3)

    # Red dress' own 0.9 beats c's 0.1 (twice); robe's own 0.7 loses to a's 0.8.
    assert 2 / 3 == pytest.approx(found["batch_recall_at_1"])
    assert 1.0 == found["batch_recall_at_10"]
    assert 1.0 == found["knn_recall_at_10"]
    # Relevant: 0.9 and 0.7; others: 0.3, 0.4, 0.8.
    assert 5 / 6 == pytest.approx(found["roc_auc"])
    assert 0.5 == found["query_roc_auc"]
    assert 1.0 == found["recall_at_10"]
    robe = 1 / math.log2(4)
    dress = (7 + 1 / math.log2(4)) / (7 + 1 / math.log2(3))
    assert (robe + dress) / 2 == pytest.approx(found["ndcg_at_10"])
    # Without the unjudged, robe ranks a c, and red dress a d b.
    assert (1 / math.log2(3) + dress) / 2 == pytest.approx(found["judged_ndcg_at_10"])
    # One relevant product each: in ten places, and in the two and three that judged products fill.
    assert 1 / 10 == pytest.approx(found["precision_at_10"])
    assert (1 / 2 + 1 / 3) / 2 == pytest.approx(found["judged_precision_at_10"])


def test_nothing_is_retrieved_where_only_pairs_are_asked_about() -> None:
    """A system that cannot search still has its pairs measured; what needs a search is not measurable."""

    class PairsOnly(TableSystem):
        def nearest(self, queries: np.ndarray, *, k: int) -> np.ndarray:
            raise AssertionError(f"asked for the nearest {k} of {len(queries)} queries")

    task, table = task_of(), [[0.8, 0.1, 0.7, 0.9], [0.9, 0.3, 0.1, 0.4]]

    searched = observe(task, TableSystem("table", table), batch=3)
    measured = observe(task, PairsOnly("table", table), batch=3, retrieve=False)

    for name in ("knn_hits_at_10", "recall_at_10", "ndcg_at_10", "precision_at_10"):
        assert np.isnan(getattr(measured, name)).all(), name
    for name in ("batch_hits_at_1", "scores", "query_roc_auc", "judged_ndcg_at_10", "judged_precision_at_10"):
        np.testing.assert_array_equal(getattr(searched, name), getattr(measured, name))


def test_another_wanted_document_of_the_batch_is_no_mistake() -> None:
    """Both pairs are of one query: whichever it scores higher, it wants them both."""
    pairs = pl.DataFrame({"query": ["red dress"] * 2, "country": ["US"] * 2, "product_id": ["a", "d"]})
    system = TableSystem("table", [[0, 0, 0, 0], [0.9, 0, 0, 0.1]])

    assert 1.0 == metrics_of(task_of(pairs), system)["batch_recall_at_1"]


def test_unjudged_products_push_relevant_ones_out() -> None:
    """Ten unjudged products above the relevant one: recall 0, but 1 among the judged."""
    products = pl.DataFrame({"product_id": [str(n) for n in range(12)]})
    judgements = pl.DataFrame({"query": ["q"], "country": [None], "product_id": ["11"], "rating": [2]})
    task = EvaluationTask.build(products=products, pairs=PAIRS.clear(), judgements=judgements)

    found = metrics_of(task, TableSystem("table", [[-float(n) for n in range(12)]]))

    assert (0.0, 1.0) == (found["recall_at_10"], found["judged_recall_at_10"])
    assert (0.0, 1.0) == (found["ndcg_at_10"], found["judged_ndcg_at_10"])
    assert found["knn_recall_at_10"] is None
    assert found["batch_recall_at_1"] is None
    assert found["roc_auc"] is None


def test_slices_hold_the_right_parts() -> None:
    """By language, country, length, stratum and across languages; empty ones are not listed."""
    parts = {(part.family, part.label): part for part in slices(task_of())}

    assert {
        ("language", "en"),
        ("language", "fr"),
        ("country", "US"),
        ("length", "1-4"),
        ("length", "5-9"),
        ("stratum", "tail"),
        ("lingual", "same-language"),
        ("lingual", "cross-lingual"),
    } == parts.keys()
    assert [True, False, True] == parts["language", "en"].pairs.tolist()
    assert [False, True] == parts["country", "US"].queries.tolist()
    assert [True, True, True, False, False] == parts["country", "US"].judged.tolist()
    assert [True, False] == parts["length", "1-4"].queries.tolist()
    assert [True, True, False, False, False] == parts["lingual", "same-language"].judged.tolist()
    assert [False, False, False, True, True] == parts["lingual", "cross-lingual"].judged.tolist()
    assert [True, False] == parts["lingual", "cross-lingual"].queries.tolist()


def test_slices_weigh_up_to_the_whole() -> None:
    """KNN recall of the languages, weighted by their pairs, is that of the whole."""
    rng = np.random.default_rng(0)
    task, system = random_task(rng)
    found = result(task, observe(task, system, batch=8), name="vectors", rounds=20)
    languages = [part for part in found.slices if part.family == "language"]

    weighed = sum(part.pairs * (part.metrics["knn_recall_at_10"] or 0.0) for part in languages)

    assert found.metrics["knn_recall_at_10"] is not None
    assert found.metrics["knn_recall_at_10"].value == pytest.approx(weighed / len(task.pairs))


def random_task(rng: np.random.Generator) -> tuple[EvaluationTask, VectorSystem]:
    products = pl.DataFrame({"product_id": [str(n) for n in range(60)]})
    asked = rng.integers(0, 20, 50)
    pairs = pl.DataFrame(
        {
            "query": [f"query {q}" for q in asked],
            "country": ["US"] * 50,
            "product_id": [str(n) for n in rng.integers(0, 60, 50)],
            "language": [("en", "de", "ja")[q % 3] for q in asked],
        }
    )
    judgements = pairs.head(0).with_columns(rating=pl.lit(1))
    task = EvaluationTask.build(products=products, pairs=pairs, judgements=judgements)
    queries, documents = (rng.normal(size=(n, 4)).astype(np.float32) for n in (len(task.queries), 60))
    return task, VectorSystem("vectors", query_vectors=queries, product_vectors=documents)


def test_vectors_are_ranked_by_inner_product() -> None:
    """Nearest and pair scores agree with the plain matrix product."""
    rng = np.random.default_rng(1)
    queries, products = (rng.normal(size=(n, 8)).astype(np.float32) for n in (5, 30))
    system = VectorSystem("vectors", query_vectors=queries, product_vectors=products)
    scores = queries @ products.T

    np.testing.assert_array_equal(np.argsort(-scores, axis=1)[:, :3], system.nearest(np.arange(5), k=3))
    np.testing.assert_allclose(scores[[4, 0], [7, 29]], system.scores(np.array([4, 0]), np.array([7, 29])), rtol=1e-5)


def test_words_are_a_system_too() -> None:
    """BM25 ranks by shared words, -1 behind its last hit, and scores 0 without one."""
    lexical = LexicalIndex.build([LexicalProduct(row, title) for row, title in enumerate(PRODUCTS["title"])])
    system = LexicalSystem("BM25", lexical=lexical, texts=["robe", "red dress"])

    assert [[-1] * 4, [0, 1, 3, -1]] == system.nearest(np.array([0, 1]), k=4).tolist()
    scores = system.scores(np.array([1, 0, 1, 1]), np.array([0, 0, 2, 3]))
    assert scores[0] > scores[3] > scores[1] == scores[2] == 0.0


def test_an_evaluation_compares_saves_and_shows(tmp_path: Path) -> None:
    """The perfect system beats the reversed one; metrics.json is plain JSON; the tables print."""
    good = TableSystem("good", [[0, 0, 1, 0], [1, 0.1, 0, 0]])
    bad = TableSystem("bad", [[1, 1, 0, 1], [0, 0.9, 1, 1]])
    seen: list[tuple[int, int]] = []

    evaluation = evaluate(
        task_of(),
        [good, bad],
        batch=256,
        conditions={"commit": "abc"},
        rounds=50,
        progress=lambda done, total: seen.append((done, total)),
    )
    evaluation.save(tmp_path / "metrics.json")
    console = Console(width=200, file=io.StringIO(), record=True)
    for table in evaluation.tables():
        console.print(table)

    saved = json.loads((tmp_path / "metrics.json").read_text())
    assert [(1, 2), (2, 2)] == seen
    assert ["good", "bad"] == [system["name"] for system in saved["systems"]]
    assert {"value": 1.0, "low": 1.0, "high": 1.0} == saved["systems"][0]["metrics"]["roc_auc"]
    assert {"value": 1.0, "low": 1.0, "high": 1.0} == saved["gains"][0]["metrics"]["roc_auc"]
    assert {"commit": "abc", "batch": 3, "rounds": 50, "seed": 0} == saved["conditions"]
    assert "1.000 [1.000, 1.000]" in console.export_text()


def test_observations_keep_their_shapes() -> None:
    """One entry per pair, rating or query, whatever was measurable."""
    task = task_of()
    observed = observe(task, TableSystem("table", np.eye(2, 4).tolist()), batch=2)

    sizes = dict.fromkeys(Observations._fields, 2) | dict.fromkeys(Observations._fields[:3], 3) | {"scores": 5}
    assert sizes == {name: len(values) for name, values in observed._asdict().items()}
    assert 1 == np.isnan(observed.batch_hits_at_1).sum()  # the third pair fills no batch of two
