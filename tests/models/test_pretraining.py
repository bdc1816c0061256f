"""Pre-training by masked language model, and the directory that it leaves for training to start from."""

import json
from pathlib import Path

import msgspec
import pytest
import torch

from models.config import RunConfig, load_config
from models.data.schema import Dataset
from models.encoder import TextEncoder
from models.errors import RunError
from models.pretrained import load_encoder, tokenizer_of
from models.pretraining import MASK, MaskedLanguageModel, MaskedLoss, mask, pretrain
from models.sections import EncoderConfig, PretrainConfig
from models.training.train import train
from tests.helpers import SMALL_CONFIG, small_config


class Killed(Exception):
    """Raised by a reporter to end a run as a signal would."""


@pytest.fixture
def dataset(dataset_dir: Path) -> Dataset:
    return Dataset.open(dataset_dir)


def config(folder: Path, **values: object) -> RunConfig:
    settings = {"epochs": 2, "batch": 16, "warmup_steps": 5, "checkpoint_steps": 7} | values
    return msgspec.structs.replace(small_config(folder), pretrain=PretrainConfig(**settings))


def test_a_seventh_of_the_tokens_is_guessed_and_most_of_those_are_hidden() -> None:
    """Of 40,000 tokens about 15 % are guessed; 80 % of them show the mask, 10 % another, 10 % themselves."""
    torch.manual_seed(0)
    token_ids = torch.randint(3, 500, (400, 100))
    shown, masked = mask(token_ids, share=0.15, vocabulary=500)
    hidden, kept = (shown == MASK)[masked], (shown == token_ids)[masked]

    assert 0.15 == pytest.approx(masked.float().mean().item(), abs=0.01)
    assert 0.8 == pytest.approx(hidden.float().mean().item(), abs=0.02)
    assert 0.1 == pytest.approx(kept.float().mean().item(), abs=0.02)
    assert torch.equal(shown[~masked], token_ids[~masked])


def test_marks_and_padding_are_never_guessed_and_something_always_is() -> None:
    """[CLS] and padding stay; even a short batch has a token to guess."""
    for seed in range(50):
        torch.manual_seed(seed)
        shown, masked = mask(torch.tensor([[2, 7, 0], [2, 8, 9]]), share=0.15, vocabulary=20)

        assert masked.any()
        assert not masked[:, 0].any()
        assert 0 == shown[0, 2]


def test_only_masked_positions_are_guessed() -> None:
    """Two marked positions give two rows of logits, over the whole vocabulary."""
    encoder = TextEncoder(EncoderConfig(layers=1, dim=8, heads=2, ffn=8), vocabulary=20, max_tokens=5, dropout=0.0)
    masked = torch.tensor([[False, True, False], [False, False, True]])

    assert (2, 20) == MaskedLanguageModel(encoder)(torch.tensor([[2, 7, 0], [2, 8, 9]]), masked).shape


def test_it_learns_the_text_and_leaves_an_encoder(dataset: Dataset, tmp_path: Path) -> None:
    """The held-out loss falls, and `train` starts from the directory's weights and vocabulary."""
    made = pretrain(dataset, tmp_path / "encoder", config(tmp_path, epochs=6, learning_rate=3e-3), tower="query")

    assert made.history[-1].loss < made.history[0].loss - 0.3
    assert made.history[-1].accuracy > made.history[0].accuracy
    assert made.step == json.loads((tmp_path / "encoder/pretraining.json").read_text())["step"]


@pytest.mark.parametrize("killed_at", [3, 9])
def test_killed_and_resumed_it_ends_the_same(killed_at: int, dataset: Dataset, tmp_path: Path) -> None:
    whole = pretrain(dataset, tmp_path / "whole", config(tmp_path), tower="document")

    def kill(done: int, _most: int, _look: MaskedLoss | None) -> None:
        if done == killed_at:
            raise Killed

    with pytest.raises(Killed):
        pretrain(dataset, tmp_path / "killed", config(tmp_path), tower="document", report=kill)
    if killed_at < 7:
        with pytest.raises(RunError, match="nothing to resume"):
            pretrain(dataset, tmp_path / "killed", config(tmp_path), tower="document", resume=True)
        return
    resumed = pretrain(dataset, tmp_path / "killed", config(tmp_path), tower="document", resume=True)

    assert [look.loss for look in whole.history] == pytest.approx([look.loss for look in resumed.history], abs=1e-6)


def test_training_starts_from_it(dataset: Dataset, tmp_path: Path) -> None:
    """Both towers' encoders have its weights at step 0, and the run reads its vocabulary."""
    pretrain(dataset, tmp_path / "encoder", config(tmp_path), tower="query")
    file = tmp_path / "run.toml"
    sizes = "{layers = 1, dim = 32, heads = 2, ffn = 48}"
    file.write_text(SMALL_CONFIG.replace(f"query_encoder = {sizes}\ndocument_encoder = {sizes}\n", ""))
    settings = load_config(path=file, encoder=tmp_path / "encoder")
    vocabulary = tokenizer_of(settings.model)
    run = train(dataset, tmp_path / "run", settings)
    start = TextEncoder(settings.model.query_encoder, vocabulary=run.featurizer.vocabulary, max_tokens=8, dropout=0.0)
    load_encoder(start, tmp_path / "encoder")

    assert vocabulary is not None
    assert vocabulary.saved == run.featurizer.tokenizer.saved
    moved = (start.norm.weight - run.towers.query.channels["text"].encoder.norm.weight).abs().max()
    assert 0 < moved < 0.05  # ten steps later it is still near where it started
