"""The curriculum (Que2Search 3.3): which loss is trained when, and when a stage is over."""

from typing import NamedTuple

from models.config import RunConfig
from models.sections import LossConfig
from models.training.checkpoint import Position


class Stage(NamedTuple):
    """A part of the training with a loss of its own."""

    number: int  # 1 or 2
    loss: LossConfig
    epochs: int  # at most
    patience: int  # evaluations without a gain that end it
    rate_share: float  # of the configured learning rates
    decay_epochs: int  # over which the rates fall; 0: never
    first_epoch: int  # batches are ordered by it and those after it: no epoch of another stage is repeated


def stages(config: RunConfig) -> list[Stage]:
    """Stage 1, and stage 2 where there is a curriculum. Started `immediately`, stage 2's loss is all there is."""
    train, curriculum = config.train, config.curriculum
    first = Stage(1, train.loss, train.epochs, train.patience, 1.0, train.decay_epochs, 0)
    if curriculum is None:
        return [first]
    if curriculum.start == "immediately":
        return [first._replace(loss=curriculum.loss)]
    share = curriculum.learning_rate_share
    return [first, Stage(2, curriculum.loss, curriculum.epochs, curriculum.patience, share, 0, train.epochs)]


def note_evaluation(position: Position, roc_auc: float, *, least_gain: float) -> bool:
    """Whether these weights are the run's best so far; a stage's patience counts from its own best."""
    if roc_auc > position.stage_best_roc_auc + least_gain:
        position.stage_best_roc_auc = roc_auc
        position.evaluations_without_gain = 0
    else:
        position.evaluations_without_gain += 1
    if roc_auc <= position.best_roc_auc:
        return False
    position.best_roc_auc, position.best_step = roc_auc, position.step
    return True


def stage_is_over(position: Position, stage: Stage, *, steps: int) -> bool:
    """Early, for want of gains, or because its `steps` are used up."""
    return _stopped_early(position, stage) or position.step - position.stage_start >= steps


def next_stage(position: Position, stage: Stage, plan: list[Stage]) -> Stage | None:
    """The stage after one that is over: stage 2 only where stage 1 converged, for before that it does not help."""
    if stage.number == 1:
        position.stage_one_converged = _stopped_early(position, stage)
    if stage is plan[-1] or not position.stage_one_converged:
        return None
    return plan[plan.index(stage) + 1]


def enter(position: Position, stage: Stage) -> None:
    """Begin the stage at the present step. What it is to better is the best that the last one left it with."""
    position.stage, position.stage_start = stage.number, position.step
    position.stage_best_roc_auc = position.best_roc_auc
    position.evaluations_without_gain = 0


def _stopped_early(position: Position, stage: Stage) -> bool:
    return position.evaluations_without_gain >= stage.patience
