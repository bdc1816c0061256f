"""Pretrained encoders: three families in Hugging Face layout give what an independent forward of theirs gives."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.config import load_config
from models.encoder import TextEncoder
from models.errors import ConfigError
from models.features import train_tokenizer
from models.pretrained import (
    encoder_sizes,
    load_encoder,
    load_pretrained_encoders,
    save_pretrained,
    tokenizer_of,
)
from models.sections import EncoderConfig
from models.tokenizers import load_tokenizer
from models.towers import build_towers
from tests.helpers import TEXTS, small_featurizer

VOCABULARY, DIM, HEADS, FFN, LAYERS, POSITIONS = 12, 8, 2, 16, 3, 20
WORDS = {"bert": ("[PAD]", "[CLS]", "[SEP]", "[UNK]"), "xlm-roberta": ("<s>", "<pad>", "</s>", "<unk>")}
WORDS["xlm"] = ("<s>", "</s>", "<pad>", "<unk>")
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {"num_hidden_layers": LAYERS, "hidden_size": DIM, "num_attention_heads": HEADS, "intermediate_size": FFN},
    "xlm": {"n_layers": LAYERS, "emb_dim": DIM, "n_heads": HEADS, "gelu_activation": True, "layer_norm_eps": 1e-12},
}
CONFIGS["xlm-roberta"] = CONFIGS["bert"] | {"pad_token_id": 1, "hidden_act": "gelu", "layer_norm_eps": 1e-5}


def linear(prefix: str, out: int, into: int) -> dict[str, Tensor]:
    return {f"{prefix}.weight": torch.randn(out, into) / 2, f"{prefix}.bias": torch.randn(out) / 2}


def norm(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}.weight": 1 + torch.randn(DIM) / 4, f"{prefix}.bias": torch.randn(DIM) / 4}


def bert_weights(prefix: str, types: int) -> dict[str, Tensor]:
    weights = {
        "embeddings.word_embeddings.weight": torch.randn(VOCABULARY, DIM),
        "embeddings.position_embeddings.weight": torch.randn(POSITIONS, DIM),
        "embeddings.token_type_embeddings.weight": torch.randn(types, DIM),
        **norm("embeddings.LayerNorm"),
    }
    for at in range(LAYERS):
        layer = f"encoder.layer.{at}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            weights |= linear(f"{layer}.{name}", DIM, DIM)
        weights |= linear(f"{layer}.intermediate.dense", FFN, DIM) | linear(f"{layer}.output.dense", DIM, FFN)
        weights |= norm(f"{layer}.attention.output.LayerNorm") | norm(f"{layer}.output.LayerNorm")
    return {prefix + name: tensor for name, tensor in weights.items()}


def xlm_weights(prefix: str) -> dict[str, Tensor]:
    weights = {
        "embeddings.weight": torch.randn(VOCABULARY, DIM),
        "position_embeddings.weight": torch.randn(POSITIONS, DIM),
        **norm("layer_norm_emb"),
    }
    for at in range(LAYERS):
        for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
            weights |= linear(f"attentions.{at}.{name}", DIM, DIM)
        weights |= linear(f"ffns.{at}.lin1", 4 * DIM, DIM) | linear(f"ffns.{at}.lin2", DIM, 4 * DIM)
        weights |= norm(f"layer_norm1.{at}") | norm(f"layer_norm2.{at}")
    return {prefix + name: tensor for name, tensor in weights.items()}


def write_tokenizer(folder: Path, family: str) -> None:
    """Words w0 to w7 behind four marks, in the family's order of them."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    marks = WORDS[family]
    vocabulary = {word: at for at, word in enumerate([*marks, *(f"w{n}" for n in range(8))])}
    unknown, (first, last) = (
        marks[3],
        {"bert": ("[CLS]", "[SEP]"), "xlm": ("</s>", "</s>")}.get(family, ("<s>", "</s>")),
    )
    made = Tokenizer(WordLevel(vocabulary, unk_token=unknown))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(word, vocabulary[word]) for word in {first, last}]
    )
    made.save(str(folder / "tokenizer.json"))


@pytest.fixture(params=["bert", "bert.", "xlm-roberta", "xlm"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A random encoder, in one family's layout; BERT's with and without the prefix that some checkpoints have."""
    torch.manual_seed(1)
    family = request.param.rstrip(".")
    prefix = {"bert": "", "bert.": "bert.", "xlm-roberta": "roberta.", "xlm": "transformer."}[request.param]
    weights = xlm_weights(prefix) if family == "xlm" else bert_weights(prefix, types=2 if family == "bert" else 1)
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family} | CONFIGS[family]))
    write_tokenizer(tmp_path, family)
    return tmp_path


def reference(folder: Path, ids: list[int], *, layers: int) -> Tensor:
    """(t, d): the family's own forward over its own ids, written out plainly from its paper's description."""
    config = json.loads((folder / "config.json").read_text())
    prefixes = ("bert.", "roberta.", "transformer.")
    weights = {
        next((name.removeprefix(p) for p in prefixes if name.startswith(p)), name): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    family, eps = config["model_type"], config.get("layer_norm_eps", 1e-12)

    def apply(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def normed(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (DIM,), weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    tokens, positions = torch.tensor(ids), torch.arange(len(ids))
    if family == "xlm":
        names = ["attentions.{}.q_lin", "attentions.{}.k_lin", "attentions.{}.v_lin", "attentions.{}.out_lin"]
        names += ["layer_norm1.{}", "ffns.{}.lin1", "ffns.{}.lin2", "layer_norm2.{}"]
        x = normed(
            "layer_norm_emb", weights["embeddings.weight"][tokens] + weights["position_embeddings.weight"][positions]
        )
    else:
        inner = "encoder.layer.{}."
        names = [inner + f"attention.self.{part}" for part in ("query", "key", "value")]
        names += [inner + "attention.output.dense", inner + "attention.output.LayerNorm"]
        names += [inner + "intermediate.dense", inner + "output.dense", inner + "output.LayerNorm"]
        positions = positions + (2 if family == "xlm-roberta" else 0)
        embedded = weights["embeddings.word_embeddings.weight"][tokens]
        embedded = embedded + weights["embeddings.position_embeddings.weight"][positions]
        x = normed("embeddings.LayerNorm", embedded + weights["embeddings.token_type_embeddings.weight"][0])
    for at in range(layers):
        q, k, v, out, first_norm, widen, narrow, second_norm = (name.format(at) for name in names)
        heads = []
        for head in range(HEADS):
            part = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
            query, key, value = (apply(name, x)[:, part] for name in (q, k, v))
            heads.append((query @ key.T / (DIM // HEADS) ** 0.5).softmax(dim=-1) @ value)
        x = normed(first_norm, x + apply(out, torch.cat(heads, dim=-1)))
        x = normed(second_norm, x + apply(narrow, F.gelu(apply(widen, x))))
    return x


@pytest.mark.parametrize("layers", [LAYERS, 1])
def test_the_encoder_computes_what_the_family_does(directory: Path, layers: int) -> None:
    """The last, or the first, layer's vectors of every token, also beside a longer text and its padding."""
    config = EncoderConfig(**(encoder_sizes(directory) | {"layers": layers}))
    tokenizer = load_tokenizer(directory)
    encoder = TextEncoder(config, vocabulary=tokenizer.size, max_tokens=10, dropout=0.1).eval()
    load_encoder(encoder, directory)

    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(directory / "tokenizer.json"))
    texts = ["w1 w5", "w3 w0 w2 w7 nothing"]
    rows = [tokenizer.encode(text, 10)[0] for text in texts]
    padded = torch.tensor([row + [0] * (7 - len(row)) for row in rows])
    with torch.inference_mode():
        hidden = encoder.hidden(padded)
    for row, text in enumerate(texts):
        expected = reference(directory, theirs.encode(text).ids, layers=layers)
        torch.testing.assert_close(hidden[row, : len(expected)], expected, atol=1e-5, rtol=1e-4)


def test_a_mean_pooled_encoder_is_read_as_it_was_trained(directory: Path) -> None:
    """With sentence-transformers' pooling file the vector is the mean over real tokens; without, the [CLS]."""
    assert "cls" == encoder_sizes(directory)["pooling"]
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    config = EncoderConfig(**encoder_sizes(directory))
    encoder = TextEncoder(config, vocabulary=VOCABULARY, max_tokens=10, dropout=0.0).eval()
    ids = torch.tensor([[4, 5, 6, 0, 0]])

    assert "mean" == config.pooling
    torch.testing.assert_close(encoder(ids)[0], encoder.hidden(ids)[0, :3].mean(dim=0))


def test_what_is_saved_loads_as_it_was(tmp_path: Path) -> None:
    """Our own encoder, written in BERT's layout with its SentencePiece vocabulary, comes back to the last bit."""
    tokenizer = train_tokenizer(TEXTS, vocabulary=120)
    config = EncoderConfig(layers=2, dim=16, heads=2, ffn=24)
    encoder = TextEncoder(config, vocabulary=tokenizer.size, max_tokens=12, dropout=0.1)
    save_pretrained(tmp_path, encoder, config, tokenizer)
    again = TextEncoder(config, vocabulary=tokenizer.size, max_tokens=12, dropout=0.1)
    load_encoder(again, tmp_path)

    assert encoder_sizes(tmp_path) == {
        "layers": 2, "dim": 16, "heads": 2, "ffn": 24, "norm_eps": 1e-5, "pooling": "cls"
    }  # fmt: skip
    assert tokenizer.saved == load_tokenizer(tmp_path).saved
    for mine, theirs in zip(encoder.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=0, rtol=0)


def test_a_configuration_takes_the_directorys_sizes(directory: Path, tmp_path: Path) -> None:
    """`--encoder DIR` sets both encoders; a file may ask for the first layers only, not for another width."""
    both = load_config(encoder=directory).model
    file = tmp_path / "run.toml"
    file.write_text("[model.query_encoder]\nlayers = 1")
    fewer = load_config(path=file, encoder=directory).model

    assert both.query_encoder == both.document_encoder
    assert (LAYERS, DIM, HEADS) == (both.query_encoder.layers, both.query_encoder.dim, both.query_encoder.heads)
    assert (1, LAYERS) == (fewer.query_encoder.layers, fewer.document_encoder.layers)
    for wrong in ("layers = 9", "dim = 64"):
        file.write_text(f"[model.query_encoder]\n{wrong}")
        with pytest.raises(ConfigError, match=wrong.replace(" = ", "=")):
            load_config(path=file, encoder=directory)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named_before_training(file: str, directory: Path) -> None:
    (directory / file).unlink()
    with pytest.raises(ConfigError, match=file):
        tokenizer_of(load_config(encoder=directory).model)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"model_type": "gpt2"}, "model_type='gpt2'"),
        ({"hidden_act": "relu"}, "hidden_act='relu'"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"is_decoder": True}, "is_decoder=True"),
        ({"use_lang_emb": True, "n_langs": 15}, "use_lang_emb"),
    ],
)
def test_an_encoder_that_ours_cannot_be_is_refused(values: dict[str, Any], names: str, directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | values))
    with pytest.raises(ConfigError, match=names):
        encoder_sizes(directory)


def test_weights_that_lack_a_layer_are_named(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    lost = next(name for name in weights if ".2." in name and name.endswith("weight"))
    save_file({name: tensor for name, tensor in weights.items() if name != lost}, directory / "model.safetensors")
    encoder = TextEncoder(EncoderConfig(**encoder_sizes(directory)), vocabulary=VOCABULARY, max_tokens=9, dropout=0.0)
    with pytest.raises(ConfigError, match="lacks"):
        load_encoder(encoder, directory)


def test_both_towers_start_from_the_encoder_at_equal_angles(directory: Path) -> None:
    """At step 0 a text has one projected vector in both towers, and the encoder's own cosines are kept."""
    model = load_config(encoder=directory).model
    spec = small_featurizer().spec
    towers = build_towers(model, spec, vocabulary=VOCABULARY).eval()
    load_pretrained_encoders(towers, model)
    query, title = towers.query.channels["text"], towers.document.channels["title_text"]
    ids = torch.tensor([[4, 5, 6], [5, 9, 0], [7, 7, 8]])

    torch.testing.assert_close(query.projection(query.encoder(ids)), title.projection(title.encoder(ids)))
    own, projected = (F.normalize(x, dim=-1) for x in (query.encoder(ids), query.projection(query.encoder(ids))))
    torch.testing.assert_close(own @ own.T, projected @ projected.T, atol=1e-5, rtol=0)


def test_two_vocabularies_are_refused(directory: Path, tmp_path: Path) -> None:
    """Both towers read one featuriser's ids: encoders with different tokenizers cannot share a run."""
    other = tmp_path / "other"
    tokenizer = train_tokenizer(TEXTS, vocabulary=120)
    config = EncoderConfig(layers=1, dim=8, heads=2, ffn=16)
    save_pretrained(other, TextEncoder(config, vocabulary=tokenizer.size, max_tokens=9, dropout=0.0), config, tokenizer)
    file = tmp_path / "run.toml"
    file.write_text(
        f"[model.query_encoder]\npretrained = '{other}'\n[model.document_encoder]\npretrained = '{directory}'"
    )
    with pytest.raises(ConfigError, match="different tokenizers"):
        tokenizer_of(load_config(path=file).model)
