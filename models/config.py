"""The configuration of a run: a preset overlaid with a TOML file, checked before any work starts."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
import tomli_w

from models.errors import ConfigError
from models.presets import PRESETS
from models.pretrained import encoder_sizes
from models.sections import (
    DOCUMENT_CHANNELS,
    FURTHER_DOCUMENT_CHANNELS,
    QUERY_CHANNELS,
    BlendingConfig,
    ClassificationConfig,
    CurriculumConfig,
    DistillationConfig,
    FeatureConfig,
    LossConfig,
    MiningConfig,
    ModelConfig,
    PretrainConfig,
    Section,
    TeacherConfig,
    TrainConfig,
)

TRIGRAM_ONLY = {
    "query_channels": ("trigram",),
    "document_channels": ("title_trigram", "description_trigram"),
}  # the paper's baseline


POSITIVE = (  # whatever of these a configuration has must be above 0
    *(f"train.{name}" for name in ("learning_rate", "encoder_learning_rate", "clip", "chunk", "checkpoint_steps")),
    *("train.evaluations_per_epoch", "curriculum.learning_rate_share"),
    *(
        f"{stage}.{name}"
        for stage in ("train", "curriculum")
        for name in (
            "epochs",
            "patience",
            "loss.scale",
            "loss.tau_0",
            "loss.negatives",
            "loss.hardest",
            "loss.smoothing",
        )
    ),
    *("mining.easy_per_hard", "classification.weight", "classification.least_pairs", "distillation.scale"),
    *("teacher.weight", "teacher.scale", "teacher.tokens"),
    *("blending.probe_steps", "blending.super_epochs"),
    *(f"pretrain.{name}" for name in ("epochs", "batch", "learning_rate", "warmup_steps", "checkpoint_steps")),
)


class RunConfig(Section, frozen=True, kw_only=True):
    """Everything that decides a run, together with the data and the code."""

    preset: str
    seed: int = 0
    features: FeatureConfig
    model: ModelConfig
    train: TrainConfig
    pretrain: PretrainConfig = PretrainConfig()
    curriculum: CurriculumConfig | None = None
    mining: MiningConfig | None = None
    teacher: TeacherConfig | None = None
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
        known = DOCUMENT_CHANNELS + FURTHER_DOCUMENT_CHANNELS
        _check_channels("model.document_channels", self.model.document_channels, known)
        if self.train.batch < 2:
            raise ConfigError(f"train.batch={self.train.batch} leaves no in-batch negatives; use 2 or more")
        if not 0 <= self.model.dropout < 1:
            raise ConfigError(f"model.dropout={self.model.dropout} must be in [0, 1)")
        if self.mining and not 1 <= self.mining.first_rank < self.mining.last_rank:
            ranks = f"mining.first_rank={self.mining.first_rank} and last_rank={self.mining.last_rank}"
            raise ConfigError(f"{ranks} must rise from 1; Facebook EBR took 101 and 500")
        if self.mining and self.mining.stage == 2 and self.curriculum is None:
            raise ConfigError("mining.stage=2 needs a [curriculum]; add one, or mine in stage 1")
        if self.classification and self.classification.labels < 2:
            raise ConfigError(
                f"classification.labels={self.classification.labels} leaves nothing to tell apart; use 2+"
            )
        if not 0 < self.pretrain.masked_share < 1:
            raise ConfigError(f"pretrain.masked_share={self.pretrain.masked_share} must be in (0, 1); BERT took 0.15")
        _check_losses(self)
        for name in POSITIVE:
            value = _named(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name}={value} must be above 0")

    def replace_channels(self, *, query_channels: tuple[str, ...], document_channels: tuple[str, ...]) -> "RunConfig":
        """The same run with other channels: how a baseline is made."""
        model = msgspec.structs.replace(self.model, query_channels=query_channels, document_channels=document_channels)
        return msgspec.structs.replace(self, model=model)

    def save(self, path: Path) -> None:
        path.write_text(tomli_w.dumps(_without_none(msgspec.to_builtins(self))))


OPTIONAL_TABLES = tuple(field.name for field in msgspec.structs.fields(RunConfig) if field.default is None)


def load_config(
    *,
    preset: str = "tiny",
    path: Path | None = None,
    seed: int | None = None,
    encoder: Path | None = None,
    teacher: Path | None = None,
) -> RunConfig:
    """The preset, overlaid with the file's keys, checked. A table set to `false` is switched off.

    An `encoder` directory is where both text encoders start from, with its sizes. A `teacher` directory is [teacher]'s;
    by default that is the document encoder's.

    Raises:
        ConfigError: an unknown preset or key, a wrong type or an impossible value; the message names the key.
    """
    values = _read(path) if path is not None else {}
    preset = values.get("preset", preset)
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}")
    if encoder is not None:
        both = {"query_encoder": {"pretrained": str(encoder)}, "document_encoder": {"pretrained": str(encoder)}}
        values = _overlay({"model": both}, values)
    if teacher is not None:
        values = _overlay(values, {"teacher": {"encoder": str(teacher)}})
    merged = _overlay(PRESETS[preset] | {"preset": preset}, values)
    merged["model"] = _sized(merged["model"], values.get("model", {}))
    own = merged["model"].get("document_encoder", {}).get("pretrained")
    if own and isinstance(merged.get("teacher"), dict):
        merged["teacher"] = {"encoder": own} | merged["teacher"]
    if seed is not None:
        merged["seed"] = seed
    return _convert(merged, source=str(path or preset))


def changed(config: RunConfig, changes: Mapping[str, Any], *, source: str) -> RunConfig:
    """The configuration with other keys on top, as a file would lay them; `source` names them in errors.

    Raises:
        ConfigError: as `load_config`.
    """
    return _convert(_overlay(msgspec.to_builtins(config), changes), source=source)


def saved_config(path: Path) -> RunConfig:
    """What `RunConfig.save` wrote, to the last key; no preset is laid under it. Raises ConfigError."""
    return _convert(_read(path), source=str(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as exc:
        raise ConfigError(f"cannot read the configuration {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} is not TOML: {exc}") from exc


def _convert(values: dict[str, Any], *, source: str) -> RunConfig:
    off = {name: None for name in OPTIONAL_TABLES if values.get(name) is False}
    try:
        config = msgspec.convert(values | off, RunConfig)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{source}: {exc}{_remedy(values)}") from exc
    config.check()
    return config


def _check_losses(config: RunConfig) -> None:
    """What a loss cannot be computed with."""
    for stage in ("train", "curriculum"):
        low, high = (_named(config, f"{stage}.loss.{name}") for name in ("mix_low", "mix_high"))
        if low is not None and high is not None and not 0 <= low <= high < 1:
            raise ConfigError(f"{stage}.loss.mix_low={low} and mix_high={high} must rise within [0, 1)")
        for name in ("margin", "alpha", "delta_0", "strength", "symmetric_weight"):
            value, learnt = (_named(config, f"{stage}.loss.{key}") for key in (name, "trainable"))
            if value is not None and (value < 0 or (value == 0 and learnt and name in ("alpha", "delta_0"))):
                least = "above 0, since it is learnt" if learnt else "0 or more"
                raise ConfigError(f"{stage}.loss.{name}={value} must be {least}")


def _named(config: RunConfig, name: str) -> Any:
    """The value at a dotted name; None where the configuration has no such table or key."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def _check_channels(name: str, channels: tuple[str, ...], known: tuple[str, ...]) -> None:
    if unknown := set(channels) - set(known):
        raise ConfigError(f"{name} names unknown channels {sorted(unknown)}; known are {list(known)}")
    if not channels or len(set(channels)) != len(channels):
        raise ConfigError(f"{name}={list(channels)} must name each channel once, and at least one")


def _overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over`'s keys on top of `base`'s, table by table; a table of another `type` replaces the one below it."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if (
            isinstance(below, Mapping)
            and isinstance(value, Mapping)
            and value.get("type", below.get("type")) == below.get("type")
        ):
            merged[key] = _overlay(below, value)
        else:
            merged[key] = value
    return merged


def _sized(model: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The encoders that start from a directory with its sizes; the file may ask for fewer layers or another pooling."""
    sized = dict(model)
    for name in ("query_encoder", "document_encoder"):
        table = model.get(name)
        if not isinstance(table, dict):
            continue
        directory = table.get("pretrained")
        if table.get("frozen") and not directory:
            raise ConfigError(f"model.{name}.frozen=true needs a pretrained encoder: name its directory by --encoder")
        if directory:
            sizes, asked = encoder_sizes(Path(directory)), given.get(name, {})
            for key, value in asked.items():
                if key in ("dim", "heads", "ffn", "norm_eps") and value != sizes[key]:
                    raise ConfigError(f"model.{name}.{key}={value}, but {directory} has {sizes[key]}; leave it out")
            if asked.get("layers", 1) > sizes["layers"]:
                raise ConfigError(f"model.{name}.layers={asked['layers']}, but {directory} has {sizes['layers']}")
            kept = {"frozen": table.get("frozen", False)}
            sized[name] = {"pretrained": directory, **sizes, **kept, **asked}
    return sized


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: what is None is left out."""
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }


def _remedy(values: dict[str, Any]) -> str:
    """What the loss tables may say, where one of them may be what is wrong."""
    known = {loss.__struct_config__.tag: loss.__struct_fields__ for loss in get_args(LossConfig)}
    said = []
    for stage in ("train", "curriculum"):
        settings = values.get(stage)
        table = settings.get("loss") if isinstance(settings, dict) else None
        if isinstance(table, dict):
            name = table.get("type")
            fields = (
                f"{name!r} takes {', '.join(known[name])}" if name in known else f"type is one of {', '.join(known)}"
            )
            said.append(f"; {stage}.loss: {fields}")
    return "".join(said)
