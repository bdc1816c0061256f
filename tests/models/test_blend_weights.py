"""Blending weights are estimated on copies, from what each loss does to held-out pairs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.conversations import training_pairs
from models.data.schema import Dataset
from models.sections import ScaledSoftmax
from models.towers import TwoTowers, channel_groups
from models.training.batches import DocumentTable, PairBatches, QueryTable, number_pairs
from models.training.blend_weights import BlendingEstimate, estimate_weights
from models.training.objective import Objective
from models.training.run import Run


@pytest.fixture(scope="module")
def towers(run_dir: Path) -> TwoTowers:
    towers = Run.open(run_dir).towers
    for tower in (towers.query, towers.document):
        tower.groups = channel_groups("grouped", tower)
    return towers


@pytest.fixture(scope="module")
def parts(run_dir: Path, dataset_dir: Path) -> tuple[PairBatches, PairBatches]:
    dataset, featurizer = Dataset.open(dataset_dir), Run.open(run_dir).featurizer
    documents = DocumentTable(dataset, featurizer)
    numbered = number_pairs(training_pairs(dataset, seed=0).train, documents)
    pairs = np.stack([numbered.query_rows, numbered.document_rows], axis=1)
    queries = QueryTable(numbered.queries, featurizer)
    seen, unseen = (
        PairBatches(part, queries=queries, documents=documents, batch=32, seed=0) for part in (pairs[:200], pairs[200:])
    )
    return seen, unseen


def estimated(towers: TwoTowers, parts: tuple[PairBatches, PairBatches], *, steps: int) -> BlendingEstimate:
    torch.manual_seed(1)
    return estimate_weights(
        towers,
        Objective(ScaledSoftmax()),
        batches=parts[0],
        held_out=parts[1],
        steps=steps,
        optimizer=lambda copy: torch.optim.Adam(copy.parameters(), lr=3e-3),
    )


def test_each_loss_is_trained_alone_and_the_towers_stay(
    towers: TwoTowers, parts: tuple[PairBatches, PairBatches]
) -> None:
    """Six weights that sum to 1; the joint copy lowered its loss; the run's own towers did not move."""
    before = {name: parameter.clone() for name, parameter in towers.named_parameters()}
    found = estimated(towers, parts, steps=6)

    assert 6 == len(found.weights) == len(found.changes)
    assert 1.0 == pytest.approx(found.weights.sum())
    assert found.weights.min() > 0
    assert found.changes[0].train_after < found.changes[0].train_before
    for name, parameter in towers.named_parameters():
        torch.testing.assert_close(parameter, before[name], atol=0, rtol=0)


def test_the_same_seed_estimates_the_same(towers: TwoTowers, parts: tuple[PairBatches, PairBatches]) -> None:
    first, second = (estimated(towers, parts, steps=2) for _ in range(2))

    np.testing.assert_array_equal(first.weights, second.weights)
