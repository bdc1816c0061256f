"""Our query tower as torch's exporter writes it, under ONNX Runtime on one thread."""

import os
from pathlib import Path

import numpy as np
import onnxruntime

from models.features import Featurizer


class PlainTower:
    """PEER_RUN names the folder of its featuriser, PEER_TOWER the exported graph."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._featurizer = Featurizer.load(Path(os.environ["PEER_RUN"]))
        self._session = onnxruntime.InferenceSession(os.environ["PEER_TOWER"], options)
        self._inputs = [node.name for node in self._session.get_inputs()]

    def embed(self, text: str, country: str | None = None) -> np.ndarray:
        """(1, d) float32."""
        features = self._featurizer.query(text, country)
        vectors: np.ndarray = self._session.run(None, {name: getattr(features, name) for name in self._inputs})[0]
        return vectors
