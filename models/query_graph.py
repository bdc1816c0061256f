"""The query tower's ONNX graph, authored from its weights for the latency of one short query.

The exporter's graph does the same sums in three times as many operators, and at eight tokens half of its time is the
overhead of small ones. Here attention, each skip connection with its norm, and GELU are one operator of ONNX Runtime
each; where the [CLS] is the text, the last layer goes on with that one token behind its attention; a country's row is
stored normalised; and which channels are present is one number, whose row in two tables says what that changes.
Shapes: b queries, t tokens, g 3-grams, w encoder width, n channels, d tower size.
"""

from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import onnx
import onnx.helper
import torch
from torch import nn

from models.channels import CategoryChannel, TextChannel, TrigramChannel
from models.encoder import EncoderLayer, TextEncoder
from models.engines import CHANNEL_WEIGHTS, VECTOR
from models.errors import ReleaseError
from models.fusion import ABSENT, AttentionFusion, ConcatenationFusion, Fusion
from models.onnx_nodes import FUSED, Nodes
from models.towers import Tower

OPSET, IR_VERSION = 20, 10
TRIGRAM_BIT, TEXT_BIT = 1, 2  # of the number that says which channels are present
TRIGRAM_ROWS = "trigram_rows"  # the value that the 3-grams' table gives
PATTERNS = 4  # values of that number; a country is always present


def save_query_graph(tower: Tower, path: Path) -> None:
    """Write the graph of a query tower, whatever its channels, fusion and pooling.

    Inputs bear the features' names: int64 of (b, t), (b, g) and (b,), padded with 0 behind each row's end. Outputs are
    the vector (b, d) and, of a tower with attention, the channels' weights (b, n).

    Raises:
        ReleaseError: a channel is not one of a query.
    """
    with torch.no_grad():
        onnx.save(query_graph(tower), path)


def query_graph(tower: Tower) -> onnx.ModelProto:
    """The graph itself; see `save_query_graph`."""
    nodes = Nodes()
    channels = [_channel(nodes, name, channel) for name, channel in tower.channels.items()]
    nodes.add("LpNormalization", _fused(nodes, tower.fusion, channels), name=VECTOR, axis=-1, p=2)
    used = {name for node in nodes.nodes for name in node.input}
    sizes = {VECTOR: tower.dim} | ({CHANNEL_WEIGHTS: len(channels)} if tower.attention is not None else {})
    graph = onnx.helper.make_graph(
        nodes.nodes,
        "query_tower",
        [_ids(name) for name in tower.inputs if name in used],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["b", n]) for name, n in sizes.items()],
        nodes.constants,
    )
    opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(FUSED, 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="que2search")


class _Channel(NamedTuple):
    """A channel's output, before it is made zero where absent."""

    vector: str  # (b, d)
    present: str | None  # (b,) int64: the channel's bit, or 0; None: always present
    bit: int


def _channel(nodes: Nodes, name: str, channel: nn.Module) -> _Channel:
    if isinstance(channel, TextChannel):
        return _text(nodes, channel)
    if isinstance(channel, TrigramChannel):
        return _trigrams(nodes, channel)
    if isinstance(channel, CategoryChannel):
        table = nodes.constant(channel.norm(channel.table.weight))
        return _Channel(nodes.add("Gather", table, "country_ids"), None, 0)
    raise ReleaseError(
        f"no query graph for channel {name!r}, a {type(channel).__name__}; add it to models/query_graph.py"
    )


def _trigrams(nodes: Nodes, channel: TrigramChannel) -> _Channel:
    rows = nodes.add("Gather", nodes.constant(channel.table.weight), "trigram_ids", name=TRIGRAM_ROWS)  # (b, g, d)
    summed = nodes.add("ReduceSum", rows, nodes.integers(1), keepdims=0)
    first = nodes.add("Gather", "trigram_ids", nodes.constant(np.array(0)), axis=1)  # padding is behind a row's end
    present = nodes.add("Min", first, nodes.constant(np.array(TRIGRAM_BIT)))
    return _Channel(nodes.normalised(summed, channel.norm), present, TRIGRAM_BIT)


def _text(nodes: Nodes, channel: TextChannel) -> _Channel:
    encoder = channel.encoder
    tokens = nodes.add("Cast", "token_ids", to=onnx.TensorProto.INT32)
    bounds = [nodes.constant(np.array(bound, dtype=np.int32)) for bound in (0, 1)]
    real = nodes.add("Clip", tokens, *bounds)  # (b, t): 1, and 0 for padding
    hidden, counts = _embedded(nodes, encoder, tokens, real)
    *layers, last = encoder.layers
    for layer in layers:
        hidden = _layer(nodes, layer, hidden, counts)
    pooled = _pooled(nodes, encoder, last, hidden, counts, real)  # (b, w)
    bits = np.full(len(encoder.position_embedding.weight) + 1, TEXT_BIT)
    bits[:2] = 0  # no more than the [CLS]
    present = nodes.add("Gather", nodes.constant(bits), counts)
    return _Channel(nodes.normalised(nodes.linear(pooled, channel.projection), channel.norm), present, TEXT_BIT)


def _embedded(nodes: Nodes, encoder: TextEncoder, tokens: str, real: str) -> list[str]:
    """The normalised embeddings (b, t, w), and how many tokens are real (b,) int32."""
    parts = encoder.token_embedding.weight, encoder.position_embedding.weight, encoder.norm.weight, encoder.norm.bias
    table, positions, weight, bias = map(nodes.constant, parts)
    return nodes.add_many(
        "EmbedLayerNormalization",
        *(tokens, "", table, positions, "", weight, bias, real),
        outputs=["hidden", "token_counts"],
        domain=FUSED,
        epsilon=encoder.norm.eps,
    )


def _pooled(nodes: Nodes, encoder: TextEncoder, last: nn.Module, hidden: str, counts: str, real: str) -> str:
    """The last layer, and its [CLS] or its real tokens' mean (b, w)."""
    if encoder.pooling == "cls":
        return _layer(nodes, last, hidden, counts, only_first=True)
    hidden = _layer(nodes, last, hidden, counts)
    shares = nodes.add("LpNormalization", nodes.add("Cast", real, to=onnx.TensorProto.FLOAT), axis=-1, p=1)
    mean = nodes.add("MatMul", nodes.add("Unsqueeze", shares, nodes.integers(1)), hidden)  # (b, 1, t) (b, t, w)
    return nodes.add("Squeeze", mean, nodes.integers(1))


def _layer(nodes: Nodes, layer: nn.Module, x: str, counts: str, *, only_first: bool = False) -> str:
    """A transformer layer (b, t, w); with `only_first`, its first token (b, w)."""
    layer = cast("EncoderLayer", layer)  # an nn.ModuleList forgets the type
    attention, (widen, narrow) = layer.attention, _linears(layer.feed_forward)
    packed = nodes.constant(attention.project_in.weight.T), nodes.constant(attention.project_in.bias)
    mixed = nodes.add("Attention", x, *packed, counts, domain=FUSED, num_heads=attention.heads)
    if only_first:
        first = nodes.constant(np.array(0))
        x, mixed = (nodes.add("Gather", tokens, first, axis=1) for tokens in (x, mixed))
    projected = nodes.product(mixed, attention.project_out)
    x = nodes.added(projected, attention.project_out, x, layer.attention_norm)
    wide = nodes.add("BiasGelu", nodes.product(x, widen), nodes.constant(widen.bias), domain=FUSED)
    return nodes.added(nodes.product(wide, narrow), narrow, x, layer.feed_forward_norm)


def _fused(nodes: Nodes, fusion: Fusion, channels: list[_Channel]) -> str:
    """The channels' vectors as one (b, d)."""
    pattern = _pattern(nodes, channels)
    joined = _joined(nodes, channels, pattern, dim=fusion.dim)  # (b, n d)
    if isinstance(fusion, AttentionFusion):
        return _attended(nodes, fusion, channels, joined, pattern)
    if isinstance(fusion, ConcatenationFusion):
        widen, narrow = _linears(fusion.mlp)
        wide = nodes.add("BiasGelu", nodes.product(joined, widen), nodes.constant(widen.bias), domain=FUSED)
        return nodes.linear(wide, narrow)
    stacked = nodes.add("Reshape", joined, nodes.integers(0, len(channels), fusion.dim))  # (b, n, d)
    return nodes.add("ReduceSum", stacked, nodes.integers(1), keepdims=0)


def _pattern(nodes: Nodes, channels: list[_Channel]) -> str | None:
    """Which channels are present (b,): the sum of their bits; None where none is ever absent."""
    bits = [channel.present for channel in channels if channel.present is not None]
    return nodes.add("Add", *bits) if len(bits) > 1 else next(iter(bits), None)


def _joined(nodes: Nodes, channels: list[_Channel], pattern: str | None, *, dim: int) -> str:
    """The vectors side by side (b, n d), zero where absent."""
    vectors = [channel.vector for channel in channels]
    joined = nodes.add("Concat", *vectors, axis=1) if len(vectors) > 1 else vectors[0]
    if pattern is None:
        return joined
    kept = np.repeat(~_absent(channels), dim, axis=1).astype(np.float32)
    return nodes.add("Mul", joined, nodes.add("Gather", nodes.constant(kept), pattern))


def _attended(nodes: Nodes, fusion: AttentionFusion, channels: list[_Channel], joined: str, pattern: str | None) -> str:
    """Eq. 1: the channels' sum (b, d) by their weights, which are an output of their own."""
    gate = nodes.constant(fusion.gate.weight.T * fusion.scale)
    penalty = np.where(_absent(channels), np.float32(ABSENT), np.float32(0))
    penalties = [] if pattern is None else [nodes.add("Gather", nodes.constant(penalty), pattern)]  # (b, n)
    logits = nodes.add("Gemm", joined, gate, *penalties)
    weights = nodes.add("Softmax", logits, name=CHANNEL_WEIGHTS, axis=-1)
    stacked = nodes.add("Reshape", joined, nodes.integers(0, len(channels), fusion.dim))
    mixed = nodes.add("MatMul", nodes.add("Unsqueeze", weights, nodes.integers(1)), stacked)  # (b, 1, n) (b, n, d)
    return nodes.add("Squeeze", mixed, nodes.integers(1))


def _absent(channels: list[_Channel]) -> np.ndarray:
    """(PATTERNS, n) bool: the channels that each pattern lacks."""
    bits = [channel.bit for channel in channels]
    return np.array([[bit > 0 and not pattern & bit for bit in bits] for pattern in range(PATTERNS)])


def _linears(block: nn.Sequential) -> tuple[nn.Linear, nn.Linear]:
    """The two around a GELU."""
    widen, _, narrow = block
    return cast("nn.Linear", widen), cast("nn.Linear", narrow)


def _ids(name: str) -> onnx.ValueInfoProto:
    shape = {"token_ids": ["b", "t"], "trigram_ids": ["b", "g"]}.get(name, ["b"])
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, shape)
