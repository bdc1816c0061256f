"""Channels, fusion and towers on inputs small enough to check by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.channels import ChannelOutput, ImageChannel, TrigramChannel
from models.config import TRIGRAM_ONLY, load_config
from models.features import Featurizer
from models.fusion import AttentionFusion
from models.towers import TwoTowers, as_tensors, build_towers
from tests.helpers import small_featurizer

FEATURIZER = small_featurizer()


@pytest.fixture
def towers() -> TwoTowers:
    torch.manual_seed(1)
    return small_towers(FEATURIZER)


def small_towers(featurizer: Featurizer, **channels: tuple[str, ...]) -> TwoTowers:
    config = load_config(preset="tiny")
    config = config.replace_channels(**channels) if channels else config
    return build_towers(config.model, featurizer.spec, vocabulary=featurizer.vocabulary).eval()


def query_vectors(towers: TwoTowers, texts: list[str], countries: list[str | None]) -> Tensor:
    features = FEATURIZER.queries(texts, countries)
    return towers.query(*as_tensors(features, towers.query)).detach()


def document_vectors(towers: TwoTowers, images: list[object]) -> Tensor:
    features = FEATURIZER.documents(["red dress"] * len(images), [None] * len(images), images)
    return towers.document(*as_tensors(features, towers.document)).detach()


def test_trigrams_are_summed_and_padding_adds_nothing() -> None:
    """Rows 1 and 2 are [1, 0] and [0, 2]: ids 1, 2, 2 sum to [1, 4], normalised [-1, 1]; no ids give zero, absent."""
    channel = TrigramChannel(rows=3, dim=2)
    with torch.no_grad():
        channel.table.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))
    ids = torch.tensor([[1, 2, 2, 0], [0, 0, 0, 0]])
    for mode in (True, False):
        vector, present = channel.train(mode)(ids)

        assert [-1.0, 1.0, 0.0, 0.0] == pytest.approx(vector.flatten().tolist(), abs=1e-4)
        assert [True, False] == present.tolist()


def test_attention_is_a_softmax_over_the_concatenated_channels() -> None:
    """Eq. 1 with W / sqrt(4) picking each channel's first coordinate: weights softmax([ln 3, 0]) = [3/4, 1/4]."""
    fusion = AttentionFusion(channels=2, dim=2)
    with torch.no_grad():
        fusion.gate.weight.copy_(torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]]))
    here = torch.tensor([True])
    channels = [
        ChannelOutput(torch.tensor([[np.log(3.0), 4.0]], dtype=torch.float32), here),
        ChannelOutput(torch.tensor([[0.0, 8.0]]), here),
    ]

    assert [0.75, 0.25] == pytest.approx(fusion.weights(channels)[0].tolist())
    assert 0.75 * 4 + 0.25 * 8 == pytest.approx(float(fusion(channels)[0, 1].detach()))


def test_absent_channels_get_no_attention() -> None:
    """The one channel that is there takes all of it; with none there the vector is zero, not NaN."""
    fusion = AttentionFusion(channels=2, dim=2)
    present = torch.tensor([True, False])
    absent = torch.tensor([False, False])
    vectors = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    channels = [ChannelOutput(vectors, present), ChannelOutput(torch.zeros(2, 2), absent)]

    assert [[1.0, 2.0], [0.0, 0.0]] == fusion(channels).tolist()


def test_deep_sets_ignore_order_and_absent_images() -> None:
    """The sum over present images is the same in any order, and for any content of empty slots."""
    torch.manual_seed(0)
    channel = ImageChannel(image_dim=4, dim=8)
    images = torch.randn(1, 5, 4)
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]])
    other = images[:, [2, 0, 1, 3, 4]].clone()
    other[:, 3:] = 99.0

    torch.testing.assert_close(channel(images, mask).vector, channel(other, mask).vector)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_any_number_of_images_gives_a_unit_vector(towers: TwoTowers, count: int) -> None:
    vectors = document_vectors(towers, [[[0.5] * 4] * count])

    assert 1.0 == pytest.approx(float(vectors.norm()), abs=1e-5)


def test_query_vectors_have_norm_one_and_know_the_country(towers: TwoTowers) -> None:
    """The same words asked from elsewhere may mean another thing."""
    vectors = query_vectors(towers, ["football", "football"], ["US", "GB"])

    assert [1.0, 1.0] == pytest.approx(vectors.norm(dim=1).tolist(), abs=1e-5)
    assert not torch.allclose(vectors[0], vectors[1])


def test_padding_does_not_change_a_vector(towers: TwoTowers) -> None:
    """A short query beside a long one is the short query alone."""
    together = query_vectors(towers, ["red", "a long query about a wooden chair"], [None, None])

    torch.testing.assert_close(query_vectors(towers, ["red"], [None])[0], together[0], atol=1e-6, rtol=1e-5)


def test_title_and_description_share_one_encoder(towers: TwoTowers) -> None:
    """Que2Search 3.1: one text encoder for all text fields, so it has one set of parameters."""
    channels = towers.document.channels

    assert channels["title_text"].encoder is channels["description_text"].encoder
    assert len(towers.encoder_parameters()) == 2 * len(list(towers.query.channels["text"].encoder.parameters()))


def test_a_trigram_only_variant_has_no_encoder() -> None:
    """The paper's baseline: nothing but 3-grams on either side."""
    towers = small_towers(FEATURIZER, **TRIGRAM_ONLY)

    assert [] == towers.encoder_parameters()
    assert {"trigram"} == set(towers.query.channels)


def test_data_without_images_gives_a_tower_without_the_channel() -> None:
    towers = small_towers(small_featurizer(image_dim=0))

    assert "image" not in towers.document.channels
