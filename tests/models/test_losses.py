"""Losses against a second formula and against numbers worked by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.losses import scaled_softmax, symmetric_scaled_softmax


def test_two_by_two_by_hand() -> None:
    """C = [[1, 0], [0.5, 0.5]], s = 2: rows lose log(1 + e^-2) and log 2."""
    cosines = torch.tensor([[1.0, 0.0], [0.5, 0.5]])

    expected = (math.log(1 + math.exp(-2)) + math.log(2)) / 2

    assert expected == pytest.approx(float(scaled_softmax(cosines, scale=2.0)), abs=1e-6)


def test_a_known_positive_is_no_negative() -> None:
    """With its only rival masked, a row loses nothing: log(e^s / e^s) = 0."""
    cosines = torch.tensor([[0.2, 0.9], [0.1, 0.3]])
    known = torch.tensor([[True, True], [False, True]])

    expected = math.log(1 + math.exp(20 * (0.1 - 0.3))) / 2

    assert expected == pytest.approx(float(scaled_softmax(cosines, scale=20.0, known_positives=known)), abs=1e-6)


@given(st.integers(2, 6), st.floats(1, 30), st.integers(0, 1000))
def test_it_is_minus_the_log_of_the_softmax_share(b: int, scale: float, seed: int) -> None:
    """Eq. 2 written out with numpy in double precision."""
    cosines = np.random.default_rng(seed).uniform(-1, 1, (b, b))
    shares = np.exp(scale * cosines) / np.exp(scale * cosines).sum(axis=1, keepdims=True)

    assert float(scaled_softmax(torch.from_numpy(cosines), scale=scale)) == pytest.approx(
        -np.log(shares.diagonal()).mean(), abs=1e-9
    )


@given(st.integers(2, 6), st.integers(0, 1000))
def test_the_symmetric_loss_does_not_care_which_side_asks(b: int, seed: int) -> None:
    """Eq. 3 of C and of its transpose are equal, masks transposed too."""
    draw = np.random.default_rng(seed)
    cosines = torch.from_numpy(draw.uniform(-1, 1, (b, b)))
    known = torch.from_numpy(draw.random((b, b)) < 0.2)

    one = symmetric_scaled_softmax(cosines, scale=15.0, known_positives=known)
    other = symmetric_scaled_softmax(cosines.T, scale=15.0, known_positives=known.T)

    assert float(one) == pytest.approx(float(other), abs=1e-9)


def test_the_mask_given_is_left_as_it_was() -> None:
    known = torch.eye(3, dtype=torch.bool)
    scaled_softmax(torch.zeros(3, 3), scale=1.0, known_positives=known)

    assert torch.equal(torch.eye(3, dtype=torch.bool), known)
