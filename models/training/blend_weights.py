"""Blending weights, estimated: each loss trains a copy of the towers alone for some steps (G-Blend, Algorithm 1)."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from models.blending import LossChange, blending_weights
from models.towers import TwoTowers, Views, as_tensors
from models.training.batches import PairBatch, PairBatches
from models.training.objective import Objective

LOOKED_AT = 4  # batches that a loss is measured on, of training and of held-out pairs each
ROWS = 256  # of a batch, at most: an estimate trains k copies


class BlendingEstimate(NamedTuple):
    """What the losses did in an estimate, and the weights that follow."""

    weights: np.ndarray  # (k,), sum 1: the joint loss, the query's groups, the document's
    changes: list[LossChange]


def estimate_weights(
    towers: TwoTowers,
    objective: Objective,
    *,
    batches: PairBatches,
    held_out: PairBatches,
    steps: int,
    optimizer: Callable[[TwoTowers], torch.optim.Optimizer],
    progress: Callable[[int, int], None] | None = None,
) -> BlendingEstimate:
    """Train a copy per loss and see how each generalises; the towers stay as they are. Costs k times `steps` steps.

    Two towers have no uni-modal nets to train apart: G and O are those of each loss of Eq. 6, in-batch, over pairs
    held out of training [inferred].

    Args:
        objective: whose pair losses are meant; nothing of it is trained.
        optimizer: makes one for a copy.
    """
    k = 1 + len(towers.query.groups) + len(towers.document.groups)
    sample = _some(batches, steps)
    seen, unseen = sample[:LOOKED_AT], _some(held_out, LOOKED_AT)
    before = _losses(towers, objective, seen, batches), _losses(towers, objective, unseen, held_out)
    changes = []
    for loss in range(k):
        learner = copy.deepcopy(towers)
        adam = optimizer(learner)
        for at, batch in enumerate(sample):
            _step(learner, objective, batch, batches, adam, loss=loss)
            if progress:
                progress(loss * steps + at + 1, k * steps)
        after = _losses(learner, objective, seen, batches), _losses(learner, objective, unseen, held_out)
        changes.append(LossChange(before[0][loss], after[0][loss], before[1][loss], after[1][loss]))
    return BlendingEstimate(blending_weights(changes), changes)


def _step(
    towers: TwoTowers,
    objective: Objective,
    batch: PairBatch,
    batches: PairBatches,
    adam: torch.optim.Optimizer,
    *,
    loss: int,
) -> None:
    towers.train()
    adam.zero_grad(set_to_none=True)
    objective.pair_losses(*_views(towers, batch, batches), batch)[loss].backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
    adam.step()


def _losses(towers: TwoTowers, objective: Objective, sample: list[PairBatch], batches: PairBatches) -> list[float]:
    """The mean of each pair loss over the sample."""
    towers.eval()
    with torch.no_grad():
        rows = [torch.stack(objective.pair_losses(*_views(towers, batch, batches), batch)) for batch in sample]
    means: list[float] = torch.stack(rows).mean(dim=0).tolist()
    return means


def _views(towers: TwoTowers, batch: PairBatch, batches: PairBatches) -> tuple[Views, Views]:
    queries = as_tensors(batches.queries.batch(batch.query_rows), towers.query, towers.query.device)
    documents = as_tensors(batches.documents.batch(batch.document_rows), towers.document, towers.document.device)
    return towers.query.views(*queries), towers.document.views(*documents)


def _some(batches: PairBatches, count: int) -> list[PairBatch]:
    """The first `count` batches, over as many epochs as it takes, cut to ROWS pairs."""
    found: list[PairBatch] = []
    epoch = 0
    while len(found) < count:
        for batch in batches.epoch(epoch):
            if len(found) < count:
                square = batch.known_positives[:ROWS, :ROWS]
                found.append(PairBatch(batch.query_rows[:ROWS], batch.document_rows[:ROWS], square))
        epoch += 1
    return found
