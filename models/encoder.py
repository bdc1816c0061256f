"""The XLM-style text encoder: token and position embeddings, post-norm transformer layers, the [CLS] vector.

Shapes: b texts, t tokens, d width, h heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.sections import EncoderConfig
from models.tokenizers import PAD


class SelfAttention(nn.Module):
    """Multi-head attention of every token to every real token."""

    def __init__(self, *, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project_in = nn.Linear(dim, 3 * dim)
        self.project_out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        b, t, d = x.size()
        query, key, value = (
            part.view(b, t, self.heads, d // self.heads).transpose(1, 2)  # (b, h, t, d/h)
            for part in self.project_in(x).split(d, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=real[:, None, None, :])
        return self.project_out(mixed.transpose(1, 2).reshape(b, t, d))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Attention and a feed-forward block, each added to its input and then normalised (post-norm, as in XLM)."""

    def __init__(self, config: EncoderConfig, *, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(dim=config.dim, heads=config.heads)
        self.attention_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.dim, config.ffn), nn.GELU(), nn.Linear(config.ffn, config.dim)
        )
        self.feed_forward_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        x = self.attention_norm(x + self.dropout(self.attention(x, real)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))  # type: ignore[no-any-return]


class TextEncoder(nn.Module):
    """Token ids (b, t), padded with 0, to one vector a text (b, d).

    That is the last layer's [CLS], Que2Search 3.1's sentence embedding, or the mean of the last layer's tokens, for
    pretrained encoders that were trained to be read so.
    """

    def __init__(self, config: EncoderConfig, *, vocabulary: int, max_tokens: int, dropout: float) -> None:
        super().__init__()
        self.dim = config.dim
        self.pooling = config.pooling
        self.token_embedding = nn.Embedding(vocabulary, config.dim, padding_idx=PAD)
        self.position_embedding = nn.Embedding(max_tokens, config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(EncoderLayer(config, dropout=dropout) for _ in range(config.layers))
        self.apply(_initialise)
        self._read: dict[bytes, Tensor] | None = None

    def remember(self) -> None:
        """Learn nothing more, and read every text once: for a frozen encoder in training."""
        self.requires_grad_(requires_grad=False)
        self._read = {}

    def forward(self, token_ids: Tensor) -> Tensor:
        return self._read_once(token_ids, self._read) if self._read is not None else self._pooled(token_ids)

    def _read_once(self, token_ids: Tensor, read: dict[bytes, Tensor]) -> Tensor:
        """(b, d): texts are told apart by their tokens without padding."""
        texts = [row.rstrip(b"\0") for row in map(bytes, token_ids.cpu().numpy())]
        lacking = {text: at for at, text in enumerate(texts) if text not in read}
        if lacking:
            learning = self.training
            self.eval()  # no dropout: the vectors stay
            with torch.no_grad():
                read.update(zip(lacking, self._pooled(token_ids[list(lacking.values())]), strict=True))
            self.train(learning)
        return torch.stack([read[text] for text in texts])

    def _pooled(self, token_ids: Tensor) -> Tensor:
        hidden = self.hidden(token_ids)
        real = (token_ids != PAD).unsqueeze(-1)  # (b, t, 1)
        mean = self.pooling == "mean"
        pooled: Tensor = (hidden * real).sum(dim=1) / real.sum(dim=1).clamp(min=1) if mean else hidden[:, 0]
        return pooled

    def hidden(self, token_ids: Tensor) -> Tensor:
        """The last layer's vector of every token (b, t, d); those of padding mean nothing."""
        real = token_ids != PAD  # (b, t)
        positions = torch.arange(token_ids.size(1), device=token_ids.device)
        x: Tensor = self.token_embedding(token_ids) + self.position_embedding(positions)  # (b, t, d)
        x = self.dropout(self.norm(x))
        for layer in self.layers:
            x = layer(x, real)
        return x


def _initialise(module: nn.Module) -> None:
    """Small normal weights, as BERT and XLM start."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()
