"""BM25, as products' words are scored: when a generation is written, and for each product that comes after it."""

from typing import Any

import numpy as np

_K1, _B = 1.2, 0.75  # the usual BM25: how fast a repeated term saturates, how much a long text is held against it


def rarity(held: Any, *, products: int) -> Any:
    """What a term is worth that `held` of the products hold; numbers or arrays."""
    return np.log1p((products - held + 0.5) / (held + 0.5))


def frequency(times: Any, relative_length: Any) -> Any:
    """What a term that comes so many times is worth, beside one of a text as long as the mean; numbers or arrays."""
    return times * (_K1 + 1) / (times + _K1 * (1 - _B + _B * relative_length))
