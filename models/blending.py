"""Gradient blending's weights (Que2Search 3.6): how much each of several losses generalises for what it overfits.

G-Blend (CVPR'20), Proposition 1 and Algorithm 1: w_k is proportional to G_k / O_k^2. Over an estimate's steps G is how far
the held-out loss falls, and O how far it falls behind the training loss.
"""

from typing import NamedTuple

import numpy as np

LEAST_SHARE = 0.1  # of equal weight: below it a group's channels would not learn at all [inferred]
NOISE_SHARE = 0.1  # of the largest overfitting: a smaller one is not told from it, and squared would take all


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


def blending_weights(changes: list[LossChange]) -> np.ndarray:
    """(k,) weights that sum to 1, proportional to max(0, G) / O^2, robustly; equal where nothing generalised.

    An overfitting that small data makes tiny by chance would take all the weight by its square: it counts as at least
    NOISE_SHARE of the largest. No weight falls below LEAST_SHARE / k.
    """
    gains = np.array([max(0.0, change.generalisation) for change in changes])
    growth = np.abs([change.overfitting for change in changes])
    floor = max(NOISE_SHARE * float(growth.max()), 1e-8)
    raw = gains / np.maximum(growth, floor) ** 2
    k = len(changes)
    shares = raw / raw.sum() if raw.sum() > 0 else np.full(k, 1 / k)
    least = LEAST_SHARE / k
    weights: np.ndarray = least + (1 - k * least) * shares
    return weights
