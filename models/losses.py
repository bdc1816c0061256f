"""Que2Search's training losses, and those of distillation: pure functions.

Shapes: b queries, n >= b documents. `cosines` (b, n) holds C_ij = cos(query i, document j), and document i is query i's
positive; documents b to n are negatives to all. `known_positives` (b, n) bool marks further documents that a query is
known to want: they are no negatives of it [inferred; the paper does not say]. Its diagonal is ignored.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def scaled_softmax(cosines: Tensor, *, scale: float, known_positives: Tensor | None = None) -> Tensor:
    """Que2Search Eq. 2: the mean over i of -log( exp(s C_ii) / sum_j exp(s C_ij) ).

    Args:
        scale: s, 15 to 20; convergence needs it because cosines are bounded.
    """
    logits = (cosines * scale).masked_fill(not_negatives(cosines, known_positives), -torch.inf)
    return (torch.logsumexp(_with_positive(logits, cosines * scale), dim=1) - cosines.diagonal() * scale).mean()


def symmetric_scaled_softmax(cosines: Tensor, *, scale: float, known_positives: Tensor | None = None) -> Tensor:
    """Que2Search Eq. 3: half of Eq. 2 over documents plus half of it over queries (of the b positives)."""
    square = slice(len(cosines))
    transposed = None if known_positives is None else known_positives[:, square].T
    return 0.5 * (
        scaled_softmax(cosines, scale=scale, known_positives=known_positives)
        + scaled_softmax(cosines[:, square].T, scale=scale, known_positives=transposed)
    )


def margin_rank(
    cosines: Tensor,
    *,
    margin: float,
    reduction: Literal["sum", "mean"] = "sum",
    negatives: int = 1,
    known_positives: Tensor | None = None,
) -> Tensor:
    """Que2Search Eq. 5: max(0, margin - (C_ii - C_in)) over each query's hardest negatives n.

    Args:
        margin: 0.1 to 0.2 in the paper.
        reduction: the paper's sum is better than the mean.
        negatives: hardest ones per positive: 1 in the paper, at most 2 in Facebook EBR (6.1).
    """
    hardest = hardest_negatives(cosines, count=negatives, known_positives=known_positives)  # (b, k)
    losses = F.relu(margin - (cosines.diagonal().unsqueeze(1) - hardest))  # 0 where there is no negative
    return losses.sum() if reduction == "sum" else losses.sum() / hardest.isfinite().sum().clamp(min=1)


def scaled_bce(
    cosines: Tensor, *, scale: float, negatives: int = 1, known_positives: Tensor | None = None
) -> Tensor:
    """Que2Search Eq. 4: the mean over i of -log sigma(s C_ii) - log(1 - sigma(s C_in)), n the hardest negative.

    The second sign is printed as plus, which would reward high-scoring negatives: read as a misprint [inferred].
    """
    hardest = hardest_negatives(cosines, count=negatives, known_positives=known_positives)  # (b, k)
    repulsion = F.softplus(scale * hardest)  # -log(1 - sigma(x)) = softplus(x); softplus(-inf) = 0
    return (F.softplus(-scale * cosines.diagonal()) + repulsion.sum(dim=1)).mean()


def hardest_negatives(cosines: Tensor, *, count: int, known_positives: Tensor | None = None) -> Tensor:
    """(b, count) cosines of each query's highest-scoring wrong documents, -inf where it has fewer."""
    negatives = cosines.masked_fill(not_negatives(cosines, known_positives), -torch.inf)
    return negatives.topk(min(count, negatives.size(1)), dim=1).values


def head_query_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Que2Search 3.1.1: softmax cross-entropy with target 1/k for each of a document's k head queries.

    The mean over the documents that have one; 0 where none has [inferred: the others are masked].

    Args:
        logits: (n, c), of every head query.
        labels: (n, k) int64, padded with -1.
    """
    wanted = labels >= 0  # (n, k)
    log_probabilities = F.log_softmax(logits, dim=1).gather(1, labels.clamp(min=0))  # (n, k)
    counts = wanted.sum(dim=1)  # (n,)
    losses = -(log_probabilities * wanted).sum(dim=1) / counts.clamp(min=1)
    return losses.sum() / (counts > 0).sum().clamp(min=1)


def distil_vectors(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean of 1 - cos over rows (b, d)."""
    return (1 - F.cosine_similarity(student, teacher, dim=1)).mean()


def distil_similarities(student: Tensor, teacher: Tensor, *, scale: float) -> Tensor:
    """The mean over queries of KL(teacher || student) of the softmaxes over the batch's documents.

    Args:
        student, teacher: cosines (b, n).
    """
    targets = F.log_softmax(teacher * scale, dim=1)
    return F.kl_div(F.log_softmax(student * scale, dim=1), targets, reduction="batchmean", log_target=True)


def not_negatives(cosines: Tensor, known_positives: Tensor | None) -> Tensor:
    """(b, n) bool: each query's positive and whatever else it is known to want."""
    diagonal = torch.eye(*cosines.shape, dtype=torch.bool, device=cosines.device)
    return diagonal if known_positives is None else known_positives | diagonal


def _with_positive(negative_logits: Tensor, logits: Tensor) -> Tensor:
    """The negatives' logits with the positive's put back on the diagonal."""
    diagonal = torch.eye(*logits.shape, dtype=torch.bool, device=logits.device)
    return torch.where(diagonal, logits, negative_logits)
