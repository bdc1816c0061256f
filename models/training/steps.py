"""The gradient of one batch, whatever part of it fits in memory and however many processes share it.

One mechanism serves three cases. The loss needs the whole batch's vectors, not its activations. So the rows are
embedded in chunks without keeping activations, vectors are gathered from all processes, the objective gives its
gradient in them, and each chunk is embedded once more to carry its part of that gradient back (gradient caching, arXiv
2101.06983). Where one chunk of one process is the whole batch, it is embedded once.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.towers import Tower, TwoTowers, Views, as_tensors
from models.training.batches import PairBatch, Rows
from models.training.ranks import Ranks


class Chunk(NamedTuple):
    """Rows that are embedded together, and the random state that they were first embedded with."""

    features: list[Tensor]
    random_state: Tensor


class Side:
    """One tower's rows of a batch, of which this process embeds its share."""

    def __init__(
        self, tower: Tower, table: Rows, rows: np.ndarray, *, chunk: int | None, ranks: Ranks, bfloat16: bool
    ) -> None:
        self._tower = tower
        self._table = table
        self._rows = rows
        self._share = ranks.share(len(rows))
        self._chunk = chunk or len(rows)
        self._bfloat16 = bfloat16
        self._device = tower.device

    @property
    def is_whole(self) -> bool:
        """Whether one chunk of this process is the whole batch."""
        return len(self._rows) <= self._chunk and self._share == slice(0, len(self._rows))

    def embed(self) -> Views:
        """The whole batch at once, with its graph."""
        return self._views(self._features(self._rows))

    def embed_share(self) -> tuple[Views, list[Chunk]]:
        """This process's rows, without a graph, and what it takes to embed each chunk again."""
        chunks, parts = [], []
        with torch.no_grad():
            for rows in self._chunks():
                chunks.append(Chunk(self._features(rows), _random_state(self._device)))
                parts.append(self._views(chunks[-1].features))
        return Views(*(torch.cat(column) for column in zip(*parts, strict=True))), chunks

    def carry_back(self, chunks: list[Chunk], gradient: Tensor) -> None:
        """Add to the tower's gradients what `gradient` (own rows, v, d) says."""
        start = 0
        for chunk in chunks:
            _set_random_state(chunk.random_state, self._device)  # so that dropout drops the same again
            vectors = self._views(chunk.features).vectors
            vectors.backward(gradient[start : start + len(vectors)])  # type: ignore[no-untyped-call]
            start += len(vectors)

    def own_part(self, gathered: Tensor) -> Tensor:
        """This process's rows of something that has all of them."""
        return gathered[self._share]

    def _chunks(self) -> Iterator[np.ndarray]:
        own = self._rows[self._share]
        for start in range(0, len(own), self._chunk):
            yield own[start : start + self._chunk]

    def _features(self, rows: np.ndarray) -> list[Tensor]:
        return as_tensors(self._table.batch(rows), self._tower, self._device)

    def _views(self, features: list[Tensor]) -> Views:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            views = self._tower.views(*features)
        return Views(views.vectors.float(), views.present)


def backward(
    towers: TwoTowers,
    objective: nn.Module,
    batch: PairBatch,
    *,
    queries: Rows,
    documents: Rows,
    chunk: int | None = None,
    ranks: Ranks,
    seed: int,
    bfloat16: bool = False,
) -> Tensor:
    """Add the whole batch's gradient to the towers' and the objective's parameters; returns the loss, detached.

    Args:
        objective: (Views, Views, PairBatch) to a scalar, in float32.
        chunk: rows of a tower in memory at once; None: all.
        seed: of the step's random draws: each process drops other units, all draw the same for the objective.
        bfloat16: compute the towers, not the loss, in it.
    """
    torch.manual_seed(seed * 1_024 + 1 + ranks.rank)
    how = {"chunk": chunk, "ranks": ranks, "bfloat16": bfloat16}
    query_side = Side(towers.query, queries, batch.query_rows, **how)  # type: ignore[arg-type]
    document_side = Side(towers.document, documents, batch.document_rows, **how)  # type: ignore[arg-type]
    if query_side.is_whole and document_side.is_whole:
        whole = query_side.embed(), document_side.embed()
        torch.manual_seed(seed * 1_024)
        loss: Tensor = objective(*whole, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    return _cached_backward(query_side, document_side, towers, objective, batch, ranks=ranks, seed=seed)


def _cached_backward(
    query_side: Side,
    document_side: Side,
    towers: TwoTowers,
    objective: nn.Module,
    batch: PairBatch,
    *,
    ranks: Ranks,
    seed: int,
) -> Tensor:
    """Every process computes the same loss over all vectors, and carries back its own rows' part."""
    sides = (query_side, document_side)
    shares, chunks = zip(*(side.embed_share() for side in sides), strict=True)
    everyone = [Views(ranks.gather(views.vectors).requires_grad_(), ranks.gather(views.present)) for views in shares]
    torch.manual_seed(seed * 1_024)
    loss: Tensor = objective(*everyone, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    for side, own_chunks, views in zip(sides, chunks, everyone, strict=True):
        assert views.vectors.grad is not None  # noqa: S101 - for the type checker
        side.carry_back(own_chunks, side.own_part(views.vectors.grad))
    ranks.sum_gradients(towers)  # the objective's own are the same everywhere already
    return loss.detach()


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
