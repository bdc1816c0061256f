"""A frozen encoder stays as it was pretrained; title and description may be one text to it."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models.channels import TextChannel
from models.config import load_config
from models.data.schema import Dataset
from models.errors import ConfigError
from models.features import whole_text
from models.tokenizers import CLS
from models.training.batches import DocumentTable
from models.training.train import train
from tests.helpers import SMALL_CONFIG, small_encoder, small_featurizer

FROZEN = """
document_channels = ["text", "title_trigram"]
query_channels = ["text", "trigram"]
[model.query_encoder]
frozen = true
[model.document_encoder]
frozen = true
"""


def test_it_reads_a_text_once_whatever_it_is_padded_to(tmp_path: Path) -> None:
    """While it trains it gives what it gives in use, no dropout in it; padding makes no other text."""
    encoder = small_encoder(tmp_path, dropout=0.5).eval()
    ids = torch.tensor([[1, 7, 9, 0], [1, 8, 0, 0], [1, 7, 9, 0]])
    with torch.no_grad():
        in_use = encoder(ids)
    encoder.remember()
    encoder.train()

    torch.testing.assert_close(encoder(ids), in_use)
    torch.testing.assert_close(encoder(ids[1:2, :2]), in_use[1:2])
    assert 2 == len(encoder._read or ())
    assert encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_a_run_leaves_it_as_pretrained_and_learns_around_it(dataset_dir: Path, tmp_path: Path) -> None:
    """Its weights are the directory's to the last bit; the projections behind it have moved apart."""
    small_encoder(tmp_path / "encoder")
    file = tmp_path / "frozen.toml"
    both = [line for line in SMALL_CONFIG.splitlines() if "_encoder = " in line]
    file.write_text(SMALL_CONFIG.replace("\n".join(both), FROZEN))
    run = train(Dataset.open(dataset_dir), tmp_path / "run", load_config(path=file, encoder=tmp_path / "encoder"))
    query, document = run.towers.query.channels["text"], run.towers.document.channels["text"]
    again = small_encoder(tmp_path / "again")

    assert isinstance(query, TextChannel)
    assert isinstance(document, TextChannel)
    assert 96 == run.featurizer.spec.text_tokens
    for channel in (query, document):
        torch.testing.assert_close(channel.encoder.token_embedding.weight, again.token_embedding.weight, atol=0, rtol=0)
    assert (query.projection.weight - document.projection.weight).abs().max() > 1e-4


@pytest.mark.parametrize("preset", ["tiny", "catalogue"])
def test_one_from_scratch_cannot_be_frozen(preset: str, tmp_path: Path) -> None:
    """The preset for catalogues wants an encoder, and so does whoever asks for a frozen one."""
    file = tmp_path / "frozen.toml"
    file.write_text("[model.query_encoder]\nfrozen = true")
    with pytest.raises(ConfigError, match=r"model.query_encoder.frozen=true needs .* --encoder"):
        load_config(preset=preset, path=file)


def test_the_catalogue_preset_takes_its_encoder_for_teacher(tmp_path: Path) -> None:
    """Both towers frozen, of the directory's sizes; the teacher is the same directory unless another is named."""
    small_encoder(tmp_path / "encoder")
    config = load_config(preset="catalogue", encoder=tmp_path / "encoder")

    assert config.model.query_encoder.frozen
    assert config.model.document_encoder.frozen
    assert 16 == config.model.document_encoder.dim
    assert str(tmp_path / "encoder") == config.teacher.encoder  # type: ignore[union-attr]
    other = load_config(preset="catalogue", encoder=tmp_path / "encoder", teacher=tmp_path / "other")
    assert str(tmp_path / "other") == other.teacher.encoder  # type: ignore[union-attr]


def test_title_and_description_are_one_text_where_a_channel_reads_them_so() -> None:
    """Cut at its own length; without a description it is the title; without such a channel nothing is read."""
    featurizer = small_featurizer(text_tokens=20)
    whole = featurizer.documents(["red dress"], ["worn twice, like new"], [None]).text_ids[0].tolist()
    title = featurizer.documents(["red dress"], [None], [None]).text_ids[0].tolist()

    assert featurizer.text_ids("red dress. worn twice, like new", 20).tokens == whole
    assert featurizer.text_ids("red dress", 20).tokens == title
    assert "lamp" == whole_text("lamp", None) == whole_text("lamp", "")
    assert 20 == featurizer.documents(["lamp " * 30], [None], [None]).text_ids.shape[1]
    assert [[CLS]] == small_featurizer().documents(["lamp"], [None], [None]).text_ids.tolist()
    assert small_featurizer(text_tokens=20).hash != small_featurizer().hash


def test_a_table_of_documents_reads_as_the_featuriser_does(dataset_dir: Path) -> None:
    """Row by row; with descriptions taken away a product's one text is its title."""
    dataset, featurizer = Dataset.open(dataset_dir), small_featurizer(title_tokens=20, text_tokens=20)
    table, rows = DocumentTable(dataset, featurizer), np.array([3, 0])
    products = dataset.products().to_dicts()
    read = featurizer.products([products[row] for row in rows])
    untold = featurizer.products([products[row] | {"description": None} for row in rows])

    np.testing.assert_array_equal(read.text_ids, table.batch(rows).text_ids)
    np.testing.assert_array_equal(untold.text_ids, table.without(descriptions=True).batch(rows).text_ids)
    assert table.lengths.max() <= 20
    assert msgspec.structs.asdict(featurizer.spec)["text_tokens"] == 20
