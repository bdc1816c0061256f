"""Fusions, and the views of a tower: the full output, and each group of channels alone."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.channels import ChannelOutput
from models.config import RunConfig, load_config
from models.fusion import AttentionFusion, ConcatenationFusion, SumFusion, only
from models.towers import TwoTowers, as_tensors, build_towers, channel_groups
from tests.helpers import small_config, small_featurizer

FEATURIZER = small_featurizer(languages=("en", "es"))


def channel(vector: list[float], *, present: bool = True) -> ChannelOutput:
    return ChannelOutput(torch.tensor([vector]) * present, torch.tensor([present]))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return small_config(tmp_path_factory.mktemp("config"))


def towers(config: RunConfig, **model: object) -> TwoTowers:
    import msgspec

    torch.manual_seed(2)
    return build_towers(
        msgspec.structs.replace(config.model, **model), FEATURIZER.spec, vocabulary=FEATURIZER.vocabulary
    ).eval()


def products(**fields: object) -> list[dict[str, object]]:
    return [{"title": "red dress", "description": "worn twice", "image_vectors": [[0.1, 0.2, 0.3, 0.4]]} | fields]


def documents(model: TwoTowers, rows: list[dict[str, object]]) -> list[Tensor]:
    return as_tensors(FEATURIZER.products(rows), model.document)


def test_the_sum_leaves_out_what_is_absent() -> None:
    """(1, 2) + (10, 20), with (100, 200) absent."""
    channels = [channel([1.0, 2.0]), channel([10.0, 20.0]), channel([100.0, 200.0], present=False)]

    assert [[11.0, 22.0]] == SumFusion(channels=3, dim=2)(channels).tolist()


def test_concatenation_reads_an_absent_channel_as_zeros() -> None:
    """The MLP over (1, 2, 0, 0): its first layer sees only the first channel's columns."""
    fusion = ConcatenationFusion(channels=2, dim=2)
    expected = fusion.mlp[2](fusion.mlp[1](fusion.mlp[0].weight[:, :2] @ torch.tensor([1.0, 2.0]) + fusion.mlp[0].bias))

    torch.testing.assert_close(fusion([channel([1.0, 2.0]), channel([7.0, 7.0], present=False)])[0], expected)


def test_attention_by_hand() -> None:
    """W = identity-like over two channels of one number, 1 and 3: logits 1/sqrt 2 and 3/sqrt 2, a = 0.1955, 0.8045."""
    fusion = AttentionFusion(channels=2, dim=1)
    with torch.no_grad():
        fusion.gate.weight.copy_(torch.eye(2))
    channels = [channel([1.0]), channel([3.0])]

    assert [0.1955, 0.8045] == pytest.approx(fusion.weights(channels)[0].tolist(), abs=1e-4)
    assert 2.6089 == pytest.approx(fusion(channels).item(), abs=1e-4)
    assert 1.0 == pytest.approx(fusion(only(channels, {0})).item(), abs=1e-6)


def test_the_papers_towers_have_six_losses_grouped_and_nine_single(config: RunConfig) -> None:
    """2 + 3 groups, or 3 + 5 channels, and the joint loss (Table 1)."""
    model = towers(config)

    assert (("text", "trigram"), ("country",)) == channel_groups("grouped", model.query)
    assert (
        ("title_text", "title_trigram"),
        ("description_text", "description_trigram"),
        ("image",),
    ) == channel_groups("grouped", model.document)
    assert 8 == sum(len(channel_groups("single", tower)) for tower in (model.query, model.document))


def test_a_group_that_is_the_whole_tower_is_no_view(config: RunConfig) -> None:
    """Without a country the query's text and 3-grams are all there is."""
    model = towers(config, query_channels=("text", "trigram"))

    assert () == channel_groups("grouped", model.query)
    assert (("text",), ("trigram",)) == channel_groups("single", model.query)


@pytest.mark.parametrize("fusion", ["attention", "concatenation", "sum"])
def test_views_are_the_full_output_and_each_group_alone(fusion: str, config: RunConfig) -> None:
    """View 0 is what the tower gives; the image's view is what it gives a product with nothing but that image."""
    model = towers(config, fusion=fusion)
    features = documents(model, products())
    full = model.document(*features)
    model.document.groups = channel_groups("grouped", model.document)
    views = model.document.views(*features)

    torch.testing.assert_close(model.document(*features), full)  # groups change nothing in what is exported
    torch.testing.assert_close(views.vectors[:, 0], full)
    alone = documents(model, products(title="", description=None))
    torch.testing.assert_close(views.vectors[:, 3], model.document(*alone), atol=1e-5, rtol=1e-5)


def test_a_view_is_absent_where_its_whole_group_is(config: RunConfig) -> None:
    """A product without description and images has the full view and the title's."""
    model = towers(config)
    model.document.groups = channel_groups("grouped", model.document)
    views = model.document.views(*documents(model, products(description=None, image_vectors=None)))

    assert [[True, True, False, False]] == views.present.tolist()


def test_language_and_country_of_a_document_are_channels(config: RunConfig) -> None:
    """Off unless named; then another language or country moves the vector, and an unknown one is known as such."""
    plain, more = towers(config), towers(config, document_channels=("title_text", "language", "country"))
    english, spanish = products(language="EN", country="us"), products(language="es", country="us")

    assert "language_ids" not in plain.document.inputs
    torch.testing.assert_close(plain.document(*documents(plain, english)), plain.document(*documents(plain, spanish)))
    assert (more.document(*documents(more, english)) - more.document(*documents(more, spanish))).abs().max() > 1e-4
    assert [1, 2, 0] == FEATURIZER.language_ids(["en", "ES", None]).tolist()


def test_separate_encoders_share_nothing(config: RunConfig) -> None:
    shared, separate = towers(config), towers(config, shared_encoder=False)

    for model, same in ((shared, True), (separate, False)):
        channels = model.document.channels
        assert same == (channels["title_text"].encoder is channels["description_text"].encoder)


def test_a_preset_can_be_built_with_every_fusion(tmp_path: Path) -> None:
    """The configuration's own names are those that the towers know."""
    for fusion in ("attention", "concatenation", "sum"):
        path = tmp_path / "fusion.toml"
        path.write_text(f"[model]\nfusion = '{fusion}'\n")
        built = towers(load_config(path=path), dim=16)

        assert 16 == built.query.dim


def test_3_gram_tables_start_as_one(config: RunConfig) -> None:
    """So a query and a title that share their 3-grams are near each other at step 0; apart, they are strangers."""
    cosines = {}
    for shared in (True, False):
        torch.manual_seed(0)
        model = towers(config, query_channels=("trigram",), document_channels=("title_trigram",), shared_start=shared)
        title = model.document(*documents(model, products(title="red dress")))
        query = model.query(*as_tensors(FEATURIZER.queries(["red dress"], [None]), model.query))
        cosines[shared] = (query @ title.T).item()

    assert 1.0 == pytest.approx(cosines[True], abs=1e-5)
    assert abs(cosines[False]) < 0.5
