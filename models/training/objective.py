"""The objective: the configured loss over a batch's vectors, with blending, class head and teacher where configured."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models import adaptive_losses, losses
from models.sections import (
    AdapTau,
    AdaptiveMargin,
    AdaptiveSoftmax,
    ClassificationConfig,
    DifficultySoftmax,
    LossConfig,
    MarginRank,
    MixedSoftmax,
    ScaledBce,
    ScaledSoftmax,
)
from models.towers import Views
from models.training.batches import PairBatch
from models.training.teacher import Teacher


class Pairs(NamedTuple):
    """What a pair loss is computed from; query i's positive is document i."""

    queries: Tensor  # (b, d) rows of norm 1
    documents: Tensor  # (n, d) rows of norm 1, n >= b
    query_rows: Tensor  # (b,) int64: equal for equal queries
    known_positives: Tensor  # (b, n) bool

    @property
    def cosines(self) -> Tensor:
        """(b, n)."""
        return self.queries @ self.documents.T

    @property
    def item_cosines(self) -> Tensor:
        """(b, n): each positive's cosine to every document."""
        return self.documents[: len(self.queries)] @ self.documents.T


class Trainable(nn.Module):
    """JD's alpha and its offset (delta_0 or tau_0), learnt; the logarithm keeps them above 0."""

    def __init__(self, *, alpha: float, offset: float) -> None:
        super().__init__()
        self._log_alpha = nn.Parameter(torch.tensor(math.log(alpha)))
        self._log_offset = nn.Parameter(torch.tensor(math.log(offset)))

    def forward(self) -> tuple[Tensor, Tensor]:
        return self._log_alpha.exp(), self._log_offset.exp()


class ClassHead(nn.Module):
    """Document vector to head queries (Que2Search 3.1.1): FC and softmax, 1/k targets, documents without labels masked.

    Args:
        labels: (documents, k) int64, the head queries that each product is known to answer, padded with -1.
        classes: how many head queries there are.
    """

    def __init__(self, config: ClassificationConfig, *, labels: Tensor, classes: int, dim: int) -> None:
        super().__init__()
        self._weight = config.weight
        self._linear = nn.Linear(dim, classes)
        self.register_buffer("_labels", labels, persistent=False)

    def forward(self, vectors: Tensor, document_rows: Tensor) -> Tensor:
        """The weighted loss of documents (n, d), rows of the document table."""
        labels: Tensor = self._labels[document_rows]  # type: ignore[index]
        labelled = (labels >= 0).any(dim=1)  # a softmax over 45 k queries for these alone
        return self._weight * losses.head_query_loss(self._linear(vectors[labelled]), labels[labelled])


class Objective(nn.Module):
    """One scalar for a batch. It may learn parameters of its own, which serve training only."""

    def __init__(
        self, loss: LossConfig, *, class_head: ClassHead | None = None, teacher: Teacher | None = None
    ) -> None:
        super().__init__()
        self.loss = loss
        self.class_head = class_head
        self.teacher = teacher
        self.weights: Sequence[float] | None = None  # of the losses, with blending
        self.adap_tau_base = math.nan  # measured before an epoch with adap_tau
        self.trainable = _trainable(loss)

    def forward(self, queries: Views, documents: Views, batch: PairBatch) -> Tensor:
        """Over the whole batch, whichever process embedded its rows."""
        parts = self.pair_losses(queries, documents, batch)
        weights = [1.0] if self.weights is None else self.weights
        total = sum((weight * part for weight, part in zip(weights, parts, strict=True)), torch.zeros(()))
        if self.teacher is not None:
            total = self.teacher.pair_weight * total + self.teacher(queries, documents, batch)
        if self.class_head is not None:
            rows = torch.from_numpy(batch.document_rows).to(documents.vectors.device)
            total = total + self.class_head(documents.vectors[:, 0], rows)
        return total

    def pair_losses(self, queries: Views, documents: Views, batch: PairBatch) -> list[Tensor]:
        """Eq. 6's L_multi, then one loss per group of query channels, then one per group of document channels."""
        views = [(0, 0)]
        views += [(view, 0) for view in range(1, queries.vectors.size(1))]
        views += [(0, view) for view in range(1, documents.vectors.size(1))]
        return [self.pair_loss(_pairs(queries, documents, batch, *view)) for view in views]

    def pair_loss(self, pairs: Pairs) -> Tensor:
        """The configured loss; 0 where fewer than two pairs are left."""
        if len(pairs.queries) < 2:
            return pairs.queries.sum() * 0.0
        known = pairs.known_positives
        match self.loss:
            case ScaledSoftmax(scale=scale, symmetric=symmetric):
                softmax = losses.symmetric_scaled_softmax if symmetric else losses.scaled_softmax
                return softmax(pairs.cosines, scale=scale, known_positives=known)
            case MarginRank(margin=margin, reduction=reduction, negatives=negatives):
                return losses.margin_rank(
                    pairs.cosines, margin=margin, reduction=reduction, negatives=negatives, known_positives=known
                )
            case ScaledBce(scale=scale, negatives=negatives):
                return losses.scaled_bce(pairs.cosines, scale=scale, negatives=negatives, known_positives=known)
            case MixedSoftmax(scale=scale, hardest=hardest, mix_low=low, mix_high=high):
                return adaptive_losses.mixed_negatives_softmax(
                    pairs.queries,
                    pairs.documents,
                    scale=scale,
                    hardest=hardest,
                    mix_low=low,
                    mix_high=high,
                    known_positives=known,
                )
            case DifficultySoftmax(scale=scale, strength=strength):
                return adaptive_losses.difficulty_softmax(
                    pairs.cosines, scale=scale, strength=strength, known_positives=known
                )
            case AdapTau(smoothing=smoothing):
                return adaptive_losses.adap_tau(
                    pairs.cosines,
                    base=self.adap_tau_base,
                    smoothing=smoothing,
                    query_rows=pairs.query_rows,
                    known_positives=known,
                )
            case AdaptiveMargin() as loss:
                alpha, delta_0 = self.trainable() if self.trainable else (loss.alpha, loss.delta_0)
                return adaptive_losses.adaptive_margin(
                    pairs.cosines,
                    pairs.item_cosines,
                    alpha=alpha,
                    delta_0=delta_0,
                    stop_gradient=loss.stop_gradient,
                    symmetric_weight=loss.symmetric_weight,
                    known_positives=known,
                )
            case AdaptiveSoftmax() as loss:
                alpha, tau_0 = self.trainable() if self.trainable else (loss.alpha, loss.tau_0)
                return adaptive_losses.adaptive_softmax(
                    pairs.cosines,
                    pairs.item_cosines,
                    alpha=alpha,
                    tau_0=tau_0,
                    tau_form=loss.tau_form,
                    tau_place=loss.tau_place,
                    stop_gradient=loss.stop_gradient,
                    symmetric_weight=loss.symmetric_weight,
                    known_positives=known,
                )


def _pairs(queries: Views, documents: Views, batch: PairBatch, query_view: int, document_view: int) -> Pairs:
    """The pairs whose both sides have the view, and as further negatives all other documents that have it."""
    device = queries.vectors.device
    b = len(batch.query_rows)
    query_present, document_present = queries.present[:, query_view], documents.present[:, document_view]
    paired = query_present & document_present[:b]  # (b,)
    others = document_present.clone()
    others[:b] &= ~paired
    rows = paired.nonzero()[:, 0]
    columns = torch.cat([rows, others.nonzero()[:, 0]])
    known = torch.from_numpy(batch.known_positives).to(device)
    return Pairs(
        queries.vectors[rows, query_view],
        documents.vectors[columns, document_view],
        torch.from_numpy(batch.query_rows).to(device)[rows],
        known[rows][:, columns],
    )


def class_labels(
    query_of_pair: Sequence[str], document_rows: Sequence[int], *, heads: Sequence[str], documents: int
) -> Tensor:
    """(documents, k) int64: the places in `heads` of each document's queries, padded with -1.

    k is the most that one document has.

    Args:
        query_of_pair: (p,) each pair's query, written as in `heads`.
        document_rows: (p,) each pair's document.
        heads: the head queries, each once.
        documents: how many there are.
    """
    place = {query: at for at, query in enumerate(heads)}
    found: dict[int, set[int]] = {}
    for query, row in zip(query_of_pair, document_rows, strict=True):
        if query in place:
            found.setdefault(int(row), set()).add(place[query])
    labels = torch.full((documents, max(map(len, found.values()), default=1)), -1, dtype=torch.int64)
    for row, places in found.items():
        labels[row, : len(places)] = torch.tensor(sorted(places))
    return labels


def _trainable(loss: LossConfig) -> Trainable | None:
    match loss:
        case AdaptiveMargin(alpha=alpha, delta_0=offset, trainable=True):
            return Trainable(alpha=alpha, offset=offset)
        case AdaptiveSoftmax(alpha=alpha, tau_0=offset, trainable=True):
            return Trainable(alpha=alpha, offset=offset)
        case _:
            return None
