"""Gradient blending's weights (Que2Search 3.6): how much each of several losses generalises for what it overfits.

G-Blend (CVPR'20), Proposition 1 and Algorithm 1: train on each loss alone for a while; then its weight is in proportion
to G / O^2. G is how far the held-out loss falls, O by how much it falls behind the training loss.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NOISE_SHARE = 0.5  # of the usual overfitting: less than that is chance
LEAST_OVERFITTING = 1e-4  # where the usual overfitting is 0 too
LEAST_SHARE = 0.1  # of equal weight: without any, a group's channels would not learn at all


class LossChange(NamedTuple):
    """A loss before and after the steps of an estimate."""

    train_before: float
    train_after: float
    held_out_before: float
    held_out_after: float

    @property
    def generalisation(self) -> float:
        """G: the fall of the held-out loss."""
        return self.held_out_before - self.held_out_after

    @property
    def overfitting(self) -> float:
        """O: the growth of (held-out - training)."""
        return (self.held_out_after - self.train_after) - (self.held_out_before - self.train_before)


def blending_weights(changes: Sequence[LossChange]) -> np.ndarray:
    """(k,) weights that sum to 1, in proportion to max(0, G) / O^2, made robust [how is inferred].

    O is the small difference of four noisy numbers: squared, one that is near 0 by chance would take all the weight. So
    an O counts as at least NOISE_SHARE of the median over the losses that generalised, which bounds what chance gives
    to four times the weight of the usual O. A loss that did not generalise, or diverged, keeps LEAST_SHARE / k, as does
    every other; where none generalised all weights are equal.
    """
    gains = np.array([change.generalisation for change in changes])
    growth = np.abs([change.overfitting for change in changes])
    useful = np.isfinite(gains) & np.isfinite(growth) & (gains > 0)
    k = len(changes)
    if not useful.any():
        return np.full(k, 1 / k)
    floor = max(LEAST_OVERFITTING, NOISE_SHARE * float(np.median(growth[useful])))
    raw = np.zeros(k)
    raw[useful] = gains[useful] / np.maximum(growth[useful], floor) ** 2
    weights: np.ndarray = LEAST_SHARE / k + (1 - LEAST_SHARE) * raw / raw.sum()
    return weights
