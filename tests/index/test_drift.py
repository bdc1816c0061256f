"""Drift: how much of a vector the codes lose, how even the lists are, and which vectors the generation lacks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.build import build_generation
from index.catalogue import Catalogue
from index.drift import DriftGauge, list_imbalance, newest_vectors, quantisation_error
from index.generations import Generation, open_current
from index.spec import new_index
from index.writes import Delete
from tests.helpers import product_vectors, small_catalogue, unit_rows

DIM = 32
PQ = "IVF8,PQ8x4fsr,RFlat"


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return small_catalogue(tmp_path / "catalogue", product_vectors(700, dim=DIM))


def built(catalogue: Catalogue, factory: str) -> Generation:
    build_generation(catalogue, release="r1", factory=factory)
    return open_current(catalogue.path)


def add(catalogue: Catalogue, vectors: np.ndarray, *, name: str) -> None:
    numbers = catalogue.put_products({"product_id": f"{name}{at}", "title": name} for at in range(len(vectors)))
    catalogue.put_vectors("r1", numbers, vectors)


def test_codes_lose_the_distance_to_the_centroid() -> None:
    """Lists around (0 0 0 0) and (10 10 10 10), and codes that add nothing: two vectors lose 1 each of 1 + 381."""
    whole = new_index("IVF2,PQ1x4", dim=4)
    draw = np.concatenate([np.zeros((20, 4)), 10 * np.ones((20, 4))]).astype(np.float32)
    whole.train(draw)
    vectors = np.array([[1, 0, 0, 0], [9, 10, 10, 10]], dtype=np.float32)

    # Of 16 centroids at one place Faiss moves all but one a little.
    assert pytest.approx(2 / 382, rel=0.05) == quantisation_error(whole, vectors)


def test_flat_codes_lose_nothing() -> None:
    """Whole vectors are kept, in lists or not."""
    vectors = product_vectors(200, dim=DIM)
    for factory in ("Flat", "IVF4,Flat"):
        whole = new_index(factory, dim=DIM)
        whole.train(vectors)

        assert 0.0 == quantisation_error(whole, vectors)


def test_without_vectors_there_is_no_error() -> None:
    """None, not zero: zero would say that nothing is lost."""
    assert quantisation_error(new_index("Flat", dim=4), np.empty((0, 4), np.float32)) is None


def test_imbalance_is_1_for_equal_lists_and_nlist_for_one_full_list() -> None:
    """Sizes 3 and 1: 2 (9 + 1) / 16 = 1.25."""
    assert 1.0 == list_imbalance(np.array([5, 5, 5]))
    assert 3.0 == list_imbalance(np.array([7, 0, 0]))
    assert 1.25 == list_imbalance(np.array([3, 1]))


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50).filter(any))
def test_imbalance_lies_between_1_and_nlist(sizes: list[int]) -> None:
    assert 1 - 1e-9 <= list_imbalance(np.array(sizes)) <= len(sizes) + 1e-9


def test_vectors_of_another_kind_lose_more_than_those_trained_on(catalogue: Catalogue) -> None:
    """Products from elsewhere in the space arrive: the codes know nothing of it."""
    with catalogue:
        gauge = DriftGauge(built(catalogue, PQ), catalogue)
        before = gauge.measure()
        add(catalogue, unit_rows(np.random.default_rng(3).normal(size=(50, DIM))), name="strange")
        after = gauge.measure()

    assert before.new_error is None
    assert before.training_error is not None
    assert after.new_error is not None
    assert after.new_error > 2 * before.training_error
    assert before.training_error == after.training_error


def test_more_of_the_same_kind_is_no_drift(catalogue: Catalogue) -> None:
    """New products like the old ones lose about as much as those."""
    with catalogue:
        gauge = DriftGauge(built(catalogue, PQ), catalogue)
        add(catalogue, product_vectors(300, dim=DIM, seed=8), name="usual")
        drift = gauge.measure()

    assert drift.new_error == pytest.approx(drift.training_error, rel=0.3)


def test_an_index_with_codes_alone_is_measured_too(catalogue: Catalogue) -> None:
    """Its exact vectors lie in a file of their own."""
    with catalogue:
        drift = DriftGauge(built(catalogue, "OPQ8,IVF8,PQ8x4"), catalogue).measure()

    assert drift.training_error is not None
    assert 0 < drift.training_error < 1


def test_list_figures_need_lists(catalogue: Catalogue) -> None:
    """A flat index has none; 8 lists over 700 vectors are all filled, and not quite equal."""
    with catalogue:
        flat = DriftGauge(built(catalogue, "Flat"), catalogue).measure()
        lists = DriftGauge(built(catalogue, "IVF8,Flat"), catalogue).measure()

    assert (None, None) == (flat.list_imbalance, flat.empty_lists)
    assert lists.empty_lists == 0
    assert lists.list_imbalance is not None
    assert 1 < lists.list_imbalance < 8


def test_of_a_large_catalogue_only_the_newest_vectors_are_read(catalogue: Catalogue) -> None:
    """Those behind the generation's last number; a product that it lacks before that is left out."""
    with catalogue:
        add(catalogue, product_vectors(2, dim=DIM, seed=4), name="late")
        generation = built(catalogue, "Flat")
        catalogue.write([Delete("late0")])
        add(catalogue, product_vectors(1, dim=DIM, seed=5), name="late")

        assert 0 == len(newest_vectors(catalogue, generation, limit=2))


def test_the_newest_vectors_are_those_with_the_highest_numbers(catalogue: Catalogue) -> None:
    """Of five new products the last two; what the generation has is not among them."""
    with catalogue:
        generation = built(catalogue, "Flat")
        assert 0 == len(newest_vectors(catalogue, generation, limit=2))
        new = product_vectors(5, dim=DIM, seed=4)
        add(catalogue, new, name="new")

        np.testing.assert_array_equal(new[3:], newest_vectors(catalogue, generation, limit=2))
