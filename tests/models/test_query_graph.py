"""The authored query graph computes what the trained tower does, in few operators."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.engines import OnnxTower
from models.errors import ReleaseError
from models.features import FeatureSpec, QueryFeatures
from models.query_graph import query_graph, save_query_graph
from models.sections import EncoderConfig, ModelConfig
from models.towers import QueryTower, Tower, WeighedTower, as_tensors, build_towers

VOCABULARY, TRIGRAM_ROWS, MOST_TOKENS = 60, 90, 9
SPEC = FeatureSpec(
    trigram_rows=TRIGRAM_ROWS,
    query_tokens=MOST_TOKENS,
    title_tokens=4,
    description_tokens=4,
    countries=("US", "GB"),
    image_dim=0,
)
SUBSETS = [
    ("text", "trigram", "country"),
    ("country", "text"),
    ("trigram", "country"),
    ("text", "trigram"),
    ("text",),
    ("trigram",),
    ("country",),
]


def tower(*, seed: int = 0, dim: int = 16, **model: Any) -> QueryTower:
    """An untrained tower whose norms and gate are not at their start; by default the paper's layers, at width 32."""
    encoder = {"layers": 2, "dim": 32, "heads": 4, "ffn": 96} | model.pop("encoder", {})
    torch.manual_seed(seed)
    small = EncoderConfig(layers=1, dim=8, heads=1, ffn=8)
    config = ModelConfig(query_encoder=EncoderConfig(**encoder), document_encoder=small, dim=dim, **model)
    query = build_towers(config, SPEC, vocabulary=VOCABULARY).query.eval()
    with torch.no_grad():
        for name, parameter in query.named_parameters():
            if parameter.dim() == 1 or name == "fusion.gate.weight":
                parameter.add_(0.5 * torch.randn_like(parameter))
    return query


def batch(*rows: tuple[int, int], seed: int = 0) -> QueryFeatures:
    """A query for each (tokens, 3-grams), padded to the longest."""
    draw = np.random.default_rng(seed)
    token_ids = np.zeros((len(rows), max(tokens for tokens, _ in rows)), dtype=np.int64)
    trigram_ids = np.zeros((len(rows), max(1, *(trigrams for _, trigrams in rows))), dtype=np.int64)
    for row, (tokens, trigrams) in enumerate(rows):
        token_ids[row, :tokens] = [2, *draw.integers(3, VOCABULARY, tokens - 1)]
        trigram_ids[row, :trigrams] = draw.integers(1, TRIGRAM_ROWS, trigrams)
    return QueryFeatures(token_ids, trigram_ids, draw.integers(0, 3, len(rows)))


def trained(query: Tower, features: QueryFeatures) -> tuple[np.ndarray, np.ndarray | None]:
    with torch.inference_mode():
        tensors = as_tensors(features, query)
        if query.attention is None:
            return query(*tensors).numpy(), None
        found = WeighedTower(query, query.attention)(*tensors)
        return found.vectors.numpy(), found.weights.numpy()


def assert_same(query: Tower, features: QueryFeatures, path: Path) -> None:
    save_query_graph(query, path)
    served = OnnxTower(path)
    vectors, weights = trained(query, features)

    np.testing.assert_allclose(served.embed(features), vectors, atol=1e-5)
    if weights is not None:
        np.testing.assert_allclose(served.channel_weights(features), weights, atol=1e-5)


def test_the_papers_tower_has_forty_operators() -> None:
    """The exporter writes over a hundred for the same tower."""
    nodes = [node.op_type for node in query_graph(tower()).graph.node]

    assert 40 == len(nodes)
    assert 2 == nodes.count("Attention") == nodes.count("BiasGelu")
    assert 4 == nodes.count("SkipLayerNormalization")


def test_no_shape_is_computed() -> None:
    """Sizes are known or free; nothing on the way asks for one."""
    nodes = {node.op_type for node in query_graph(tower()).graph.node}

    assert not nodes & {"Shape", "Range", "Expand", "ConstantOfShape", "If", "Loop"}


def test_every_kind_of_query_alone(tmp_path: Path) -> None:
    """A full one, a lone [CLS], a text without 3-grams, 3-grams without a text, one at the length limit."""
    query = tower()
    for row in [(4, 9), (1, 0), (3, 0), (1, 5), (MOST_TOKENS, 40)]:
        assert_same(query, batch(row), tmp_path / "tower.onnx")


def test_padding_changes_no_row(tmp_path: Path) -> None:
    """A query's vector is the same alone and beside longer ones."""
    for pooling in ("cls", "mean"):
        save_query_graph(tower(encoder={"pooling": pooling}), tmp_path / "tower.onnx")
        served = OnnxTower(tmp_path / "tower.onnx")
        together = batch((9, 40), (1, 0), (4, 7), (3, 0), (1, 3))
        alone = [
            QueryFeatures(tokens[None, : max(1, tokens.astype(bool).sum())], trigrams[None, :40], country[None])
            for tokens, trigrams, country in zip(*together[:3], strict=True)
        ]

        np.testing.assert_allclose(
            np.concatenate([served.embed(one) for one in alone]), served.embed(together), atol=1e-6
        )


@settings(max_examples=60)
@given(
    channels=st.sampled_from(SUBSETS),
    fusion=st.sampled_from(["attention", "concatenation", "sum"]),
    pooling=st.sampled_from(["cls", "mean"]),
    layers=st.integers(1, 3),
    sizes=st.sampled_from([(8, 1, 8), (32, 4, 96), (48, 3, 32)]),
    norm_eps=st.sampled_from([1e-12, 1e-5]),
    rows=st.lists(st.tuples(st.integers(1, MOST_TOKENS), st.integers(0, 12)), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
def test_the_graph_is_the_tower(
    tmp_path_factory: pytest.TempPathFactory,
    channels: tuple[str, ...],
    fusion: str,
    pooling: str,
    layers: int,
    sizes: tuple[int, int, int],
    norm_eps: float,
    rows: list[tuple[int, int]],
    seed: int,
) -> None:
    """Whatever its channels, fusion, pooling and sizes, and whatever is absent from a batch."""
    dim, heads, ffn = sizes
    encoder = {"layers": layers, "dim": dim, "heads": heads, "ffn": ffn, "pooling": pooling, "norm_eps": norm_eps}
    query = tower(seed=seed, fusion=fusion, query_channels=channels, encoder=encoder)

    assert_same(query, batch(*rows, seed=seed), tmp_path_factory.mktemp("towers") / "tower.onnx")


def test_nothing_present_gives_zeros(tmp_path: Path) -> None:
    """Without a country an empty query has no channel at all: zeros, not NaN, as in training."""
    query = tower(query_channels=("text", "trigram"))
    save_query_graph(query, tmp_path / "tower.onnx")
    empty = batch((1, 0))

    assert 0.0 == np.abs(OnnxTower(tmp_path / "tower.onnx").embed(empty)).max()
    assert_same(query, empty, tmp_path / "tower.onnx")


def test_weights_are_an_output_of_attention_alone() -> None:
    """They are what Eq. 1 mixes by, so they cost nothing; a sum has none."""
    outputs = {
        fusion: [value.name for value in query_graph(tower(fusion=fusion)).graph.output]
        for fusion in ("attention", "concatenation", "sum")
    }

    assert {"attention": ["vector", "channel_weights"], "concatenation": ["vector"], "sum": ["vector"]} == outputs


def test_the_graph_is_valid_onnx_with_the_features_names(tmp_path: Path) -> None:
    """int64, as the featuriser gives them; channels that are not there ask for nothing."""
    save_query_graph(tower(query_channels=("trigram", "country")), tmp_path / "tower.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "tower.onnx", providers=["CPUExecutionProvider"])

    onnx.checker.check_model(tmp_path / "tower.onnx")
    assert {"trigram_ids": "tensor(int64)", "country_ids": "tensor(int64)"} == {
        node.name: node.type for node in session.get_inputs()
    }


def test_a_channel_that_is_not_a_querys_is_refused_by_name() -> None:
    query = tower()
    query.channels["mood"] = nn.Identity()

    with pytest.raises(ReleaseError, match="'mood', a Identity"):
        query_graph(query)
