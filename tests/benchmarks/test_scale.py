"""How time grows with the number of products: the fit, and a run over small sizes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scale import power_law, run
from benchmarks.vectors import VectorSet
from index.errors import TuneError
from tests.helpers import product_vectors, query_vectors


@pytest.fixture(scope="module")
def vectors() -> VectorSet:
    return VectorSet(source="test", products=product_vectors(6_000, dim=16), queries=query_vectors(40, dim=16))


def test_four_times_the_products_at_twice_the_time_is_a_square_root() -> None:
    """Exponent 1/2, on the line exactly."""
    law = power_law(np.array([100, 400, 1600]), np.array([20.0, 40.0, 80.0]))

    assert law.exponent == pytest.approx(0.5)
    assert law.factor == pytest.approx(2)
    assert law.residual == pytest.approx(0, abs=1e-9)


def test_the_residual_is_the_worst_point() -> None:
    """1, 1.21 and 1 average to 1.21^(1/3) and a flat line: the middle one is 1.21^(2/3) - 1 = 13.5 % above it."""
    law = power_law(np.array([1, 10, 100]), np.array([1.0, 1.21, 1.0]))

    assert law.exponent == pytest.approx(0, abs=1e-9)
    assert law.residual == pytest.approx(0.1355, abs=1e-3)


@given(factor=st.floats(0.1, 100), exponent=st.floats(-1, 2))
def test_a_power_law_is_found_again(factor: float, exponent: float) -> None:
    """Whatever it was."""
    products = np.array([1e4, 1e5, 1e6, 1e7])

    law = power_law(products, factor * products**exponent)

    assert law.exponent == pytest.approx(exponent, abs=1e-6)
    assert law.at(products) == pytest.approx(factor * products**exponent)


def test_every_size_reaches_the_target(vectors: VectorSet, tmp_path: Path) -> None:
    """A flat index below 5,000 products, lists above; sizes in order, whatever order they were asked in."""
    result = run(vectors, cache=tmp_path, sizes=[6_000, 1_000], target=0.95, blocks=1, calls=5)

    assert [1_000, 6_000] == [row["products"] for row in result.rows]
    assert ["Flat", "IVF128,PQ4x4fsr,RFlat"] == [row["factory"] for row in result.rows]
    assert [None, 1_000.0] == [result.rows[0]["nprobe"], result.rows[0]["codes_scanned"]]
    assert all(row["ann_recall_at_10"] >= 0.95 for row in result.rows)
    assert result.rows[1]["codes_scanned"] < 6_000
    assert result.law.exponent == pytest.approx(result.conditions["exponent"], abs=1e-3)
    assert 3 == len(result.save(tmp_path / "out"))


def test_sizes_that_cannot_be_measured_are_refused(vectors: VectorSet, tmp_path: Path) -> None:
    """One point makes no line, and there are 6,000 vectors."""
    for sizes in ([6_000], [6_000, 6_000], [1_000, 10_000]):
        with pytest.raises(TuneError, match=r"two or more, and none above the 6000 vectors"):
            run(vectors, cache=tmp_path, sizes=sizes)


def test_a_target_that_cannot_be_reached_is_said(vectors: VectorSet, tmp_path: Path) -> None:
    """Nothing finds more than everything."""
    with pytest.raises(TuneError, match=r"reaches 1\.000, not 1\.5; lower the target"):
        run(vectors, cache=tmp_path, sizes=[1_000, 2_000], target=1.5)
