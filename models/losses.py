"""Training losses: Que2Search's, and those by which one model teaches another. Pure functions of tensors.

Shapes throughout: b pairs, n >= b documents. `cosines` (b, n) holds C_ij = cos(query i, document j); the positive of
row i is column i, and documents b to n are negatives to all. `known_positives` (b, n) bool marks what else a query is
known to want: another right answer is no negative [inferred; the papers do not say]. Its diagonal is ignored.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def scaled_softmax(cosines: Tensor, *, scale: float, known_positives: Tensor | None = None) -> Tensor:
    """Que2Search Eq. 2: the mean over i of -log( exp(s C_ii) / sum_j exp(s C_ij) ).

    Args:
        cosines: (b, n).
        scale: s, 15 to 20; convergence needs it because cosines are bounded.
        known_positives: (b, n) bool.
    """
    return positives_loss(cosines * scale, known_positives)


def symmetric_scaled_softmax(cosines: Tensor, *, scale: float, known_positives: Tensor | None = None) -> Tensor:
    """Que2Search Eq. 3: half of Eq. 2 over documents plus half of it over queries, these only for the b positives."""
    paired = slice(len(cosines))
    transposed = None if known_positives is None else known_positives[:, paired].T
    return 0.5 * (
        scaled_softmax(cosines, scale=scale, known_positives=known_positives)
        + scaled_softmax(cosines[:, paired].T, scale=scale, known_positives=transposed)
    )


def margin_rank(
    cosines: Tensor,
    *,
    margin: float,
    reduction: Literal["sum", "mean"] = "sum",
    negatives: int = 1,
    known_positives: Tensor | None = None,
) -> Tensor:
    """Que2Search Eq. 5: max(0, -[C_ii - C_in] + margin) over triplets: a pair and one of its hardest negatives n.

    Args:
        cosines: (b, n).
        margin: 0.1 to 0.2 in the paper.
        reduction: over the triplets; the paper found the sum better.
        negatives: hardest ones per pair: 1 in the paper, at most 2 in Facebook EBR's online hard negative mining.
        known_positives: (b, n) bool.
    """
    hardest = hardest_negatives(cosines, count=negatives, known_positives=known_positives)  # (b, k)
    losses = F.relu(hardest - cosines.diagonal().unsqueeze(1) + margin)  # 0 where there is no negative
    return losses.sum() if reduction == "sum" else losses.sum() / _at_least_one(hardest.isfinite())


def scaled_bce(cosines: Tensor, *, scale: float, negatives: int = 1, known_positives: Tensor | None = None) -> Tensor:
    """Que2Search Eq. 4: the mean over triplets, as in Eq. 5, of -log sigma(s C_ii) - log(1 - sigma(s C_in)).

    The second sign is printed as plus, which would reward high-scoring negatives: read as a misprint [inferred].
    """
    hardest = hardest_negatives(cosines, count=negatives, known_positives=known_positives)  # (b, k)
    exists = hardest.isfinite()
    losses = -F.logsigmoid(scale * cosines.diagonal().unsqueeze(1)) - F.logsigmoid(-scale * hardest)
    return losses.masked_fill(~exists, 0.0).sum() / _at_least_one(exists)


def hardest_negatives(cosines: Tensor, *, count: int, known_positives: Tensor | None = None) -> Tensor:
    """Each query's highest cosines to wrong documents, best first: (b, min(count, n)), -inf where it has fewer."""
    negatives = cosines.masked_fill(not_negatives(cosines, known_positives), -torch.inf)
    return negatives.topk(min(count, cosines.size(1)), dim=1).values


def head_query_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Que2Search 3.1.1: softmax cross-entropy with target 1/k for each of a document's k head queries.

    The mean over the documents that have one; 0 where none has [inferred: the others are masked].

    Args:
        logits: (n, c), one per head query.
        labels: (n, k) int64, each row's distinct head queries, padded with -1.
    """
    wanted = labels >= 0  # (n, k)
    log_shares = F.log_softmax(logits, dim=1).gather(1, labels.clamp(min=0))  # (n, k)
    losses = -(log_shares * wanted).sum(dim=1) / wanted.sum(dim=1).clamp(min=1)  # (n,)
    return losses.sum() / _at_least_one(wanted.any(dim=1))


def distil_vectors(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean over rows of 1 - cos(student, teacher); both (b, d)."""
    return (1 - F.cosine_similarity(student, teacher, dim=1)).mean()


def distil_similarities(student: Tensor, teacher: Tensor, *, scale: float) -> Tensor:
    """The mean over queries of KL(teacher || student) of the scaled softmaxes over the batch's documents.

    Args:
        student, teacher: cosines (b, n).
        scale: of both.
    """
    targets = F.log_softmax(teacher * scale, dim=1)
    return F.kl_div(F.log_softmax(student * scale, dim=1), targets, reduction="batchmean", log_target=True)


def positives_loss(logits: Tensor, known_positives: Tensor | None) -> Tensor:
    """The mean over rows of -log of the positive's softmax share among itself and its negatives; logits (b, n)."""
    absent = not_negatives(logits, known_positives).fill_diagonal_(fill_value=False)
    return -F.log_softmax(logits.masked_fill(absent, -torch.inf), dim=1).diagonal().mean()


def not_negatives(cosines: Tensor, known_positives: Tensor | None) -> Tensor:
    """(b, n) bool: each query's positive and whatever else it is known to want."""
    diagonal = torch.eye(*cosines.shape, dtype=torch.bool, device=cosines.device)
    return diagonal if known_positives is None else known_positives | diagonal


def _at_least_one(exists: Tensor) -> Tensor:
    return exists.sum().clamp(min=1)  # so that the mean over none is 0
