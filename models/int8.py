"""The int8 query tower: weights and large tables as 8-bit integers, activations quantised as they come."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.data.schema import Dataset
from models.embed import BATCH, product_rows
from models.engines import OnnxTower, QueryTower
from models.features import Featurizer, QueryFeatures
from models.int8_gate import Int8Check, instruction_set, vectors_alone
from models.onnx_nodes import FUSED
from models.query_graph import TRIGRAM_ROWS

OPERATORS = ("MatMul", "Attention", "EmbedLayerNormalization")
PRODUCTS = 2_000  # that the golden queries are searched in


def quantise(fp32: Path, int8: Path) -> None:
    """Write the int8 variant of an authored query graph.

    Weights use 7 bits: the sum of two 8-bit products saturates the 16 that AVX2 has for it (onnxruntime #6004). Small
    tables stay as they are.
    """
    model = onnx.load(fp32)
    names = [node.name for node in model.graph.node if node.op_type in OPERATORS or TRIGRAM_ROWS in node.output]
    # The quantiser asks for a preparation that folds and infers shapes; an authored graph has nothing to fold, and what
    # ONNX cannot infer is what ONNX Runtime's own operators give.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    own = [node.output[0] for node in model.graph.node if node.domain == FUSED]
    model.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in own
    )
    quantize_dynamic(
        model,
        int8,
        nodes_to_quantize=names,
        op_types_to_quantize=[*OPERATORS, "Gather"],
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
    )


def measure(int8: QueryTower, fp32: QueryTower, queries: Sequence[QueryFeatures], products: np.ndarray) -> Int8Check:
    """How near the two towers are, on this machine.

    Args:
        queries: at least one, each alone.
        products: (n, d) float32, the document tower's vectors.
    """
    found, exact = vectors_alone(int8, queries), vectors_alone(fp32, queries)
    cosine = (found * exact).sum(axis=1)
    shared = [
        len(np.intersect1d(*pair)) for pair in zip(nearest(found, products), nearest(exact, products), strict=True)
    ]
    return Int8Check(
        least_cosine=float(cosine.min()),
        mean_cosine=float(cosine.mean()),
        ann_recall_at_10=float(np.mean(shared)) / min(10, len(products)),
        queries=len(queries),
        products=len(products),
        instruction_set=instruction_set(),
    )


def nearest(queries: np.ndarray, products: np.ndarray, *, k: int = 10) -> np.ndarray:
    """(q, k) int64: rows of the products nearest to each query, in no order; all where there are fewer."""
    k = min(k, len(products))
    found: np.ndarray = np.argpartition(-queries @ products.T, k - 1, axis=1)[:, :k]
    return found


def product_vectors(tower: OnnxTower, featurizer: Featurizer, dataset: Dataset, *, most: int = PRODUCTS) -> np.ndarray:
    """(n, d) float32: the dataset's first products, embedded."""
    vectors: list[np.ndarray] = []
    for rows in product_rows(dataset, rows=BATCH):
        vectors.append(tower.embed(featurizer.products(rows)))
        if len(vectors) * BATCH >= most:
            break
    return np.concatenate(vectors)[:most]
