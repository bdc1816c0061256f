"""ann_recall over the last samples of one effort, and how far it can be trusted."""

from collections import deque
from math import sqrt

import msgspec

WINDOW = 1_000  # samples
_Z = 1.96  # of a normal distribution, 95 % lie within so many standard deviations


class Recall(msgspec.Struct, frozen=True, kw_only=True):
    """A mean with its 95 % interval."""

    samples: int
    mean: float
    low: float
    high: float


class RecallWindow:
    """The shares found of the last `size` samples."""

    def __init__(self, *, size: int = WINDOW) -> None:
        self._shares: deque[float] = deque(maxlen=size)

    def add(self, share: float) -> None:
        """Take one sample's ann_recall, 0 to 1; the oldest one beyond the window goes."""
        self._shares.append(share)

    def recall(self) -> Recall | None:
        """The mean and its interval; None before the first sample."""
        if not self._shares:
            return None
        samples = len(self._shares)
        mean = sum(self._shares) / samples
        low, high = interval(mean, samples)
        return Recall(samples=samples, mean=mean, low=low, high=high)


def interval(mean: float, samples: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a mean of values between 0 and 1.

    It is that of a coin with this mean, and no such values vary more than a coin: the interval is never too narrow,
    also where all samples agree.
    """
    scale = 1 + _Z**2 / samples
    centre = (mean + _Z**2 / (2 * samples)) / scale
    half = _Z * sqrt(mean * (1 - mean) / samples + _Z**2 / (4 * samples**2)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)
