"""Pre-training of a text encoder on a dataset's own text, by masked language model, as XLM was.

The outcome is an encoder directory in the layout that every pretrained encoder has, so `train --encoder DIR` starts
from it as from any other.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import RunConfig
from models.data.conversations import training_pairs
from models.data.schema import Dataset
from models.encoder import TextEncoder
from models.errors import DataError, RunError
from models.features import Featurizer
from models.pretrained import save_pretrained
from models.sections import PretrainConfig
from models.tokenizers import PAD, UNKNOWN_PIECE
from models.training.batches import Ragged
from models.training.checkpoint import read_tensors, write_tensors
from models.training.prepare import prepare_featurizer
from models.training.run import run_identity

RECORD_FILE = "pretraining.json"
CHECKPOINT_FILE = "checkpoint.safetensors"
# Our vocabularies have no [MASK]. The unknown piece stands in: text that the vocabulary was made of hardly has it.
MASK = UNKNOWN_PIECE
KEPT, RANDOM = 0.1, 0.1  # of the masked positions; the other 80 % show the mask, as in BERT
HELD_OUT_EVERY = 50  # texts
WINDOW = 32  # batches whose texts are sorted by length together
SPECIALS = 3  # ids below are padding, unknown and [CLS]: never masked, never drawn

Reporter = Callable[[int, int, "MaskedLoss | None"], None]  # steps done, steps at most, a look when there is one


class MaskedLoss(msgspec.Struct, frozen=True, kw_only=True):
    """A look at the held-out texts."""

    step: int
    loss: float  # cross-entropy of the masked positions
    accuracy: float  # of the masked positions, the share that is guessed
    seconds: float


class Progress(msgspec.Struct, kw_only=True):
    """How far a pre-training has come; `pretraining.json` in the end."""

    identity: str
    texts: int
    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    history: list[MaskedLoss] = msgspec.field(default_factory=list)


class MaskedLanguageModel(nn.Module):
    """The encoder, and a guess at every masked token through its own embedding table."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.transform = nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.GELU(), nn.LayerNorm(encoder.dim))
        self.bias = nn.Parameter(torch.zeros(len(encoder.token_embedding.weight)))

    def forward(self, token_ids: Tensor, masked: Tensor) -> Tensor:
        """Logits (m, vocabulary) of the m masked positions, which `masked` (b, t) bool marks."""
        hidden = self.transform(self.encoder.hidden(token_ids)[masked])  # (m, d)
        return F.linear(hidden, self.encoder.token_embedding.weight, self.bias)


def pretrain(
    dataset: Dataset, out: Path, config: RunConfig, *, tower: str, resume: bool = False, report: Reporter | None = None
) -> Progress:
    """Train the encoder that `tower` (query or document) is configured with, and write its directory.

    Raises:
        DataError: too little text.
        RunError: nothing to resume, or `out` was started with another configuration or dataset.
    """
    torch.set_num_threads(config.train.threads or len(os.sched_getaffinity(0)))
    torch.manual_seed(config.seed)
    sizes = config.model.query_encoder if tower == "query" else config.model.document_encoder
    pairs = training_pairs(dataset, seed=config.seed).train
    featurizer = prepare_featurizer(dataset, pairs, config)
    texts = Ragged(list(_token_ids(dataset, pairs["query"].unique(maintain_order=True).to_list(), featurizer, config)))
    settings = config.pretrain
    if len(texts.lengths) < 2 * settings.batch:
        raise DataError(
            f"{dataset.path} has {len(texts.lengths)} texts, fewer than two of pretrain.batch={settings.batch}"
        )
    longest = max(config.features.title_tokens, config.features.description_tokens)
    encoder = TextEncoder(sizes, vocabulary=featurizer.vocabulary, max_tokens=longest, dropout=config.model.dropout)
    progress = Progress(identity=f"{tower} {run_identity(config, dataset)}", texts=len(texts.lengths))
    pretraining = Pretraining(out, settings, texts, MaskedLanguageModel(encoder), progress, seed=config.seed)
    if resume:
        pretraining.restore()
    pretraining.run(report or (lambda _done, _most, _look: None))
    save_pretrained(out, encoder, sizes, featurizer.tokenizer)
    (out / RECORD_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(pretraining.progress)))
    return pretraining.progress


class Pretraining:
    """The loop: steps, looks at held-out texts, checkpoints."""

    def __init__(
        self,
        out: Path,
        config: PretrainConfig,
        texts: Ragged,
        model: MaskedLanguageModel,
        progress: Progress,
        *,
        seed: int,
    ) -> None:
        self.progress = progress
        self._out = out
        self._config = config
        self._texts = texts
        self._model = model
        self._seed = seed
        self._adam = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
        every = np.arange(len(texts.lengths))
        self._held_out, self._seen = every[::HELD_OUT_EVERY], np.setdiff1d(every, every[::HELD_OUT_EVERY])
        self._per_epoch = len(self._seen) // config.batch
        self._most = self._per_epoch * config.epochs

    def restore(self) -> None:
        """Go back to the last checkpoint; before the first, begin again.

        Raises:
            RunError: nothing was started there, or it was something else.
        """
        path = self._out / CHECKPOINT_FILE
        if not path.exists():
            raise RunError(f"nothing to resume in {self._out}; pretrain without --resume")
        metadata = read_tensors(path, learned=self._model, optimizer=self._adam)
        progress = msgspec.json.decode(metadata, type=Progress)
        if progress.identity != self.progress.identity:
            raise RunError(f"{path} was made with another configuration or dataset; pretrain without --resume")
        self.progress = progress

    def run(self, report: Reporter) -> None:
        """All epochs; a look and a checkpoint at the end of each, checkpoints in between."""
        self._out.mkdir(parents=True, exist_ok=True)
        progress = self.progress
        while progress.step < self._most:
            epoch, done = divmod(progress.step, self._per_epoch)
            for rows in self._order(epoch)[done:]:
                started = time.perf_counter()
                self._step(rows)
                progress.step += 1
                progress.seconds += time.perf_counter() - started
                report(progress.step, self._most, None)
                if progress.step % self._per_epoch == 0:
                    progress.history.append(self._look())
                    report(progress.step, self._most, progress.history[-1])
                if progress.step % self._config.checkpoint_steps == 0 or progress.step % self._per_epoch == 0:
                    self._save()

    def _order(self, epoch: int) -> np.ndarray:
        """Texts of each batch (batches, b); within a window texts of like length meet, so little is padding."""
        draw = np.random.default_rng([self._seed, epoch])
        size = self._config.batch
        order = draw.permutation(self._seen)[: self._per_epoch * size]
        for start in range(0, len(order), WINDOW * size):
            window = order[start : start + WINDOW * size]
            order[start : start + WINDOW * size] = window[np.argsort(self._texts.lengths[window], kind="stable")]
        batches: np.ndarray = draw.permutation(order.reshape(self._per_epoch, size))
        return batches

    def _step(self, rows: np.ndarray) -> None:
        config, step = self._config, self.progress.step
        torch.manual_seed(self._seed * 1_000_003 + step)  # what a step draws follows from its number: resuming is exact
        self._model.train()
        rising = min(1.0, (step + 1) / config.warmup_steps)
        for group in self._adam.param_groups:
            group["lr"] = config.learning_rate * min(rising, max(0.02, 1 - step / self._most))
        self._adam.zero_grad(set_to_none=True)
        loss, _, tokens = self._masked_loss(rows)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._adam.step()
        self.progress.tokens += tokens

    def _look(self) -> MaskedLoss:
        """The held-out texts, each time under the same masks."""
        torch.manual_seed(self._seed)
        self._model.eval()
        order = self._held_out[np.argsort(self._texts.lengths[self._held_out], kind="stable")]
        looks = []
        with torch.inference_mode():
            for start in range(0, len(order), self._config.batch):
                loss, right, _ = self._masked_loss(order[start : start + self._config.batch])
                looks.append((float(loss) * len(right), float(right.sum()), len(right)))
        losses, rights, counts = (sum(column) for column in zip(*looks, strict=True))
        progress = self.progress
        return MaskedLoss(
            step=progress.step, loss=losses / counts, accuracy=rights / counts, seconds=round(progress.seconds, 1)
        )

    def _masked_loss(self, rows: np.ndarray) -> tuple[Tensor, Tensor, int]:
        """The masked positions' mean cross-entropy, (m,) which of them are guessed, and the tokens read."""
        token_ids = torch.from_numpy(self._texts.padded(rows))
        shown, masked = mask(token_ids, share=self._config.masked_share, vocabulary=len(self._model.bias))
        logits = self._model(shown, masked)
        wanted = token_ids[masked]
        return F.cross_entropy(logits, wanted), logits.argmax(dim=1) == wanted, int((token_ids != PAD).sum())

    def _save(self) -> None:
        write_tensors(
            self._out / CHECKPOINT_FILE,
            learned=self._model,
            optimizer=self._adam,
            metadata=msgspec.json.encode(self.progress).decode(),
        )


def mask(token_ids: Tensor, *, share: float, vocabulary: int) -> tuple[Tensor, Tensor]:
    """What the model is shown (b, t), and which positions it must guess (b, t) bool; one at least.

    Of the guessed positions 80 % show the mask, 10 % another token, 10 % themselves (BERT 3.1).
    """
    real = token_ids >= SPECIALS
    draws = torch.rand(token_ids.shape).masked_fill(~real, 2.0)
    masked = (draws < share) | (draws == draws.min())
    masked &= real
    fate = torch.rand(token_ids.shape)
    others = torch.randint(SPECIALS, vocabulary, token_ids.shape)
    shown = torch.where(masked & (fate >= KEPT + RANDOM), MASK, token_ids)
    return torch.where(masked & (fate < RANDOM), others, shown), masked


def _token_ids(dataset: Dataset, queries: list[str], featurizer: Featurizer, config: RunConfig) -> Iterator[list[int]]:
    """Titles, descriptions and queries, cut as the towers cut them; those of a single token are left out."""
    features = config.features
    for batch in dataset.product_batches():
        for column, limit in (("title", features.title_tokens), ("description", features.description_tokens)):
            for text in batch[column].to_pylist():
                ids = featurizer.text_ids(text or "", limit).tokens
                if len(ids) > 2:
                    yield ids
    for query in queries:
        ids = featurizer.text_ids(query, featurizer.spec.query_tokens).tokens
        if len(ids) > 2:
            yield ids
