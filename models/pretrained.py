"""Pretrained text encoders: a local directory in Hugging Face layout into our `TextEncoder`, and back.

BERT, XLM-R (and RoBERTa) and XLM differ in names, and in small things that fold into one post-norm encoder: BERT adds
the embedding of token type 0 to every position, XLM-R counts positions from behind its padding id. Nothing is fetched.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.channels import TextChannel
from models.encoder import TextEncoder
from models.errors import ConfigError, ReleaseError
from models.sections import EncoderConfig, ModelConfig
from models.tokenizers import PAD, HuggingFaceTokenizer, Tokenizer, load_tokenizer
from models.towers import TwoTowers

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
POOLING_FILE = "1_Pooling/config.json"  # of sentence-transformers: how the encoder was trained to be read


class Family(NamedTuple):
    """How a family names its sizes and its weights; `{}` is the layer."""

    layers: str
    dim: str
    heads: str
    ffn: str | None  # None: four times the width
    prefixes: tuple[str, ...]  # of every weight's name, depending on what was saved
    first_position: Callable[[Mapping[str, Any]], int]
    type_embedding: str | None
    embeddings: Mapping[str, str]  # ours: theirs
    layer: Mapping[str, str]
    query_key_value: tuple[str, str, str]


_BERT = Family(
    layers="num_hidden_layers",
    dim="hidden_size",
    heads="num_attention_heads",
    ffn="intermediate_size",
    prefixes=("", "bert.", "roberta."),
    first_position=lambda _config: 0,
    type_embedding="embeddings.token_type_embeddings.weight",
    embeddings={
        "token_embedding": "embeddings.word_embeddings",
        "position_embedding": "embeddings.position_embeddings",
        "norm": "embeddings.LayerNorm",
    },
    layer={
        "attention.project_out": "encoder.layer.{}.attention.output.dense",
        "attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
        "feed_forward.0": "encoder.layer.{}.intermediate.dense",
        "feed_forward.2": "encoder.layer.{}.output.dense",
        "feed_forward_norm": "encoder.layer.{}.output.LayerNorm",
    },
    query_key_value=(
        "encoder.layer.{}.attention.self.query",
        "encoder.layer.{}.attention.self.key",
        "encoder.layer.{}.attention.self.value",
    ),
)
_XLM_R = _BERT._replace(first_position=lambda config: int(config.get("pad_token_id", 1)) + 1)
_XLM = Family(
    layers="n_layers",
    dim="emb_dim",
    heads="n_heads",
    ffn=None,
    prefixes=("", "transformer."),
    first_position=lambda _config: 0,
    type_embedding=None,
    embeddings={
        "token_embedding": "embeddings",
        "position_embedding": "position_embeddings",
        "norm": "layer_norm_emb",
    },
    layer={
        "attention.project_out": "attentions.{}.out_lin",
        "attention_norm": "layer_norm1.{}",
        "feed_forward.0": "ffns.{}.lin1",
        "feed_forward.2": "ffns.{}.lin2",
        "feed_forward_norm": "layer_norm2.{}",
    },
    query_key_value=("attentions.{}.q_lin", "attentions.{}.k_lin", "attentions.{}.v_lin"),
)
FAMILIES = {"bert": _BERT, "xlm-roberta": _XLM_R, "roberta": _XLM_R, "xlm": _XLM}
# What our encoder does; a checkpoint that says otherwise is refused. A key that is not there says nothing.
EXPECTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("gelu",),
    "gelu_activation": (True,),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "causal": (False,),
    "use_lang_emb": (False,),
}


def encoder_sizes(directory: Path) -> dict[str, Any]:
    """The values of an `EncoderConfig` that a directory decides.

    Raises:
        ConfigError: a file is missing, or it is an encoder that ours cannot be; names the file or the key.
    """
    config = _read_json(directory / CONFIG_FILE)
    family = _family(directory, config)
    if not (directory / WEIGHTS_FILE).exists():
        raise ConfigError(f"{directory} has no {WEIGHTS_FILE}; save the encoder as safetensors")
    for key, allowed in EXPECTED.items():
        single_language = key == "use_lang_emb" and config.get("n_langs", 1) == 1
        if config.get(key, allowed[0]) not in allowed and not single_language:
            raise ConfigError(f"{directory / CONFIG_FILE} has {key}={config[key]!r}; this encoder needs {allowed[0]!r}")
    pooling = directory / POOLING_FILE
    means = pooling.exists() and _read_json(pooling).get("pooling_mode_mean_tokens", False)
    try:
        dim = int(config[family.dim])
        return {
            "layers": int(config[family.layers]),
            "dim": dim,
            "heads": int(config[family.heads]),
            "ffn": int(config[family.ffn]) if family.ffn else 4 * dim,
            "norm_eps": float(config.get("layer_norm_eps", 1e-12)),
            "pooling": "mean" if means else "cls",
        }
    except KeyError as exc:
        raise ConfigError(f"{directory / CONFIG_FILE} lacks {exc}") from exc


def tokenizer_of(config: ModelConfig) -> Tokenizer | None:
    """The pretrained encoders' tokenizer; None where both are trained from nothing.

    Raises:
        ConfigError: it is missing, or the two encoders have different ones: a run has one featuriser.
    """
    named = [encoder.pretrained for encoder in (config.query_encoder, config.document_encoder) if encoder.pretrained]
    found = [tokenizer_in(Path(directory)) for directory in dict.fromkeys(named)]
    if len({tokenizer.saved for tokenizer in found}) > 1:
        raise ConfigError(
            f"query_encoder.pretrained={named[0]!r} and document_encoder.pretrained={named[1]!r} have different "
            "tokenizers; both towers read one vocabulary"
        )
    return found[0] if found else None


def tokenizer_in(directory: Path) -> Tokenizer:
    """The encoder directory's own tokenizer. Raises ConfigError where it is missing."""
    try:
        return load_tokenizer(directory)
    except ReleaseError as exc:
        raise ConfigError(f"{exc}; an encoder brings its own vocabulary") from exc


def load_pretrained_encoders(towers: TwoTowers, config: ModelConfig) -> None:
    """Start the text channels whose encoder is configured so from its directory's weights.

    Their projections start as one matrix that keeps angles (the identity where sizes agree), so that what the encoders
    know of similarity is there at step 0 [inferred].

    Raises:
        ConfigError: weights are missing or of other sizes.
    """
    for tower, encoder in ((towers.query, config.query_encoder), (towers.document, config.document_encoder)):
        if encoder.pretrained:
            for channel in tower.channels.values():
                if isinstance(channel, TextChannel):
                    load_encoder(channel.encoder, Path(encoder.pretrained))
                    _keep_angles(channel.projection)


def load_encoder(encoder: TextEncoder, directory: Path) -> None:
    """Fill an encoder from the directory's first layers, as many as it has.

    Raises:
        ConfigError: weights are missing, of other sizes, or the file is damaged.
    """
    config = _read_json(directory / CONFIG_FILE)
    family = _family(directory, config)
    weights = _Weights(directory / WEIGHTS_FILE, family.prefixes)
    found = _embeddings(weights, family, config, encoder, pad=_pad_id(directory))
    for at in range(len(encoder.layers)):
        found |= _layer(weights, family, at)
    own = dict(encoder.named_parameters())
    for name, tensor in found.items():
        if own[name].shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)}, this run needs {tuple(own[name].shape)}"
            raise ConfigError(f"{directory / WEIGHTS_FILE}: {name} is {shapes}")
        with torch.no_grad():
            own[name].copy_(tensor)


def save_pretrained(out: Path, encoder: TextEncoder, config: EncoderConfig, tokenizer: Tokenizer) -> None:
    """Write an encoder as a BERT directory that `load_encoder` reads back; the configuration is written last."""
    out.mkdir(parents=True, exist_ok=True)
    own = {name: tensor.detach().cpu() for name, tensor in encoder.named_parameters()}
    theirs = {"embeddings.token_type_embeddings.weight": torch.zeros(1, config.dim)}
    for ours, name in _names(_BERT, len(encoder.layers)).items():
        for part in ("weight", "bias"):
            if f"{ours}.{part}" in own:
                theirs[f"{name}.{part}"] = own[f"{ours}.{part}"].contiguous()
    for at in range(len(encoder.layers)):
        for part in ("weight", "bias"):
            joined = own[f"layers.{at}.attention.project_in.{part}"].chunk(3)
            for name, tensor in zip(_BERT.query_key_value, joined, strict=True):
                theirs[f"{name.format(at)}.{part}"] = tensor.contiguous()
    beside = out / f"{WEIGHTS_FILE}.tmp"
    save_file(theirs, beside, metadata={"format": "pt"})
    beside.replace(out / WEIGHTS_FILE)
    (out / tokenizer.file_name).write_bytes(tokenizer.saved)
    pooling = out / POOLING_FILE
    pooling.parent.mkdir(exist_ok=True)
    pooling.write_text(json.dumps({"pooling_mode_mean_tokens": config.pooling == "mean"}) + "\n")
    values = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_act": "gelu",
        "num_hidden_layers": len(encoder.layers),
        "hidden_size": config.dim,
        "num_attention_heads": config.heads,
        "intermediate_size": config.ffn,
        "layer_norm_eps": config.norm_eps,
        "vocab_size": len(own["token_embedding.weight"]),
        "max_position_embeddings": len(own["position_embedding.weight"]),
        "type_vocab_size": 1,
        "pad_token_id": PAD,
    }
    beside = out / f"{CONFIG_FILE}.tmp"
    beside.write_text(json.dumps(values, indent=2) + "\n")
    beside.replace(out / CONFIG_FILE)


class _Weights:
    """A checkpoint's tensors by the family's names, whatever prefix they were saved with."""

    def __init__(self, path: Path, prefixes: tuple[str, ...]) -> None:
        self._path = path
        self._prefixes = prefixes
        try:
            self._file = safe_open(path, framework="pt")
        except (OSError, SafetensorError) as exc:
            raise ConfigError(f"cannot read {path}: {exc}") from exc
        self._names = set(self._file.keys())  # type: ignore[no-untyped-call]

    def __getitem__(self, name: str) -> Tensor:
        for prefix in self._prefixes:
            if prefix + name in self._names:
                tensor: Tensor = self._file.get_tensor(prefix + name)  # type: ignore[no-untyped-call]
                return tensor.float()
        raise ConfigError(f"{self._path} lacks {name}; is it of the family that {CONFIG_FILE} names?")


def _embeddings(
    weights: _Weights, family: Family, config: Mapping[str, Any], encoder: TextEncoder, *, pad: int
) -> dict[str, Tensor]:
    """Token and position tables cut to what the run reads, padding at row 0, token type 0 folded into the positions."""
    vocabulary, positions = len(encoder.token_embedding.weight), len(encoder.position_embedding.weight)
    first = family.first_position(config)
    tokens = weights[f"{family.embeddings['token_embedding']}.weight"][:vocabulary].clone()
    tokens[[PAD, pad]] = tokens[[pad, PAD]]
    tokens[PAD] = 0.0
    place = weights[f"{family.embeddings['position_embedding']}.weight"][first : first + positions]
    if family.type_embedding:
        place = place + weights[family.type_embedding][0]
    norm = family.embeddings["norm"]
    return {
        "token_embedding.weight": tokens,
        "position_embedding.weight": place,
        "norm.weight": weights[f"{norm}.weight"],
        "norm.bias": weights[f"{norm}.bias"],
    }


def _layer(weights: _Weights, family: Family, at: int) -> dict[str, Tensor]:
    """One layer's tensors under our names; query, key and value as one."""
    found = {}
    for part in ("weight", "bias"):
        joined = [weights[f"{name.format(at)}.{part}"] for name in family.query_key_value]
        found[f"layers.{at}.attention.project_in.{part}"] = torch.cat(joined)
        for ours, theirs in family.layer.items():
            found[f"layers.{at}.{ours}.{part}"] = weights[f"{theirs.format(at)}.{part}"]
    return found


def _names(family: Family, layers: int) -> dict[str, str]:
    """Ours to theirs, of all modules but query, key and value."""
    names = dict(family.embeddings)
    for at in range(layers):
        names |= {f"layers.{at}.{ours}": theirs.format(at) for ours, theirs in family.layer.items()}
    return names


def _keep_angles(projection: nn.Linear) -> None:
    """The identity, or equal rows of a random rotation for every projection of the same sizes."""
    seeded = torch.Generator().manual_seed(0)
    with torch.no_grad():
        if projection.in_features == projection.out_features:
            nn.init.eye_(projection.weight)
        else:
            nn.init.orthogonal_(projection.weight, generator=seeded)
        nn.init.zeros_(projection.bias)


def _family(directory: Path, config: Mapping[str, Any]) -> Family:
    name = config.get("model_type")
    if name not in FAMILIES:
        raise ConfigError(
            f"{directory / CONFIG_FILE} has model_type={name!r}; encoders of {', '.join(FAMILIES)} can be loaded"
        )
    return FAMILIES[name]


def _pad_id(directory: Path) -> int:
    tokenizer = tokenizer_in(directory)
    return tokenizer.pad_id if isinstance(tokenizer, HuggingFaceTokenizer) else PAD


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}; an encoder directory has it") from exc
    except ValueError as exc:
        raise ConfigError(f"{path} is not JSON: {exc}") from exc
    return values
