"""Parts of a task: by language and country of the query, its length, how common it is, and across languages."""

from typing import NamedTuple

import numpy as np

from models.data.schema import RELEVANT
from models.evaluation.task import EvaluationTask

# Characters; the paper's trigram channel dominates below five.
LENGTHS = (("1-4", 0, 5), ("5-9", 5, 10), ("10-19", 10, 20), ("20+", 20, 1 << 30))
STRATA = ("head", "torso", "tail")


class Slice(NamedTuple):
    """Which of a task's queries, test pairs and ratings belong to a part of it."""

    family: str  # all, language, country, length, stratum, lingual
    label: str
    queries: np.ndarray  # (q,) bool
    pairs: np.ndarray  # (p,) bool
    judged: np.ndarray  # (j,) bool


def whole(task: EvaluationTask) -> Slice:
    """Everything."""
    return _of_queries(task, "all", "all", np.ones(len(task.queries), dtype=bool))


def slices(task: EvaluationTask) -> list[Slice]:
    """Every part that holds something."""
    texts = task.queries["query"].str.len_chars().to_numpy()
    strata = np.array(task.queries["stratum"].to_list(), dtype=object)
    countries = np.array(task.queries["country"].to_list(), dtype=object)
    parts = [
        *_by_value(task, "language", task.query_languages),
        *_by_value(task, "country", countries),
        *(_of_queries(task, "length", label, (low <= texts) & (texts < high)) for label, low, high in LENGTHS),
        *(_of_queries(task, "stratum", stratum, strata == stratum) for stratum in STRATA),
        _lingual(task, "same-language", same=True),
        _lingual(task, "cross-lingual", same=False),
    ]
    return [part for part in parts if part.pairs.any() or part.judged.any()]


def _by_value(task: EvaluationTask, family: str, values: np.ndarray) -> list[Slice]:
    """One part per value of the queries' (q,) values; None is no value."""
    known = sorted({value for value in values if value is not None})
    return [_of_queries(task, family, value, values == value) for value in known]


def _of_queries(task: EvaluationTask, family: str, label: str, queries: np.ndarray) -> Slice:
    return Slice(family, label, queries, queries[task.pairs[:, 0]], queries[task.judged[:, 0]])


def _lingual(task: EvaluationTask, label: str, *, same: bool) -> Slice:
    """Pairs whose query and product are in one language, or in two; the queries all of whose relevant products are."""
    pairs, judged = (_in_one_language(task, rows) for rows in (task.pairs, task.judged))
    relevant = task.ratings >= RELEVANT
    total = np.bincount(task.judged[relevant, 0], minlength=len(task.queries))
    alike = np.bincount(task.judged[relevant & (judged == same), 0], minlength=len(task.queries))
    return Slice("lingual", label, (total > 0) & (alike == total), pairs == same, judged == same)


def _in_one_language(task: EvaluationTask, rows: np.ndarray) -> np.ndarray:
    """(rows,) object: True, False, or None where a language is unknown."""
    queries, products = task.query_languages[rows[:, 0]], task.product_languages[rows[:, 1]]
    in_one = [None if None in (a, b) else a == b for a, b in zip(queries, products, strict=True)]
    return np.array(in_one, dtype=object)
