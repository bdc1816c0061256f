"""What each channel of the towers is worth: its attention by query length, and what is lost without it (Table 2).

The channels are encoded once; altering one and fusing again does not run the encoders again.
n: rows, c: channels, d: tower size
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.channels import ChannelOutput
from models.data.schema import RELEVANT
from models.evaluation.bootstrap import Estimate, Statistic, difference, estimate, roc_auc_over
from models.evaluation.plots import Attention, ChannelImportance
from models.evaluation.task import EvaluationTask
from models.towers import Tower
from models.training.batches import Rows
from models.training.validation import tower_batches

LONGEST = 24  # characters; longer queries count as so long
ROUNDS = 200  # of resampling: sixteen intervals are asked for, and a report is to be quick


class EncodedChannels:
    """The outputs of a tower's channels for some rows of a table."""

    def __init__(self, tower: Tower, outputs: Sequence[ChannelOutput]) -> None:
        self._tower = tower
        self._outputs = list(outputs)  # c of them, each (n, d) and (n,)

    @classmethod
    def of(cls, tower: Tower, table: Rows, rows: np.ndarray) -> Self:
        """Encode the rows."""
        count = len(tower.channels)
        outputs = [
            ChannelOutput(torch.zeros(len(rows), tower.dim), torch.zeros(len(rows)).bool()) for _ in range(count)
        ]
        with torch.inference_mode():
            for at, features in tower_batches(tower, table, rows):
                for output, channel in zip(outputs, tower.encode_channels(*features), strict=True):
                    output.vector[at], output.present[at] = channel.vector.cpu(), channel.present.cpu()
        return cls(tower, outputs)

    @property
    def names(self) -> list[str]:
        return list(self._tower.channels)

    def vectors(self) -> np.ndarray:
        """(n, d) float32 of norm 1: the channels fused."""
        with torch.inference_mode():
            fused: Tensor = F.normalize(self._tower.fusion(self._outputs), dim=-1)
        return fused.numpy()

    def attention(self) -> np.ndarray | None:
        """(n, c) weights of Eq. 1, or None where the fusion is another."""
        attention = self._tower.attention
        if attention is None:
            return None
        with torch.inference_mode():
            return attention.weights(self._outputs).numpy()

    def zeroed(self, name: str) -> "EncodedChannels":
        """The same without one channel: a tensor of zeros that no row has."""
        vector, present = self._outputs[self.names.index(name)]
        return self._with(name, ChannelOutput(torch.zeros_like(vector), torch.zeros_like(present)))

    def shuffled(self, name: str, *, seed: int) -> "EncodedChannels":
        """The same with every row's value of one channel replaced by that of another random row."""
        vector, present = self._outputs[self.names.index(name)]
        order = np.random.default_rng(seed).permutation(len(vector))
        other = np.empty_like(order)
        other[order] = np.roll(order, 1)  # one great circle: nobody keeps the own value
        return self._with(name, ChannelOutput(vector[other], present[other]))

    def _with(self, name: str, output: ChannelOutput) -> "EncodedChannels":
        at = self.names.index(name)
        return EncodedChannels(self._tower, [*self._outputs[:at], output, *self._outputs[at + 1 :]])


def attention_by_length(queries: EncodedChannels, texts: Sequence[str]) -> Attention | None:
    """The mean weight of each channel over queries of like length: 3-grams dominate below five characters (3.7).

    Args:
        texts: (n,) of the queries that were encoded.

    Returns:
        None where the fusion has no attention, or there is no query.
    """
    weights = queries.attention()
    if weights is None or not texts:
        return None
    lengths = np.minimum([len(text) for text in texts], LONGEST)
    present, counts = np.unique(lengths, return_counts=True)
    means = np.stack([weights[lengths == length].mean(axis=0) for length in present])
    return Attention(present, queries.names, means, counts)


def channel_importance(
    queries: EncodedChannels, documents: EncodedChannels, task: EvaluationTask, *, products: np.ndarray, seed: int = 0
) -> list[ChannelImportance]:
    """What the ROC AUC on ratings loses when a channel is zero, and when it is another example's (Table 2).

    Args:
        queries: of all the task's queries.
        documents: of the rated products.
        products: (n,) which those are, rising.

    Returns:
        Nothing where the ratings are all of one kind.
    """
    rated = np.searchsorted(products, task.judged[:, 1])

    def roc_auc(query_vectors: np.ndarray, document_vectors: np.ndarray) -> Statistic:
        scores = (query_vectors[task.judged[:, 0]] * document_vectors[rated]).sum(axis=1)
        return roc_auc_over(task.ratings >= RELEVANT, scores, task.judged[:, 0])

    query_vectors, document_vectors = queries.vectors(), documents.vectors()
    whole = roc_auc(query_vectors, document_vectors)

    def loss(altered: Statistic) -> Estimate | None:
        return estimate(difference(whole, altered), queries=len(task.queries), rounds=ROUNDS, seed=seed)

    found = []
    for tower, channels in (("query", queries), ("document", documents)):
        for name in channels.names:
            losses = []
            for altered in (channels.zeroed(name), channels.shuffled(name, seed=seed)):
                vectors = altered.vectors()
                sides = (vectors, document_vectors) if tower == "query" else (query_vectors, vectors)
                losses.append(loss(roc_auc(*sides)))
            zeroed, shuffled = losses
            if zeroed is not None and shuffled is not None:
                found.append(ChannelImportance(tower, name, zeroed, shuffled))
    return found
