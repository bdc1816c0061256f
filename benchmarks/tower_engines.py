"""One query tower as every engine runs it, from files in a folder. As a program: what an engine takes to load."""

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np
import psutil  # type: ignore[import-untyped]  # it ships no types

from models.engines import OnnxTower, TorchScriptQueryTower
from models.features import QueryFeatures
from models.tokenizers import CLS

BATCHES = 64  # of queries that an arm goes through
ROOT = Path(__file__).parents[1]  # not that of benchmarks.conditions, which loads Faiss: memory is measured here
TRIGRAMS_PER_TOKEN = 4  # of a piece of about four characters


class Embeds(Protocol):
    """What is timed of a tower."""

    def embed(self, features: QueryFeatures) -> np.ndarray:
        """(n, d) float32, rows of norm 1."""
        ...


class Engine(NamedTuple):
    """What runs a tower: the file that it reads, and how it loads it."""

    file: str
    load: Callable[[Path], Embeds]


class Footprint(NamedTuple):
    """What an engine takes before the first query, in a process of its own."""

    load_ms: float
    memory_mb: float  # resident, of the whole process with its libraries, behind some queries


class TorchTower:
    """A tower in PyTorch as it is, without the tuning of `TorchScriptQueryTower`."""

    def __init__(self, path: Path, load: Callable[[Any, Path], Any]) -> None:
        import torch  # noqa: PLC0415 - a process that measures another engine must not load it

        torch.set_num_threads(1)
        self._torch: Any = torch
        self._tower = load(torch, path)

    def embed(self, features: QueryFeatures) -> np.ndarray:
        """(n, d) float32, rows of norm 1."""
        with self._torch.inference_mode():
            found = self._tower(*map(self._torch.from_numpy, features[:3]))
        vectors: np.ndarray = (found[0] if isinstance(found, tuple) else found).numpy()
        return vectors


def eager(path: Path) -> TorchTower:
    """The module itself, pickled by this benchmark."""
    return TorchTower(path, lambda torch, file: torch.load(file, weights_only=False))


def torchscript_as_exported(path: Path) -> TorchTower:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # known: it is what the others are compared with
        return TorchTower(path, lambda torch, file: torch.jit.load(file).eval())


ENGINES = {
    "eager torch": Engine("eager.pt", eager),
    "TorchScript as exported": Engine("query_tower.pt", torchscript_as_exported),
    "TorchScript tuned": Engine("query_tower.pt", TorchScriptQueryTower),
    "ONNX plain": Engine("plain.onnx", OnnxTower),
    "ONNX fused": Engine("query_tower.onnx", OnnxTower),
    "int8": Engine("query_tower_int8.onnx", OnnxTower),
}


def queries(*, length: int, vocabulary: int, trigram_rows: int, rows: int = 1) -> list[QueryFeatures]:
    """Batches of `rows` queries of `length` tokens, ids drawn evenly: only their number takes time."""
    draw = np.random.default_rng(length)
    return [
        QueryFeatures(
            token_ids=np.concatenate(
                [np.full((rows, 1), CLS), draw.integers(CLS + 1, vocabulary, (rows, length - 1))], axis=1
            ),
            trigram_ids=draw.integers(1, trigram_rows, (rows, max(1, TRIGRAMS_PER_TOKEN * (length - 1)))),
            country_ids=np.zeros(rows, dtype=np.int64),
        )
        for _ in range(BATCHES)
    ]


def footprint_in_fresh_process(engine: str, folder: Path, *, vocabulary: int, trigram_rows: int) -> Footprint:
    """Load an engine in a fresh process, and let it answer."""
    arguments = [engine, str(folder), str(vocabulary), str(trigram_rows)]
    command = [sys.executable, "-m", "benchmarks.tower_engines", *arguments]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    return Footprint(**json.loads(answer.stdout))


def main(arguments: Sequence[str]) -> None:
    """Print the footprint of this process: ENGINE FOLDER VOCABULARY TRIGRAM_ROWS."""
    name, folder, vocabulary, trigram_rows = arguments
    engine = ENGINES[name]
    asked = queries(length=8, vocabulary=int(vocabulary), trigram_rows=int(trigram_rows))
    started = perf_counter()
    tower = engine.load(Path(folder) / engine.file)
    load_ms = (perf_counter() - started) * 1e3
    for features in asked:
        tower.embed(features)
    print(json.dumps({"load_ms": load_ms, "memory_mb": psutil.Process().memory_info().rss / 2**20}))


if __name__ == "__main__":
    main(sys.argv[1:])
