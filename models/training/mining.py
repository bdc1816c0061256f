"""Hard negatives mined offline (Facebook EBR 6.2): documents that the present towers rank high, but not highest.

The very nearest are often right answers that nobody clicked; ranks 101 to 500 are what the paper found to help.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from models.towers import TwoTowers
from models.training.batches import PairBatches
from models.training.validation import embed_rows

KEPT = 32  # ranks drawn per query: an epoch sees few of them, and memory stays bounded
BLOCK = 256  # queries ranked at once


class MinedNegatives:
    """Some documents of middling rank for every training query."""

    def __init__(self, candidates: np.ndarray, *, per_batch: int) -> None:
        """`candidates` (queries, kept) int64 are rows of the document table; `per_batch` of them join each batch."""
        self._candidates = candidates
        self._per_batch = per_batch

    def draw(self, query_rows: np.ndarray, *, seed: Sequence[int]) -> np.ndarray:
        """(h,) distinct document rows for a batch of these queries: one each of `per_batch` of them."""
        draw = np.random.default_rng([*seed, 7])
        asked = draw.choice(query_rows, size=min(self._per_batch, len(query_rows)), replace=False)
        picked = self._candidates[asked, draw.integers(self._candidates.shape[1], size=len(asked))]
        return np.unique(picked)

    def save(self, path: Path) -> None:
        beside = path.with_suffix(".tmp")
        save_file({"candidates": self._candidates, "per_batch": np.array([self._per_batch])}, beside)
        beside.replace(path)

    @classmethod
    def load(cls, path: Path) -> "MinedNegatives":
        stored = load_file(path)
        return cls(stored["candidates"], per_batch=int(stored["per_batch"][0]))


def mine(
    towers: TwoTowers,
    batches: PairBatches,
    *,
    first_rank: int,
    last_rank: int,
    easy_per_hard: int,
    seed: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> MinedNegatives:
    """Rank all documents for every training query and keep some of ranks `first_rank` to `last_rank`, from 1.

    A query's b - 1 in-batch negatives are its easy ones, so (b - 1) / easy_per_hard mined documents join a batch of b:
    all its queries share them, as they share the easy ones. A known positive among them is masked by the batch.
    A catalogue too small for these ranks gives its last ones.
    """
    document_vectors = embed_rows(towers.document, batches.documents, np.arange(len(batches.documents)))
    query_vectors = embed_rows(towers.query, batches.queries, np.arange(len(batches.queries)))
    last = min(last_rank, len(document_vectors))
    first = first_rank if first_rank < last else max(1, last - KEPT + 1)
    draw = np.random.default_rng([*seed, 11])
    candidates = np.empty((len(query_vectors), min(KEPT, last - first + 1)), dtype=np.int64)
    for start in range(0, len(query_vectors), BLOCK):
        cosines = query_vectors[start : start + BLOCK] @ document_vectors.T
        top = np.argpartition(-cosines, last - 1, axis=1)[:, :last]
        order = np.argsort(-np.take_along_axis(cosines, top, axis=1), axis=1, kind="stable")
        middling = np.take_along_axis(top, order, axis=1)[:, first - 1 :]  # (block, last - first + 1)
        columns = draw.permuted(np.tile(np.arange(middling.shape[1]), (len(middling), 1)), axis=1)
        kept = columns[:, : candidates.shape[1]]
        candidates[start : start + BLOCK] = np.take_along_axis(middling, kept, axis=1)
        if progress:
            progress(min(start + BLOCK, len(query_vectors)), len(query_vectors))
    return MinedNegatives(candidates, per_batch=max(1, round((batches.size - 1) / easy_per_hard)))
