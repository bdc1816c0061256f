"""The gradient of one batch, whatever part of it fits in memory and however many processes share it.

One mechanism serves all cases. The loss needs the vectors of the whole batch, not the activations behind them. So each
process embeds its share of the rows in chunks, everyone gathers everyone's vectors, the objective gives its gradient in
them, and each chunk carries its part of that back through its tower (gradient caching, arXiv 2101.06983). A share of
several chunks is embedded again for that; one that is a single chunk has kept its activations. So one process without
chunks takes an ordinary step, and in-batch negatives of other processes count with their gradient.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.towers import Tower, TwoTowers, Views, as_tensors
from models.training.batches import PairBatch, Rows
from models.training.ranks import Ranks


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
        objective: (Views, Views, PairBatch) to a scalar, in float32. Its own gradients are alike in every process.
        chunk: rows of a tower in memory at once; None: all of this process's.
        seed: of the step's random draws: each process drops other units, all draw the same for the objective.
        bfloat16: compute the towers, not the loss, in it.

    Raises:
        ConfigError: the batch has fewer pairs than there are processes.
    """
    side = partial(Side, chunk=chunk, ranks=ranks, bfloat16=bfloat16)
    query_side = side(towers.query, queries, batch.query_rows)
    document_side = side(towers.document, documents, batch.document_rows)
    torch.manual_seed(seed * 1_024 + 1 + ranks.rank)
    views = query_side.embed(), document_side.embed()
    torch.manual_seed(seed * 1_024)
    loss: Tensor = objective(*views, batch)
    torch.autograd.backward(loss)
    query_side.carry_back()
    document_side.carry_back()
    ranks.sum_gradients(towers)
    return loss.detach()


class Chunk(NamedTuple):
    """Rows that are embedded together."""

    features: list[Tensor]
    random_state: Tensor  # before they were embedded
    views: Views


class Side:
    """One tower's rows of a batch, of which this process embeds its share."""

    def __init__(
        self, tower: Tower, table: Rows, rows: np.ndarray, *, chunk: int | None, ranks: Ranks, bfloat16: bool
    ) -> None:
        self._tower = tower
        self._table = table
        self._rows = len(rows)  # of all processes together
        self._share = ranks.share(self._rows)
        self._own = rows[self._share]
        self._size = chunk or len(self._own)
        self._ranks = ranks
        self._bfloat16 = bfloat16
        self._device = tower.device

    def embed(self) -> Views:
        """All processes' rows in order. The loss's gradient stops at these vectors, for `carry_back` to pick up."""
        with torch.set_grad_enabled(len(self._own) <= self._size):  # the activations of one chunk can stay
            self._chunks = list(self._embedded())
        vectors, present = (torch.cat(parts) for parts in zip(*(chunk.views for chunk in self._chunks), strict=True))
        vectors, present = (self._ranks.gather(own.detach(), self._rows) for own in (vectors, present))
        self._all = Views(vectors.requires_grad_(), present)
        return self._all

    def carry_back(self) -> None:
        """Add to the tower's gradients what the loss's gradient in this process's vectors says."""
        gradient = self._all.vectors.grad
        if gradient is None or not any(parameter.requires_grad for parameter in self._tower.parameters()):
            return
        parts = torch.split(gradient[self._share], self._size)
        for chunk, part in zip(self._chunks, parts, strict=True):
            views = chunk.views
            if len(self._chunks) > 1:
                _set_random_state(chunk.random_state, self._device)  # so that dropout drops the same again
                views = self._views(chunk.features)
            torch.autograd.backward(views.vectors, part)

    def _embedded(self) -> Iterator[Chunk]:
        for start in range(0, len(self._own), self._size):
            rows = self._own[start : start + self._size]
            features = as_tensors(self._table.batch(rows), self._tower, self._device)
            yield Chunk(features, _random_state(self._device), self._views(features))

    def _views(self, features: list[Tensor]) -> Views:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            views = self._tower.views(*features)
        return Views(views.vectors.float(), views.present)


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
