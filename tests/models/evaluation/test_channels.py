"""Which channel matters: altered channels are fused again without encoding again."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from models.channels import ChannelOutput
from models.data.schema import Dataset
from models.evaluation.channels import LONGEST, EncodedChannels, attention_by_length, channel_importance
from models.evaluation.task import EvaluationTask
from models.fusion import AttentionFusion, ConcatenationFusion, SumFusion
from models.towers import Tower
from models.training.batches import DocumentTable
from models.training.run import Run
from models.training.validation import embed_rows

ROWS = np.arange(20)


@pytest.fixture(scope="module")
def run(run_dir: Path) -> Run:
    return Run.open(run_dir)


@pytest.fixture(scope="module")
def documents(run: Run, dataset_dir: Path) -> DocumentTable:
    return DocumentTable(Dataset.open(dataset_dir), run.featurizer)


def tower_of(fusion: AttentionFusion | SumFusion | ConcatenationFusion) -> Tower:
    """Two channels, "colour" and "noise", of two numbers each."""
    return Tower(channels=nn.ModuleDict({"colour": nn.Identity(), "noise": nn.Identity()}), fusion=fusion)


def encoded(
    colour: list[list[float]], noise: list[list[float]], fusion: AttentionFusion | SumFusion
) -> EncodedChannels:
    present = torch.ones(len(colour), dtype=torch.bool)
    return EncodedChannels(
        tower_of(fusion), [ChannelOutput(torch.tensor(vectors), present) for vectors in (colour, noise)]
    )


def test_fused_channels_are_the_towers_vectors(run: Run, documents: DocumentTable) -> None:
    """To the last bits, whatever the batches."""
    channels = EncodedChannels.of(run.towers.document, documents, ROWS)

    np.testing.assert_allclose(channels.vectors(), embed_rows(run.towers.document, documents, ROWS), atol=1e-6)


def test_a_zeroed_channel_is_an_absent_one(run: Run, documents: DocumentTable) -> None:
    """As if no product had an image."""
    zeroed = EncodedChannels.of(run.towers.document, documents, ROWS).zeroed("image")
    without = embed_rows(run.towers.document, documents.without(images=True), ROWS)

    np.testing.assert_allclose(zeroed.vectors(), without, atol=1e-6)


def test_a_shuffled_channel_is_dealt_out_to_other_rows() -> None:
    """With zeros in the other channel, the rows are the old ones in another order."""
    colours = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6]]
    channels = encoded(colours, [[0.0, 0.0]] * 4, SumFusion(channels=2, dim=2))
    shuffled = channels.shuffled("colour", seed=1).vectors().tolist()

    assert sorted(colours) == pytest.approx(np.array(sorted(shuffled)))
    assert not any(np.allclose(own, dealt) for own, dealt in zip(colours, shuffled, strict=True))
    np.testing.assert_allclose(colours, channels.vectors(), atol=1e-6)


def test_attention_by_length_is_the_mean_over_queries_of_like_length() -> None:
    """An untrained gate weighs both channels alike; very long queries count as one length."""
    queries = encoded([[1.0, 0.0]] * 4, [[0.0, 1.0]] * 4, AttentionFusion(channels=2, dim=2))
    found = attention_by_length(queries, ["tv", "tv", "lamp", "l" * 99])

    assert found is not None
    assert [2, 4, LONGEST] == found.lengths.tolist()
    assert [2, 1, 1] == found.counts.tolist()
    assert ["colour", "noise"] == list(found.channels)
    np.testing.assert_allclose(0.5, found.weights)


def test_other_fusions_have_no_attention() -> None:
    """And so no picture of it."""
    assert attention_by_length(encoded([[1.0, 0.0]], [[0.0, 1.0]], SumFusion(channels=2, dim=2)), ["tv"]) is None


def test_the_channel_that_tells_products_apart_is_the_important_one() -> None:
    """Without colours both products of a query score alike: ROC AUC 1 becomes 1/2. The noise, all zeros, is worth 0."""
    colours, nothing = [[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0]] * 2
    queries, documents = (encoded(colours, nothing, SumFusion(channels=2, dim=2)) for _ in range(2))
    judgements = pl.DataFrame(
        {
            "query": ["red", "red", "blue", "blue"],
            "country": ["US"] * 4,
            "product_id": ["r", "b", "r", "b"],
            "rating": [3, 0, 0, 3],
        }
    )
    products = pl.DataFrame({"product_id": ["r", "b"]})
    task = EvaluationTask.build(products=products, pairs=judgements.drop("rating").clear(), judgements=judgements)
    found = {
        (row.tower, row.channel): row.zeroed.value
        for row in channel_importance(queries, documents, task, products=np.array([0, 1]))
    }

    assert {
        ("query", "colour"): 0.5,
        ("query", "noise"): 0.0,
        ("document", "colour"): 0.5,
        ("document", "noise"): 0.0,
    } == found
