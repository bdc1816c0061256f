"""The configuration of a run: typed, frozen, and refusing what it does not know.

A run is `preset` values overlaid with a TOML file. Sizes follow Que2Search (KDD'21) section 3.1 where the paper
gives them: two layers, four heads, width 128 and an FFN of three times the width for the query encoder, Adam at
7e-4 with 2e-4 for the text encoders, dropout 0.1, gradient clip 1.0, patience 3.
"""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from models.errors import ConfigError
from models.sections import (
    DOCUMENT_CHANNELS,
    FURTHER_DOCUMENT_CHANNELS,
    QUERY_CHANNELS,
    BlendingConfig,
    ClassificationConfig,
    CurriculumConfig,
    DistillationConfig,
    FeatureConfig,
    MiningConfig,
    ModelConfig,
    Section,
    TrainConfig,
)

TRIGRAM_ONLY = {
    "query_channels": ("trigram",),
    "document_channels": ("title_trigram", "description_trigram"),
}  # the paper's baseline


class RunConfig(Section, frozen=True, kw_only=True):
    """Everything that decides a run, together with the data and the code."""

    preset: str
    seed: int = 0
    features: FeatureConfig
    model: ModelConfig
    train: TrainConfig
    curriculum: CurriculumConfig | None = None
    mining: MiningConfig | None = None
    classification: ClassificationConfig | None = None
    blending: BlendingConfig | None = None
    distillation: DistillationConfig | None = None

    def check(self) -> None:
        """Refuse impossible values before any work starts."""
        self.model.query_encoder.check("model.query_encoder")
        self.model.document_encoder.check("model.document_encoder")
        if self.model.dim % 8:
            dim = self.model.dim
            raise ConfigError(f"model.dim={dim} must be divisible by 8 for the PQ index; try {dim + -dim % 8}")
        _check_channels("model.query_channels", self.model.query_channels, QUERY_CHANNELS)
        _check_channels("model.document_channels", self.model.document_channels, DOCUMENT_CHANNELS + FURTHER_DOCUMENT_CHANNELS)
        if self.train.batch < 2:
            raise ConfigError(f"train.batch={self.train.batch} leaves no in-batch negatives; use 2 or more")
        if not 0 <= self.model.dropout < 1:
            raise ConfigError(f"model.dropout={self.model.dropout} must be in [0, 1)")
        for name in ("epochs", "learning_rate", "encoder_learning_rate", "clip", "patience"):
            if getattr(self.train, name) <= 0:
                raise ConfigError(f"train.{name}={getattr(self.train, name)} must be above 0")

    def replace_channels(self, *, query_channels: tuple[str, ...], document_channels: tuple[str, ...]) -> "RunConfig":
        """The same run with other channels: how a baseline is made."""
        model = msgspec.structs.replace(self.model, query_channels=query_channels, document_channels=document_channels)
        return msgspec.structs.replace(self, model=model)

    def save(self, path: Path) -> None:
        path.write_text(tomli_w.dumps(msgspec.to_builtins(self)))


_QUERY_ENCODER: dict[str, Any] = {"layers": 2, "dim": 128, "heads": 4, "ffn": 384}

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {  # minutes on two cores
        "features": {
            "vocabulary": 8_000,
            "trigram_rows": 50_000,
            "title_tokens": 24,
            "description_tokens": 48,
        },
        "model": {"query_encoder": _QUERY_ENCODER, "document_encoder": _QUERY_ENCODER},
        "train": {"batch": 256, "epochs": 3},
    },
    "base": {  # hours on a few cores
        "features": {
            "vocabulary": 32_000,
            "trigram_rows": 200_000,
            "title_tokens": 32,
            "description_tokens": 96,
        },
        "model": {
            "query_encoder": _QUERY_ENCODER,
            "document_encoder": {"layers": 4, "dim": 256, "heads": 4, "ffn": 768},
        },
        "train": {"batch": 512, "epochs": 20},
    },
    "paper": {  # the published widths: XLM-R base for documents, 150 k pieces, batch 768
        "features": {
            "vocabulary": 150_000,
            "trigram_rows": 500_000,
            "title_tokens": 64,
            "description_tokens": 128,
        },
        "model": {
            "query_encoder": _QUERY_ENCODER,
            "document_encoder": {"layers": 6, "dim": 768, "heads": 12, "ffn": 3072},
        },
        "train": {"batch": 768, "epochs": 100},
    },
}


def load_config(*, preset: str = "tiny", path: Path | None = None, seed: int | None = None) -> RunConfig:
    """The preset, overlaid with the file's keys, checked.

    Raises:
        ConfigError: an unknown preset or key, a wrong type or an impossible value; the message names the key.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text())
        except OSError as exc:
            raise ConfigError(f"cannot read the configuration {path}: {exc.strerror}") from exc
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{path} is not TOML: {exc}") from exc
        preset = values.get("preset", preset)
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}")
    merged = _overlay(PRESETS[preset] | {"preset": preset}, values)
    if seed is not None:
        merged["seed"] = seed
    try:
        config = msgspec.convert(merged, RunConfig)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{path or preset}: {exc}") from exc
    config.check()
    return config


def _check_channels(name: str, channels: tuple[str, ...], known: tuple[str, ...]) -> None:
    if unknown := set(channels) - set(known):
        raise ConfigError(f"{name} names unknown channels {sorted(unknown)}; known are {list(known)}")
    if not channels or len(set(channels)) != len(channels):
        raise ConfigError(f"{name}={list(channels)} must name each channel once, and at least one")


def _overlay(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over`'s keys on top of `base`'s, table by table; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _overlay(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
