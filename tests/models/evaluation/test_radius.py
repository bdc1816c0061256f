"""A looser radius returns more, and what a ranker makes of it may be worse."""

import numpy as np
import polars as pl
import pytest

from models.evaluation.plots import RadiusStudy
from models.evaluation.radius import radius_study, reading
from models.evaluation.task import EvaluationTask
from tests.models.evaluation.test_retrieval import TableSystem

# One query; products a (relevant), b (rated 0), c (unrated), by cosine 0.8, 0.6, 0.4. The ranker puts c first, a last.
JUDGEMENTS = pl.DataFrame(
    {"query": ["red dress"] * 2, "country": ["US"] * 2, "product_id": ["a", "b"], "rating": [3, 0]}
)
TASK = EvaluationTask.build(
    products=pl.DataFrame({"product_id": ["a", "b", "c"]}),
    pairs=JUDGEMENTS.drop("rating").clear(),
    judgements=JUDGEMENTS,
)
COSINES, WORDS = TableSystem("cosine", [[0.8, 0.6, 0.4]]), TableSystem("words", [[1.0, 2.0, 3.0]])


def study_of(*radii: float) -> RadiusStudy:
    study = radius_study(TASK, COSINES, WORDS, radii=radii)
    assert study is not None
    return study


def test_looser_returns_more_and_the_ranker_errs_more() -> None:
    """0.7 returns a; 0.5 a and b, which the ranker puts before it; 0.3 all three; 0.9 nothing."""
    study = study_of(0.3, 0.5, 0.7, 0.9)

    assert [3, 2, 1, 0] == study.results.tolist()
    assert [0.5, 0.5, 1.0] == study.precision[:3].tolist()
    assert np.isnan(study.precision[3])
    assert [1, 1, 1, 0] == study.recall.tolist()
    assert [1 / np.log2(4), 1 / np.log2(3), 1.0, 0.0] == pytest.approx(study.ranked_ndcg.tolist())
    assert [2 / 3, 1 / 2, 0.0] == pytest.approx(study.overlap[:3].tolist())  # of three two were there, of two one


def test_the_reading_names_radii_and_what_they_cost() -> None:
    """All recall is kept at 0.7 with 1 result instead of 3, where the ranker does best too."""
    said = " ".join(reading(study_of(0.3, 0.5, 0.7)))

    assert "A minimum cosine of 0.70 keeps 95% of the recall" in said
    assert "with 1 results a query instead of 3" in said
    assert "nDCG@10 1.000, against 0.500 on the loosest radius" in said
    assert "only together with the ranker" in said
    assert "Loosening to 0.30, 0.50 changes more than 20% of the ranker's first ten" in said


def test_without_relevant_products_there_is_nothing_to_study() -> None:
    """A query that nothing answers says nothing of radii."""
    judgements = JUDGEMENTS.with_columns(rating=pl.lit(0))
    products, pairs = pl.DataFrame({"product_id": ["a", "b", "c"]}), JUDGEMENTS.drop("rating").clear()

    task = EvaluationTask.build(products=products, pairs=pairs, judgements=judgements)

    assert radius_study(task, COSINES, WORDS) is None
