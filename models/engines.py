"""What runs a tower: ONNX Runtime, or TorchScript. No torch on import."""

import os
import warnings
from pathlib import Path
from typing import Protocol

import numpy as np

from models.errors import ReleaseError
from models.features import DocumentFeatures, QueryFeatures

# From 1.29 on it reports its use to its makers, with a device id in the home directory, unless it finds this on import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

VECTOR, CHANNEL_WEIGHTS = "vector", "channel_weights"  # what a tower's outputs are called
WARM_UP_CALLS = 3  # TorchScript looks at one or two before it compiles


class QueryTower(Protocol):
    """Query features to vectors."""

    def embed(self, features: QueryFeatures) -> np.ndarray:
        """(n, d) float32, rows of norm 1."""
        ...

    def channel_weights(self, features: QueryFeatures) -> np.ndarray:
        """(n, c) float32, rows of sum 1: the attention of a tower that was exported with it."""
        ...


class OnnxTower:
    """A tower run by ONNX Runtime on one thread: requests, not operators, run in parallel."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # A pool that spins between requests takes the core from whoever serves the next one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # onnxruntime raises classes of its own that share no base
            raise ReleaseError(f"cannot load {path}: {exc}; export the release again") from exc
        self._inputs = [node.name for node in self._session.get_inputs()]

    def embed(self, features: QueryFeatures | DocumentFeatures) -> np.ndarray:
        """(n, d) float32, rows of norm 1."""
        return self._run(VECTOR, features)

    def channel_weights(self, features: QueryFeatures) -> np.ndarray:
        """See `QueryTower.channel_weights`."""
        return self._run(CHANNEL_WEIGHTS, features)

    def _run(self, output: str, features: QueryFeatures | DocumentFeatures) -> np.ndarray:
        values: np.ndarray = self._session.run([output], {name: getattr(features, name) for name in self._inputs})[0]
        return values


class TorchScriptQueryTower:
    """The query tower as TorchScript, tuned: the measured alternative. Loads torch when made."""

    def __init__(self, path: Path) -> None:
        try:
            import torch  # noqa: PLC0415 - the default engine must not need torch
        except ImportError as exc:
            raise ReleaseError("the torchscript engine needs torch; install the `train` extra or use onnx") from exc
        torch.set_num_threads(1)
        self._from_numpy = torch.from_numpy
        self._inference_mode = torch.inference_mode
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # known: it is the alternative, not the default
                # One compilation for all lengths; the default is one for each of the first few.
                torch.jit.set_fusion_strategy([("DYNAMIC", 1)])
                frozen = torch.jit.freeze(torch.jit.load(str(path)).eval())  # type: ignore[no-untyped-call]
                self._tower = torch.jit.optimize_for_inference(frozen)
                self._warm_up()
        except (RuntimeError, ValueError) as exc:
            raise ReleaseError(f"cannot load {path}: {exc}; export the release again") from exc

    def embed(self, features: QueryFeatures) -> np.ndarray:
        """(n, d) float32, rows of norm 1."""
        return self._run(features)[0]

    def channel_weights(self, features: QueryFeatures) -> np.ndarray:
        """See `QueryTower.channel_weights`."""
        return self._run(features)[1]

    def _warm_up(self) -> None:
        """It compiles itself over its first calls, which takes seconds that no request should wait for."""
        one = np.ones((1, 2), dtype=np.int64)
        for _ in range(WARM_UP_CALLS):
            self.embed(QueryFeatures(token_ids=one, trigram_ids=one, country_ids=np.zeros(1, dtype=np.int64)))

    def _run(self, features: QueryFeatures) -> list[np.ndarray]:
        """Vectors, then weights where the tower has them; without, it gives no tuple."""
        inputs = (features.token_ids, features.trigram_ids, features.country_ids)
        with self._inference_mode():
            found = self._tower(*map(self._from_numpy, inputs))
            return [output.numpy() for output in (found if isinstance(found, tuple) else (found,))]


def onnx_providers() -> list[str]:
    """What this installation of ONNX Runtime can run on."""
    providers: list[str] = onnxruntime.get_available_providers()
    return providers
