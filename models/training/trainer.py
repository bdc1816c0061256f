"""The training loop: steps, evaluations, checkpoints, and what an epoch or a stage begins with."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from models.config import RunConfig
from models.errors import ConfigError, RunError
from models.sections import TrainConfig
from models.towers import TwoTowers
from models.training.batches import PairBatch, PairBatches
from models.training.checkpoint import (
    Evaluation,
    Position,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)
from models.training.curriculum import Stage, enter, next_stage, note_evaluation, stage_is_over, stages
from models.training.measures import Measures
from models.training.objective import Objective
from models.training.ranks import Ranks
from models.training.run import BEST_FILE, CHECKPOINT_FILE
from models.training.steps import backward
from models.training.validation import Validation

Reporter = Callable[[int, int, Evaluation | None], None]  # steps done, steps at most, an evaluation when there is one


class Trainer:
    """The loop: steps, evaluations, checkpoints, and what an epoch or a stage begins with."""

    def __init__(
        self,
        out: Path,
        config: RunConfig,
        *,
        identity: str,
        towers: TwoTowers,
        objective: Objective,
        batches: PairBatches,
        measures: Measures,
        validation: Validation,
        ranks: Ranks,
        report: Reporter,
    ) -> None:
        self._out = out
        self._config = config
        self._train = config.train
        self.towers = towers
        self.objective = objective
        self._learned = nn.ModuleDict({"towers": towers, "objective": objective})
        self._batches = batches
        self._measures = measures
        self._validation = validation
        self._ranks = ranks
        self._report = report
        self._bfloat16 = wants_bfloat16(config.train, towers.query.device)
        self._stages = stages(config)
        self._position = Position(identity=identity)
        self._enter(self._stages[0])

    def restore(self) -> None:
        """Go back to the last checkpoint.

        Raises:
            RunError: it is damaged, or of another configuration or dataset.
        """
        path = self._out / CHECKPOINT_FILE
        position = load_checkpoint(path, learned=self._learned, optimizer=self._optimizer)
        if position.identity != self._position.identity:
            raise RunError(f"{path} was made with another configuration or dataset; train without --resume")
        self._position = position
        self._stage = self._stages[position.stage - 1]
        self.objective.loss = self._stage.loss

    def run(self) -> Position:
        """Train to the end: every stage until it is no better for `patience` evaluations, or its epochs are done."""
        while not self._position.finished:
            epoch, done = divmod(self._position.step - self._position.stage_start, len(self._batches))
            self._measures.begin_epoch(epoch, self._stage, self._position, begun=done > 0)
            self._run_epoch(epoch, done)
        return self._position

    def _run_epoch(self, epoch: int, done: int) -> None:
        """The epoch's batches, until its end or its stage's."""
        position, stage = self._position, self._stage
        due = evaluation_steps(len(self._batches), self._train.evaluations_per_epoch)
        for batch in self._batches.epoch(stage.first_epoch + epoch, skip=done, hard=self._measures.hard):
            started = time.perf_counter()
            position.loss_sum += self._step(batch)
            position.loss_steps += 1
            position.step += 1
            done += 1
            position.seconds += time.perf_counter() - started
            self._report(position.step, self._most_steps, None)
            if done in due:
                self._evaluate()
                if stage_is_over(position, stage, steps=self._steps_of(stage)):
                    self._end_stage()
                    self._save()
                    return
            if done in due or position.step % self._train.checkpoint_steps == 0:
                self._save()

    def _step(self, batch: PairBatch) -> float:
        """One step of Adam. Its random draws follow from seed and step, so a resumed run draws the same."""
        self._learned.train()
        step = self._position.step - self._position.stage_start
        decay_steps = self._stage.decay_epochs * len(self._batches)
        rate = self._stage.rate_share * rate_at(step, self._train, decay_steps=decay_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        self._optimizer.zero_grad(set_to_none=True)
        loss = backward(
            self.towers,
            self.objective,
            batch,
            queries=self._batches.queries,
            documents=self._batches.documents,
            chunk=self._train.chunk,
            ranks=self._ranks,
            seed=self._config.seed * 1_000_003 + self._position.step,
            bfloat16=self._bfloat16,
        )
        nn.utils.clip_grad_norm_(self._learned.parameters(), self._train.clip)
        self._optimizer.step()
        return float(loss)

    def _evaluate(self) -> None:
        position = self._position
        evaluation = Evaluation(
            stage=position.stage,
            step=position.step,
            epoch=(position.step - position.stage_start) / len(self._batches),
            loss=position.loss_sum / position.loss_steps,
            roc_auc=self._ranks.agree(self._validation.roc_auc(self.towers)),
            seconds=position.seconds,
        )
        position.history.append(evaluation)
        position.loss_sum, position.loss_steps = 0.0, 0
        if note_evaluation(position, evaluation.roc_auc, least_gain=self._train.least_gain) and self._ranks.is_main:
            save_weights(self._out / BEST_FILE, self.towers)
        self._report(position.step, self._most_steps, evaluation)

    def _end_stage(self) -> None:
        """On to the next stage, from the best weights so far; or the end."""
        following = next_stage(self._position, self._stage, self._stages)
        if following is None:
            self._position.finished = True
            return
        self._ranks.barrier()
        load_weights(self._out / BEST_FILE, self.towers)
        enter(self._position, following)
        self._enter(following)

    def _enter(self, stage: Stage) -> None:
        """Its loss, and an optimizer that has no memory of another stage's."""
        self._stage = stage
        self.objective.loss = stage.loss
        self._optimizer: torch.optim.Adam = build_optimizer(self.towers, self.objective, self._train)

    def _save(self) -> None:
        if self._ranks.is_main:
            path = self._out / CHECKPOINT_FILE
            save_checkpoint(path, learned=self._learned, optimizer=self._optimizer, position=self._position)

    def _steps_of(self, stage: Stage) -> int:
        return stage.epochs * len(self._batches)

    @property
    def _most_steps(self) -> int:
        return self._position.stage_start + self._steps_of(self._stage)


def evaluation_steps(per_epoch: int, evaluations: int) -> set[int]:
    """After how many steps of an epoch to look at the validation data: evenly, and always at its end."""
    return {max(1, round(per_epoch * (at + 1) / evaluations)) for at in range(evaluations)}


def build_optimizer(towers: TwoTowers, objective: nn.Module, config: TrainConfig) -> torch.optim.Adam:
    """Adam with a rate of its own for the text encoders (Que2Search 3.1)."""
    encoder = towers.encoder_parameters()
    encoder_ids = {id(parameter) for parameter in encoder}
    encoder = [parameter for parameter in encoder if parameter.requires_grad]  # none of a frozen one's
    others = [parameter for parameter in towers.parameters() if id(parameter) not in encoder_ids]
    groups = [
        {"params": [*others, *objective.parameters()], "peak": config.learning_rate},
        {"params": encoder, "peak": config.encoder_learning_rate},
    ]
    return torch.optim.Adam([group for group in groups if group["params"]], fused=True)


def rate_at(step: int, config: TrainConfig, *, decay_steps: int) -> float:
    """The share of the peak learning rate: a linear rise, then a linear fall to a tenth by `decay_steps`, unless 0."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if not decay_steps:
        return 1.0
    done = (step - config.warmup_steps) / max(1, decay_steps - config.warmup_steps)
    return 1.0 - 0.9 * min(1.0, done)


def training_device(config: TrainConfig) -> torch.device:
    """The GPU where there is one, unless the configuration says otherwise; under torchrun the process's own.

    Raises:
        ConfigError: `cuda` was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ConfigError("train.device='cuda', but torch sees no GPU; use 'auto' or 'cpu'")
    if config.device == "cpu" or not available:
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def wants_bfloat16(config: TrainConfig, device: torch.device) -> bool:
    """`auto`: where the GPU computes in it; CPUs without matrix units only lose by it."""
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return config.precision == "bfloat16"
