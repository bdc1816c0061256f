"""Whether an int8 query tower may serve: how near it is to the fp32 one, when exported and where it is opened.

Eight-bit products are added up differently by different instruction sets, and AVX2's saturate (onnxruntime #6004), so
what was measured on one machine is no promise for another.
"""

import platform
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from models.engines import QueryTower
from models.errors import ReleaseError
from models.features import QueryFeatures

LEAST_COSINE = 0.98  # of any golden query's two vectors
MEAN_COSINE = 0.995
ANN_RECALL = 0.95  # of the fp32 vectors' ten nearest products, the share that the int8 vectors find
CHECKED = 200  # golden queries, when a release is opened
CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512f", "avx2", "i8mm", "asimddp", "asimd")  # the best first


class Int8Check(msgspec.Struct, frozen=True, kw_only=True):
    """The int8 query tower beside the fp32 one, over the golden queries."""

    least_cosine: float
    mean_cosine: float
    ann_recall_at_10: float  # against the exact ten nearest by fp32
    queries: int
    products: int
    instruction_set: str

    def __str__(self) -> str:
        cosine = f"cosine to fp32 {self.mean_cosine:.4f}, {self.least_cosine:.4f} at least"
        kept = "" if self.passed else f"; not kept: {self.failure()}"
        return f"{cosine}; ann_recall@10 {self.ann_recall_at_10:.3f}, with {self.instruction_set}{kept}"

    @property
    def passed(self) -> bool:
        return self.failure() is None

    def failure(self) -> str | None:
        """The figure that is too low; None where none is. NaN is too low."""
        limits = {"least_cosine": LEAST_COSINE, "mean_cosine": MEAN_COSINE, "ann_recall_at_10": ANN_RECALL}
        for name, limit in limits.items():
            if not getattr(self, name) >= limit:
                return f"{name} {getattr(self, name):.4f} with {self.instruction_set}, below {limit}"
        return None


def check_here(int8: QueryTower, fp32: QueryTower, queries: Sequence[QueryFeatures]) -> None:
    """Compare the two on this machine, over the first golden queries.

    Raises:
        ReleaseError: they are too far apart, or there is nothing to compare them with.
    """
    if not queries:
        raise ReleaseError("no golden queries to check the int8 query tower with; use engine onnx")
    some = queries[:CHECKED]
    cosine = (vectors_alone(int8, some) * vectors_alone(fp32, some)).sum(axis=1)
    least, mean = float(cosine.min()), float(cosine.mean())
    if not (least >= LEAST_COSINE and mean >= MEAN_COSINE):
        raise ReleaseError(
            f"on this machine ({instruction_set()}) the int8 query tower's vectors have cosines to fp32 of {least:.4f} "
            f"at least and {mean:.4f} on average, below {LEAST_COSINE} or {MEAN_COSINE}; use engine onnx"
        )


def vectors_alone(tower: QueryTower, queries: Sequence[QueryFeatures]) -> np.ndarray:
    """(n, d) float32: each query embedded by itself, as serving does; a batch would share int8's ranges."""
    return np.concatenate([tower.embed(query) for query in queries])


def instruction_set(cpuinfo: Path = CPUINFO) -> str:
    """The best of `INSTRUCTIONS` that this machine lists, or its architecture."""
    listed = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return next((name for name in INSTRUCTIONS if name in listed), platform.machine())
