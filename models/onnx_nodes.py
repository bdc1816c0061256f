"""An ONNX graph, written operator by operator: what authored graphs are made with."""

from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from torch import Tensor, nn

FUSED = "com.microsoft"  # the domain of ONNX Runtime's own operators


class Nodes:
    """A graph's operators so far. Every value goes by the name of the operator that gives it."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Tensor | np.ndarray) -> str:
        array = value.detach().numpy() if isinstance(value, Tensor) else value
        name = f"constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def add(self, operator: str, *inputs: str, name: str | None = None, domain: str = "", **attributes: Any) -> str:
        """An operator and the name of its first output."""
        return self.add_many(operator, *inputs, outputs=[name or self._name(operator)], domain=domain, **attributes)[0]

    def add_many(
        self, operator: str, *inputs: str, outputs: list[str], domain: str = "", **attributes: Any
    ) -> list[str]:
        """An operator of several outputs, and their names."""
        name = self._name(operator)
        self.nodes.append(onnx.helper.make_node(operator, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs

    def _name(self, operator: str) -> str:
        return f"{operator}_{len(self.nodes)}"

    def linear(self, x: str, layer: nn.Linear) -> str:
        """(b, in) to (b, out)."""
        return self.add("Gemm", x, self.constant(layer.weight.T), self.constant(layer.bias))

    def product(self, x: str, layer: nn.Linear) -> str:
        """The same of any shape (..., in), without the bias, which the next operator adds."""
        return self.add("MatMul", x, self.constant(layer.weight.T))

    def normalised(self, x: str, norm: nn.LayerNorm) -> str:
        weight, bias = self.constant(norm.weight), self.constant(norm.bias)
        return self.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=norm.eps)

    def added(self, update: str, layer: nn.Linear, x: str, norm: nn.LayerNorm) -> str:
        """LayerNorm(x + update + the layer's bias)."""
        rest = map(self.constant, (norm.weight, norm.bias, layer.bias))
        return self.add("SkipLayerNormalization", update, x, *rest, domain=FUSED, epsilon=norm.eps)
