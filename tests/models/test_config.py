"""A configuration is refused before any work when a key or a value is wrong."""

from pathlib import Path

import pytest

from models.config import PRESETS, TRIGRAM_ONLY, load_config
from models.errors import ConfigError


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_load_and_save_as_they_are(preset: str, tmp_path: Path) -> None:
    """config.toml of a run gives the run's configuration again, to the last key."""
    config = load_config(preset=preset, seed=7)
    config.save(tmp_path / "config.toml")

    assert config == load_config(path=tmp_path / "config.toml")


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
        ("preset = 'huge'", "huge"),
        ("[train", "not TOML"),
    ],
)
def test_a_wrong_key_or_value_is_named(toml: str, names: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(toml)

    with pytest.raises(ConfigError, match=names.replace("[", r"\[")):
        load_config(path=path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        load_config(path=tmp_path / "nowhere.toml")


def test_a_baseline_differs_in_its_channels_only() -> None:
    """The trigram-only variant keeps the run's own everything else."""
    config = load_config(preset="tiny")
    baseline = config.replace_channels(**TRIGRAM_ONLY)

    assert ("trigram",) == baseline.model.query_channels
    assert config.train == baseline.train
