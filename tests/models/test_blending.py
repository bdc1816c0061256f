"""Gradient blending's weights by hand, and what keeps them robust."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.blending import LEAST_SHARE, LossChange, blending_weights


def change(gain: float, overfitting: float) -> LossChange:
    """The held-out loss falls from 3 by `gain`, the training loss from 2 by `overfitting` more."""
    return LossChange(2.0, 2.0 - gain - overfitting, 3.0, 3.0 - gain)


def kept(*shares: float) -> list[float]:
    """What is expected of shares of G / O^2 once every loss has its least weight."""
    return [LEAST_SHARE / len(shares) + (1 - LEAST_SHARE) * share for share in shares]


def test_generalisation_and_overfitting_by_hand() -> None:
    """Training 2 to 1, held out 3 to 2.5: G = 0.5; held out was 1 behind and is 1.5 behind, O = 0.5."""
    one = LossChange(train_before=2.0, train_after=1.0, held_out_before=3.0, held_out_after=2.5)

    assert (0.5, 0.5) == (one.generalisation, one.overfitting)


def test_weights_are_gain_over_squared_overfitting() -> None:
    """G = 0.4, 0.4, 0.2 and O = 0.2, 0.4, 0.2: G / O^2 = 10, 2.5, 5."""
    weights = blending_weights([change(0.4, 0.2), change(0.4, 0.4), change(0.2, 0.2)])

    assert kept(10 / 17.5, 2.5 / 17.5, 5 / 17.5) == pytest.approx(weights.tolist())


def test_overfitting_counts_by_its_size() -> None:
    """A gap that shrinks by 0.2 is as far from 0 as one that grows by it."""
    assert kept(0.5, 0.5) == pytest.approx(blending_weights([change(0.3, 0.2), change(0.3, -0.2)]).tolist())


def test_an_overfitting_of_almost_nothing_takes_no_more_than_four_times_the_usual() -> None:
    """Unbounded, the last would get all but 2e-12 of the weight; at half the median it gets 4 parts of 6."""
    weights = blending_weights([change(0.2, 0.1), change(0.2, 0.1), change(0.2, 1e-7)])

    assert kept(1 / 6, 1 / 6, 4 / 6) == pytest.approx(weights.tolist())


def test_what_did_not_generalise_keeps_the_least_weight() -> None:
    """A held-out loss that rose or diverged, a training loss that diverged."""
    diverged = LossChange(train_before=2.0, train_after=math.inf, held_out_before=3.0, held_out_after=2.5)
    weights = blending_weights([change(0.2, 0.1), change(-0.1, 0.1), change(math.nan, 0.1), diverged, change(0.2, 0.1)])

    assert kept(0.5, 0, 0, 0, 0.5) == pytest.approx(weights.tolist())


def test_what_did_not_generalise_does_not_say_what_is_usual() -> None:
    """The median of 0.1 and 0 is 0.05, so 0 counts as 0.025: 1 : 16. With the 5s it would be 5, and both alike."""
    weights = blending_weights([change(0.2, 0.1), change(0.2, 0.0), *[change(-0.1, 5.0)] * 3])

    assert kept(1 / 17, 16 / 17, 0, 0, 0) == pytest.approx(weights.tolist())


@pytest.mark.parametrize("gain", [0.0, -1.0, math.nan, math.inf])
def test_nothing_learnt_anywhere_is_equal_weights(gain: float) -> None:
    assert [0.25] * 4 == blending_weights([change(gain, 0.1)] * 4).tolist()


def test_no_overfitting_anywhere_leaves_the_gains_to_decide() -> None:
    """O = 0 for both: by 3 : 1 as G."""
    weights = blending_weights([change(0.75, 0.0), change(0.25, 0.0)])

    assert kept(0.75, 0.25) == pytest.approx(weights.tolist())


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=9))
def test_weights_sum_to_one_and_none_is_lost(measured: list[tuple[float, float]]) -> None:
    weights = blending_weights([change(gain, overfitting) for gain, overfitting in measured])

    assert 1.0 == pytest.approx(weights.sum())
    assert np.all(weights >= LEAST_SHARE / len(measured) - 1e-12)


@given(st.lists(st.tuples(st.floats(0.01, 5), st.floats(0.01, 5)), min_size=2, max_size=9), st.randoms())
def test_weights_follow_their_losses(measured: list[tuple[float, float]], random: object) -> None:
    """In another order the same losses get the same weights."""
    changes = [change(gain, overfitting) for gain, overfitting in measured]
    order = list(range(len(changes)))
    random.shuffle(order)  # type: ignore[attr-defined]

    assert blending_weights(changes)[order] == pytest.approx(blending_weights([changes[i] for i in order]))
