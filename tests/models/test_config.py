"""A configuration is refused before any work when a key or a value is wrong."""

from pathlib import Path

import pytest

from models.config import TRIGRAM_ONLY, load_config, saved_config
from models.errors import ConfigError
from models.presets import PRESETS
from models.sections import AdaptiveMargin, ClassificationConfig, MarginRank
from tests.helpers import small_encoder


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_load_and_save_as_they_are(preset: str, tmp_path: Path) -> None:
    """config.toml of a run gives the run's configuration again, to the last key."""
    if preset == "catalogue":  # it wants an encoder
        small_encoder(tmp_path / "encoder")
    config = load_config(preset=preset, seed=7, encoder=tmp_path / "encoder" if preset == "catalogue" else None)
    config.save(tmp_path / "config.toml")

    assert config == saved_config(tmp_path / "config.toml")


def test_the_paper_preset_has_the_papers_sizes() -> None:
    """Que2Search 3.1: two layers of 128 with an FFN of 384, batch 768, Adam at 7e-4 and 2e-4, clip 1, dropout 0.1."""
    config = load_config(preset="paper")

    assert (2, 128, 4, 384) == tuple(
        getattr(config.model.query_encoder, name) for name in ("layers", "dim", "heads", "ffn")
    )
    assert (768, 7e-4, 2e-4, 1.0, 3) == (
        config.train.batch,
        config.train.learning_rate,
        config.train.encoder_learning_rate,
        config.train.clip,
        config.train.patience,
    )


@pytest.mark.parametrize(
    ("toml", "names"),
    [
        ("[train]\nbatchsize = 3", "batchsize"),
        ("[train]\nbatch = 1", "train.batch=1"),
        ("[train]\nbatch = 'many'", "train.batch"),
        ("[train]\npatience = 0", "train.patience=0"),
        ("[model]\ndim = 100", "model.dim=100"),
        ("[model]\ndropout = 1.0", "model.dropout=1.0"),
        ("[model]\nquery_channels = ['text', 'smell']", "smell"),
        ("[model]\nquery_channels = []", "at least one"),
        ("[model.query_encoder]\nheads = 3", "query_encoder.dim=128"),
        ("[train.loss]\nmargin = 0.2", "unknown field `margin`.*'softmax' takes scale, symmetric"),
        ("[train.loss]\ntype = 'hinge'", "type is one of softmax, margin"),
        ("[train.loss]\ntype = 'mixed_softmax'\nmix_high = 1.0", "mix_high=1.0 must rise"),
        ("[train.loss]\ntype = 'adaptive_margin'\nalpha = -1.0", "train.loss.alpha=-1.0 must be 0 or more"),
        ("[train.loss]\ntype = 'adaptive_margin'\nalpha = 0.0\ntrainable = true", "alpha=0.0 must be above 0, since"),
        ("[curriculum.loss]\ntype = 'margin'\nmargin = -0.1", "curriculum.loss.margin=-0.1"),
        ("[curriculum]\nepochs = 0", "curriculum.epochs=0"),
        ("curiculum = false", "unknown field `curiculum`"),  # only a table that there is can be off
        ("train = false", "got `bool` - at `\\$.train`"),
        ("seed = false", "got `bool` - at `\\$.seed`"),
        ("curriculum = false\n[mining]", "mining.stage=2 needs a \\[curriculum"),
        ("[mining]\nfirst_rank = 500\nlast_rank = 101", "must rise from 1"),
        ("[classification]\nlabels = 1", "classification.labels=1"),
        ("[pretrain]\nmasked_share = 1.0", "pretrain.masked_share=1.0"),
        ("[distillation]\nvector_weight = 1.0", "teacher"),
        ("[model]\nfusion = 'mean'", "mean"),
        ("[model.query_encoder]\npretrained = 'nowhere'", "nowhere/config.json"),
        ("preset = 'huge'", "huge"),
        ("[train", "not TOML"),
    ],
)
def test_a_wrong_key_or_value_is_named(toml: str, names: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(toml)

    with pytest.raises(ConfigError, match=names):
        load_config(path=path)


def test_a_table_is_switched_off_and_a_loss_of_another_type_replaces_the_presets(tmp_path: Path) -> None:
    """`curriculum = false` leaves stage 1 alone; a margin has nothing of the softmax that the preset names."""
    path = tmp_path / "off.toml"
    path.write_text("curriculum = false\n[train.loss]\ntype = 'margin'\nmargin = 0.2\n[classification]\n")
    config = load_config(path=path)

    assert config.curriculum is None
    assert MarginRank(margin=0.2) == config.train.loss
    assert ClassificationConfig() == config.classification


def test_the_jd_preset_has_the_papers_settings() -> None:
    """EMNLP'23: batch 350, Adam at 5e-5, lengths 30 and 100, dimension 128, alpha 0.5, delta_0 0.01, w 0.05."""
    config = load_config(preset="jd")

    assert AdaptiveMargin(alpha=0.5, delta_0=0.01, symmetric_weight=0.05) == config.train.loss
    assert (350, 5e-5, 5e-5, 128) == (
        config.train.batch,
        config.train.learning_rate,
        config.train.encoder_learning_rate,
        config.model.dim,
    )
    assert (30, 100) == (config.features.query_tokens, config.features.title_tokens)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        load_config(path=tmp_path / "nowhere.toml")


def test_a_baseline_differs_in_its_channels_only() -> None:
    """The trigram-only variant keeps the run's own everything else."""
    config = load_config(preset="tiny")
    baseline = config.replace_channels(**TRIGRAM_ONLY)

    assert ("trigram",) == baseline.model.query_channels
    assert config.train == baseline.train
