"""Stage 1: the in-batch softmax until the validation ROC AUC stops rising (Que2Search 3.1, 3.3)."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import torch
from torch import nn

from models.config import RunConfig, TrainConfig
from models.data.conversations import training_pairs
from models.data.schema import Dataset
from models.errors import DataError, RunError
from models.features import Featurizer
from models.losses import scaled_softmax, symmetric_scaled_softmax
from models.towers import TwoTowers, as_tensors, build_towers
from models.training.batches import DocumentTable, PairBatch, PairBatches, QueryTable, number_pairs
from models.training.checkpoint import Evaluation, Position, load_checkpoint, save_checkpoint, save_weights
from models.training.prepare import prepare_featurizer
from models.training.run import BEST_FILE, CHECKPOINT_FILE, CONFIG_FILE, Run, finish_run, start_run
from models.training.validation import Validation, validation_examples

Reporter = Callable[[int, int, Evaluation | None], None]  # steps done, steps at most, an evaluation when there is one


def train(
    dataset: Dataset,
    out: Path,
    config: RunConfig,
    *,
    resume: bool = False,
    featurizer: Featurizer | None = None,
    report: Reporter | None = None,
) -> Run:
    """Train both towers on the dataset's pairs and return the run at its best validation ROC AUC.

    A run that was killed goes on with `resume` from its last checkpoint and ends where it would have ended.
    A `featurizer` given is used as it is: a baseline shares the feature space of the run it is compared with.

    Raises:
        DataError: the dataset has too few pairs.
        RunError: nothing to resume, or `out` was started with another configuration.
    """
    torch.set_num_threads(config.train.threads or len(os.sched_getaffinity(0)))
    torch.manual_seed(config.seed)
    split = training_pairs(dataset, seed=config.seed)
    if len(split.train) < config.train.batch:
        raise DataError(
            f"{dataset.path} gives {len(split.train)} training pairs, fewer than train.batch={config.train.batch}"
        )
    resume = resume and _has_checkpoint(out)
    if resume:
        featurizer = Featurizer.load(out)
    else:
        featurizer = featurizer or prepare_featurizer(dataset, split.train, config.features)
        start_run(out, config, featurizer)
    documents = DocumentTable(dataset, featurizer)
    examples = validation_examples(dataset.judgements(), split.validation, documents=documents, seed=config.seed)
    trainer = Trainer(
        out,
        config.train,
        identity=run_identity(config, dataset),
        towers=build_towers(config.model, featurizer.spec, vocabulary=featurizer.vocabulary),
        batches=_pair_batches(split.train, documents, featurizer, config),
        validation=Validation(examples, documents=documents, featurizer=featurizer),
        report=report or (lambda _done, _most, _evaluation: None),
    )
    if resume:
        trainer.restore()
    position = trainer.run()
    weak = bool(split.train["weak"].any())
    finish_run(out, dataset, pairs=len(split.train), weak_pairs=weak, towers=trainer.towers, position=position)
    return Run.open(out)


class Trainer:
    """The loop: steps, evaluations, checkpoints."""

    def __init__(
        self,
        out: Path,
        config: TrainConfig,
        *,
        identity: str,
        towers: TwoTowers,
        batches: PairBatches,
        validation: Validation,
        report: Reporter,
    ) -> None:
        self.towers = towers
        self._out = out
        self._config = config
        self._batches = batches
        self._validation = validation
        self._report = report
        self._optimizer = build_optimizer(towers, config)
        self._position = Position(identity=identity)
        self._most_steps = config.epochs * len(batches)

    def restore(self) -> None:
        """Go back to the last checkpoint, random state included.

        Raises:
            RunError: it is damaged, or of another configuration or dataset.
        """
        path = self._out / CHECKPOINT_FILE
        position = load_checkpoint(path, towers=self.towers, optimizer=self._optimizer)
        if position.identity != self._position.identity:
            raise RunError(f"{path} was made with another configuration or dataset; train without --resume")
        self._position = position

    def run(self) -> Position:
        """Train to the end: no better for `patience` evaluations, or `epochs` done."""
        position, per_epoch = self._position, len(self._batches)
        while not position.finished:
            epoch, done = divmod(position.step, per_epoch)
            for batch in self._batches.epoch(epoch, skip=done):
                started = time.perf_counter()
                position.loss_sum += self._step(batch)
                position.loss_steps += 1
                position.step += 1
                position.seconds += time.perf_counter() - started
                self._report(position.step, self._most_steps, None)
                if position.step % per_epoch == 0:
                    self._evaluate(epoch)
                    self._save()
                elif position.step % self._config.checkpoint_steps == 0:
                    self._save()
        return position

    def _step(self, batch: PairBatch) -> float:
        self.towers.train()
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * rate_at(self._position.step, self._most_steps, self._config)
        loss = stage_one_loss(self.towers, batch, self._config)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.towers.parameters(), self._config.clip)
        self._optimizer.step()
        return float(loss.detach())

    def _evaluate(self, epoch: int) -> None:
        position = self._position
        evaluation = Evaluation(
            step=position.step,
            epoch=epoch,
            loss=position.loss_sum / position.loss_steps,
            roc_auc=self._validation.roc_auc(self.towers),
            seconds=position.seconds,
        )
        position.history.append(evaluation)
        position.loss_sum, position.loss_steps = 0.0, 0
        if evaluation.roc_auc > position.best_roc_auc:
            position.best_roc_auc, position.best_step = evaluation.roc_auc, position.step
            position.evaluations_without_gain = 0
            save_weights(self._out / BEST_FILE, self.towers)
        else:
            position.evaluations_without_gain += 1
        stale = position.evaluations_without_gain >= self._config.patience
        position.finished = stale or position.step >= self._most_steps
        self._report(position.step, self._most_steps, evaluation)

    def _save(self) -> None:
        save_checkpoint(
            self._out / CHECKPOINT_FILE,
            towers=self.towers,
            optimizer=self._optimizer,
            position=self._position,
        )


def stage_one_loss(towers: TwoTowers, batch: PairBatch, config: TrainConfig) -> torch.Tensor:
    """Eq. 2 or Eq. 3 over one batch's cosines."""
    queries = towers.query(*as_tensors(batch.queries, towers.query))  # (b, d)
    documents = towers.document(*as_tensors(batch.documents, towers.document))  # (b, d)
    loss = symmetric_scaled_softmax if config.symmetric else scaled_softmax
    known = torch.from_numpy(batch.known_positives)
    return loss(queries @ documents.T, scale=config.scale, known_positives=known)


def build_optimizer(towers: TwoTowers, config: TrainConfig) -> torch.optim.Adam:
    """Adam with a rate of its own for the text encoders (Que2Search 3.1)."""
    encoder = towers.encoder_parameters()
    encoder_ids = {id(parameter) for parameter in encoder}
    others = [parameter for parameter in towers.parameters() if id(parameter) not in encoder_ids]
    groups = [
        {"params": others, "peak": config.learning_rate},
        {"params": encoder, "peak": config.encoder_learning_rate},
    ]
    return torch.optim.Adam([group for group in groups if group["params"]], fused=True)


def rate_at(step: int, most_steps: int, config: TrainConfig) -> float:
    """The share of the peak learning rate: a linear rise, then (with `decay`) a linear fall to a tenth."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if not config.decay:
        return 1.0
    done = (step - config.warmup_steps) / max(1, most_steps - config.warmup_steps)
    return 1.0 - 0.9 * min(1.0, done)


def _pair_batches(
    pairs: pl.DataFrame, documents: DocumentTable, featurizer: Featurizer, config: RunConfig
) -> PairBatches:
    numbered = number_pairs(pairs, documents)
    return PairBatches(
        np.stack([numbered.query_rows, numbered.document_rows], axis=1),
        queries=QueryTable(numbered.queries, featurizer),
        documents=documents,
        batch=config.train.batch,
        seed=config.seed,
    )


def _has_checkpoint(out: Path) -> bool:
    """Whether there is one; a run that was killed before its first begins again."""
    if not (out / CONFIG_FILE).exists():
        raise RunError(f"nothing to resume in {out}; train without --resume")
    return (out / CHECKPOINT_FILE).exists()


def run_identity(config: RunConfig, dataset: Dataset) -> str:
    """A resumed run must go on with the configuration and the data that it was started with."""
    return hashlib.sha256(msgspec.json.encode((config, dataset.manifest))).hexdigest()
