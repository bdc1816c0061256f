"""Exact search, against numbers that can be checked by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from index.exact import ExactIndex, best_rows
from tests.helpers import product_vectors


def test_it_returns_the_highest_inner_products() -> None:
    """(2, 1) against three vectors: 2, 1 and 3."""
    exact = ExactIndex(np.array([[1, 0], [0, 1], [1, 1]], np.float32))

    hits = exact.search(np.array([[2, 1]], np.float32), candidates=2)

    assert [[2, 0]] == hits.numbers.tolist()
    assert [[3.0, 2.0]] == hits.scores.tolist()


def test_equal_scores_keep_the_smallest_numbers() -> None:
    """Four equal vectors, two places: numbers 10 and 20."""
    exact = ExactIndex(np.ones((4, 2), np.float32), numbers=np.array([10, 20, 30, 40]))

    hits = exact.search(np.ones((1, 2), np.float32), candidates=2)

    assert [[10, 20]] == hits.numbers.tolist()


def test_vectors_at_an_odd_address_are_read_in_place() -> None:
    """Inside an index file a vector may start at any byte."""
    vectors = product_vectors(100)
    shifted = np.frombuffer(b"\0" + vectors.tobytes(), np.float32, offset=1).reshape(vectors.shape)

    expected = ExactIndex(vectors).search(vectors[:3], candidates=5)
    found = ExactIndex(shifted).search(vectors[:3], candidates=5)

    assert not shifted.flags.aligned
    assert expected.numbers.tolist() == found.numbers.tolist()


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 40))
def test_best_rows_are_the_head_of_a_full_sort(scores: list[int], k: int) -> None:
    """Ties and all."""
    expected = sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:k]

    assert expected == best_rows(np.array(scores, np.float32), k).tolist()
