"""The channels of a tower: each turns one kind of input into a vector of the tower's size.

A channel returns the vector (b, d) and whether its input was there (b,) bool; an absent input is a zero vector,
the baseline of the paper's own ablation. A present one is layer-normalised, so that all channels enter the fusion at
one scale: otherwise attention learns first to silence whichever channel starts out large, and it never recovers
[inferred; the paper does not say]. Shapes: b rows, d tower size, t tokens, g 3-grams, m images.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoder import TextEncoder
from models.tokenizers import PAD


class ChannelOutput(NamedTuple):
    vector: Tensor  # (b, d), zero where absent
    present: Tensor  # (b,) bool


class TextChannel(nn.Module):
    """The encoder's [CLS], projected to the tower's size (Que2Search 3.1). The encoder may be shared."""

    def __init__(self, encoder: TextEncoder, *, dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = nn.Linear(encoder.dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, token_ids: Tensor) -> ChannelOutput:
        present = (token_ids != PAD).sum(dim=1) > 1  # more than the [CLS]
        vector = self.norm(self.projection(self.encoder(token_ids)))
        return ChannelOutput(vector * present.unsqueeze(1), present)


class TrigramChannel(nn.Module):
    """Hashed character 3-grams through an embedding table, SUM pooled (Que2Search 3.1)."""

    def __init__(self, *, rows: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, dim, padding_idx=PAD)
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.table.weight, std=0.05)
        with torch.no_grad():
            self.table.weight[PAD].zero_()

    def forward(self, trigram_ids: Tensor) -> ChannelOutput:
        if self.training:
            vector = F.embedding_bag(trigram_ids, self.table.weight, mode="sum", padding_idx=PAD)
        else:
            vector = self.table(trigram_ids).sum(dim=1)  # the same sum, in operators that export
        present = (trigram_ids != PAD).any(dim=1)
        return ChannelOutput(self.norm(vector) * present.unsqueeze(1), present)


class CategoryChannel(nn.Module):
    """A country or a language; id 0 is the unknown one and learns a vector of its own."""

    def __init__(self, *, values: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(values + 1, dim)
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.table.weight, std=0.05)

    def forward(self, ids: Tensor) -> ChannelOutput:
        return ChannelOutput(self.norm(self.table(ids)), torch.ones_like(ids, dtype=torch.bool))


class ImageChannel(nn.Module):
    """Deep Sets over a product's images: rho(sum over present images of phi(image)), Que2Search 3.1.

    phi is the shared MLP; widths and a linear rho are inferred, the paper does not give them. The sum makes the
    order of the images irrelevant.
    """

    def __init__(self, *, image_dim: int, dim: int) -> None:
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(image_dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.rho = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor, image_mask: Tensor) -> ChannelOutput:
        present = image_mask.sum(dim=1) > 0  # (b,)
        pooled = (self.phi(images) * image_mask.unsqueeze(-1)).sum(dim=1)  # (b, m, d) -> (b, d)
        return ChannelOutput(self.norm(self.rho(pooled)) * present.unsqueeze(1), present)
