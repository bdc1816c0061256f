"""Training losses: pure functions of the cosine matrix C, C_ij = cos(query i, document j), shape (b, b)."""

import torch.nn.functional as F
from torch import Tensor


def scaled_softmax(cosines: Tensor, *, scale: float, known_positives: Tensor | None = None) -> Tensor:
    """Que2Search Eq. 2: the mean over i of -log( exp(s C_ii) / sum_j exp(s C_ij) ).

    Every other document of the batch is a negative, except those marked in `known_positives` (b, b) bool: another
    product that the same query is known to want is no wrong answer [inferred; the paper does not say].

    Args:
        cosines: (b, b).
        scale: s, 15 to 20; convergence needs it because cosines are bounded.
        known_positives: (b, b) bool; the diagonal is ignored.
    """
    logits = _masked(cosines * scale, known_positives)
    return -F.log_softmax(logits, dim=1).diagonal().mean()


def symmetric_scaled_softmax(cosines: Tensor, *, scale: float, known_positives: Tensor | None = None) -> Tensor:
    """Que2Search Eq. 3: half of Eq. 2 over documents plus half of it over queries."""
    transposed = None if known_positives is None else known_positives.T
    return 0.5 * (
        scaled_softmax(cosines, scale=scale, known_positives=known_positives)
        + scaled_softmax(cosines.T, scale=scale, known_positives=transposed)
    )


def _masked(logits: Tensor, known_positives: Tensor | None) -> Tensor:
    if known_positives is None:
        return logits
    masked = known_positives.clone().fill_diagonal_(fill_value=False)
    return logits.masked_fill(masked, float("-inf"))
