"""Fusion: the channels of a tower into one vector. Shapes: b rows, n channels, d size."""

import torch
from torch import Tensor, nn

from models.channels import ChannelOutput

ABSENT = -1e4  # a logit, not -inf: a row whose channels are all absent must give zeros, not NaN


class AttentionFusion(nn.Module):
    """Que2Search Eq. 1: a = softmax(Phi W), f = sum_i a_i phi_i, with Phi the concatenated channels, no bias.

    Absent channels get no weight, and the logits are scaled by 1/sqrt(N D), so that attention settles no faster than
    the channels learn: an unscaled gate silences the text encoder before it has learnt to speak [both inferred].
    """

    def __init__(self, *, channels: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.scale = (channels * dim) ** -0.5
        self.gate = nn.Linear(channels * dim, channels, bias=False)
        nn.init.zeros_(self.gate.weight)  # starts as the mean of the present channels

    def weights(self, channels: list[ChannelOutput]) -> Tensor:
        """The attention a (b, n); every row sums to 1."""
        concatenated = torch.cat([vector for vector, _ in channels], dim=-1)  # (b, n d)
        logits: Tensor = self.gate(concatenated) * self.scale  # (b, n)
        present = torch.stack([present for _, present in channels], dim=-1)  # (b, n)
        return logits.masked_fill(~present, ABSENT).softmax(dim=-1)

    def weighted(self, channels: list[ChannelOutput], weights: Tensor) -> Tensor:
        """The channels' sum (b, d) by their weights (b, n)."""
        vectors = torch.stack([vector for vector, _ in channels], dim=1)  # (b, n, d)
        return (weights.unsqueeze(-1) * vectors).sum(dim=1)

    def forward(self, channels: list[ChannelOutput]) -> Tensor:
        return self.weighted(channels, self.weights(channels))


class ConcatenationFusion(nn.Module):
    """Concatenated channels through an MLP: what Eq. 1 is compared with (Table 3). Absent channels are zeros."""

    def __init__(self, *, channels: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.mlp = nn.Sequential(nn.Linear(channels * dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, channels: list[ChannelOutput]) -> Tensor:
        fused: Tensor = self.mlp(torch.cat([vector for vector, _ in channels], dim=-1))
        return fused


class SumFusion(nn.Module):
    """The sum of the present channels; it has nothing to learn."""

    def __init__(self, *, channels: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.channels = channels

    def forward(self, channels: list[ChannelOutput]) -> Tensor:
        return torch.stack([vector for vector, _ in channels], dim=1).sum(dim=1)


Fusion = AttentionFusion | ConcatenationFusion | SumFusion
FUSIONS: dict[str, type[Fusion]] = {
    "attention": AttentionFusion,
    "concatenation": ConcatenationFusion,
    "sum": SumFusion,
}


def only(channels: list[ChannelOutput], kept: set[int]) -> list[ChannelOutput]:
    """The channels at the `kept` places, all others made absent: zero vectors that no row has."""
    return [
        channel if at in kept else ChannelOutput(torch.zeros_like(channel.vector), torch.zeros_like(channel.present))
        for at, channel in enumerate(channels)
    ]
