"""The objective: the configured loss, blended over views, with the class head where it is on."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.losses import scaled_softmax
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
from models.training.objective import ClassHead, Objective, class_labels

EVERY_LOSS = [
    ScaledSoftmax(),
    ScaledSoftmax(symmetric=True),
    MarginRank(),
    MarginRank(reduction="mean", negatives=2),
    ScaledBce(),
    AdaptiveMargin(),
    AdaptiveMargin(trainable=True),
    AdaptiveSoftmax(),
    AdaptiveSoftmax(tau_form="add", tau_place="neg", trainable=True),
    AdapTau(),
    DifficultySoftmax(),
    MixedSoftmax(hardest=2),
]


def views(rows: int, groups: int = 0, *, seed: int = 0) -> Views:
    draw = torch.Generator().manual_seed(seed)
    vectors = F.normalize(torch.randn(rows, 1 + groups, 8, generator=draw), dim=-1).requires_grad_()
    return Views(vectors, torch.ones(rows, 1 + groups, dtype=torch.bool))


def batch(b: int, n: int | None = None) -> PairBatch:
    n = n or b
    known = np.zeros((b, n), dtype=bool)
    np.fill_diagonal(known, val=True)
    return PairBatch(np.arange(b), np.arange(n), known)


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=repr)
@pytest.mark.parametrize("extra", [0, 3])
def test_every_loss_pulls_pairs_together(loss: LossConfig, extra: int) -> None:
    """With and without mined documents, steps down the gradient raise the positives' cosines over the others'."""
    objective = Objective(loss)
    objective.adap_tau_base = 10.0
    queries, documents = views(6), views(6 + extra, seed=1)

    def lead() -> float:
        cosines = F.normalize(queries.vectors[:, 0], dim=-1) @ F.normalize(documents.vectors[:, 0], dim=-1).T
        return float((cosines.diagonal().mean() - cosines.mean()).detach())

    before = lead()
    optimizer = torch.optim.Adam([queries.vectors, documents.vectors, *objective.parameters()], lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        unit = [Views(F.normalize(side.vectors, dim=-1), side.present) for side in (queries, documents)]
        value = objective(*unit, batch(6, 6 + extra))
        value.backward()
        optimizer.step()

        assert torch.isfinite(value)

    assert lead() > before + 0.1


def test_views_are_blended_by_their_weights() -> None:
    """One query group and two document groups are three losses beside the joint one, in this order."""
    objective = Objective(ScaledSoftmax())
    queries, documents = views(4, 1), views(4, 2, seed=1)
    parts = objective.pair_losses(queries, documents, batch(4))
    objective.weights = [0.5, 0.2, 0.2, 0.1]

    expected = [
        scaled_softmax(queries.vectors[:, q] @ documents.vectors[:, d].T, scale=20.0)
        for q, d in ((0, 0), (1, 0), (0, 1), (0, 2))
    ]
    torch.testing.assert_close(parts, expected)
    torch.testing.assert_close(
        objective(queries, documents, batch(4)),
        sum(weight * part for weight, part in zip(objective.weights, expected, strict=True)),
    )


def test_a_row_without_the_view_takes_no_part_in_its_loss() -> None:
    """Document 2 has no image: the image loss is that of the other three pairs; the joint loss keeps all four."""
    objective = Objective(ScaledSoftmax())
    queries, documents = views(4), views(4, 1, seed=1)
    documents.present[2, 1] = False
    joint, image = objective.pair_losses(queries, documents, batch(4))
    kept = [0, 1, 3]

    whole = queries.vectors[:, 0] @ documents.vectors[:, 0].T
    torch.testing.assert_close(joint, scaled_softmax(whole, scale=20.0))
    partial = queries.vectors[kept, 0] @ documents.vectors[kept, 1].T
    torch.testing.assert_close(image, scaled_softmax(partial, scale=20.0))


def test_a_document_whose_query_lacks_the_view_is_still_a_negative() -> None:
    """Query 0 lacks the group: rows 1 and 2 are trained, against all three documents."""
    objective = Objective(ScaledSoftmax())
    queries, documents = views(3, 1), views(3, seed=1)
    queries.present[0, 1] = False
    _, group = objective.pair_losses(queries, documents, batch(3))

    cosines = queries.vectors[[1, 2], 1] @ documents.vectors[[1, 2, 0], 0].T
    torch.testing.assert_close(group, scaled_softmax(cosines, scale=20.0))


def test_labels_are_a_documents_head_queries() -> None:
    """Document 0 answers both heads, document 1 none that is a head, document 2 the second, named twice."""
    labels = class_labels(
        ["dress", "lamp", "sofa", "lamp", "lamp"], [0, 0, 1, 2, 2], heads=["dress", "lamp"], documents=4
    )

    assert [[0, 1], [-1, -1], [1, -1], [-1, -1]] == labels.tolist()


def test_the_class_head_adds_its_weighted_loss() -> None:
    """With an untrained head of zeros both head queries are even: the loss is weight x log 2 for the labelled ones."""
    head = ClassHead(ClassificationConfig(weight=0.5), labels=torch.tensor([[0], [-1], [1]]), classes=2, dim=8)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    queries, documents = views(3), views(3, seed=1)
    plain = Objective(ScaledSoftmax())(queries, documents, batch(3))

    with_head = Objective(ScaledSoftmax(), class_head=head)(queries, documents, batch(3))
    torch.testing.assert_close(with_head - plain, torch.tensor(0.5 * np.log(2), dtype=torch.float32))


def test_trainable_alpha_and_offset_start_where_they_are_set() -> None:
    objective = Objective(AdaptiveMargin(alpha=0.5, delta_0=0.01, trainable=True))
    assert objective.trainable is not None
    alpha, delta_0 = objective.trainable()

    assert (0.5, 0.01) == pytest.approx((alpha.item(), delta_0.item()))
    assert 2 == len(list(objective.parameters()))
