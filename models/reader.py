"""A pretrained encoder as it comes: texts in, vectors out. It teaches, and it is a baseline."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from models.encoder import TextEncoder
from models.features import pad
from models.pretrained import encoder_sizes, load_encoder, tokenizer_in
from models.sections import EncoderConfig

READ_AT_ONCE = 128  # texts

TextsRead = Callable[[int, int], None]  # so many, of so many


class PretrainedReader:
    """The encoder of a directory in Hugging Face layout, with its own tokenizer and pooling.

    Args:
        tokens: of a text, at most; the rest is cut.

    Raises:
        ConfigError: the directory is not an encoder that can be read.
    """

    def __init__(self, directory: Path, *, tokens: int) -> None:
        self._tokenizer = tokenizer_in(directory)
        self._tokens = tokens
        sizes = EncoderConfig(**encoder_sizes(directory))
        self._encoder = TextEncoder(sizes, vocabulary=self._tokenizer.size, max_tokens=tokens, dropout=0.0).eval()
        load_encoder(self._encoder, directory)

    def vectors(self, texts: Sequence[str], *, progress: TextsRead | None = None) -> np.ndarray:
        """(n, d) float32, rows of norm 1. The longest are read first, so that the time left is no surprise."""
        ids = [self._tokenizer.encode(text, self._tokens)[0] for text in texts]
        order = np.argsort([-len(row) for row in ids], kind="stable")
        found = np.zeros((len(texts), self._encoder.dim), dtype=np.float32)
        for start in range(0, len(texts), READ_AT_ONCE):
            at = order[start : start + READ_AT_ONCE]
            with torch.inference_mode():
                read = self._encoder(torch.from_numpy(pad([ids[row] for row in at])))
            found[at] = F.normalize(read, dim=-1).numpy()
            if progress is not None:
                progress(min(start + READ_AT_ONCE, len(texts)), len(texts))
        return found
