"""The curriculum: stage 2 follows a stage 1 that converged, and no other."""

from pathlib import Path

import msgspec
import pytest

from models.config import RunConfig
from models.sections import CurriculumConfig, MarginRank, ScaledSoftmax
from models.training.checkpoint import Position
from models.training.curriculum import Stage, enter, next_stage, note_evaluation, stage_is_over, stages
from tests.helpers import small_config


def with_curriculum(folder: Path, **values: object) -> RunConfig:
    return msgspec.structs.replace(small_config(folder), curriculum=CurriculumConfig(**values))


def looked_at(position: Position, roc_aucs: list[float], *, least_gain: float = 0.0) -> list[bool]:
    """Evaluate once per step."""
    kept = []
    for roc_auc in roc_aucs:
        position.step += 1
        kept.append(note_evaluation(position, roc_auc, least_gain=least_gain))
    return kept


def test_there_are_two_stages_with_a_loss_each(tmp_path: Path) -> None:
    """Softmax first, the margin over the hardest negatives second, at a tenth of the rates, on epochs not seen yet."""
    first, second = stages(with_curriculum(tmp_path))

    assert (1, ScaledSoftmax(), 1.0, 0) == (first.number, first.loss, first.rate_share, first.first_epoch)
    assert (2, MarginRank(), 0.1) == (second.number, second.loss, second.rate_share)
    assert first.epochs == second.first_epoch


def test_started_immediately_the_second_loss_is_all_there_is(tmp_path: Path) -> None:
    (only,) = stages(with_curriculum(tmp_path, start="immediately"))

    assert (1, MarginRank(), 1.0) == (only.number, only.loss, only.rate_share)


@pytest.mark.parametrize(
    ("roc_aucs", "converged"),
    [([0.6, 0.7, 0.69, 0.7], True), ([0.6, 0.7, 0.71, 0.72], False)],
)
def test_stage_two_follows_only_what_converged(roc_aucs: list[float], *, converged: bool, tmp_path: Path) -> None:
    """Two evaluations without a gain are convergence; four steps used up while it still rises are not."""
    plan = [stage._replace(patience=2) for stage in stages(with_curriculum(tmp_path))]
    position = Position(identity="")
    looked_at(position, roc_aucs)

    assert stage_is_over(position, plan[0], steps=4)
    assert (plan[1] if converged else None) == next_stage(position, plan[0], plan)
    assert converged is position.stage_one_converged


def test_a_gain_too_small_keeps_the_weights_but_not_the_patience() -> None:
    """0.7004 is the run's best and is kept; with a least gain of 0.001 it does not put off the end."""
    position = Position(identity="")

    assert [True, True, False] == looked_at(position, [0.7, 0.7004, 0.69], least_gain=0.001)
    assert 2 == position.evaluations_without_gain
    assert (0.7004, 2) == (position.best_roc_auc, position.best_step)


def test_a_stage_has_to_better_what_the_last_one_reached() -> None:
    """Entered at 0.8, three looks at less end a stage of patience 3, and the weights of stage 1 stay the best."""
    position = Position(identity="")
    looked_at(position, [0.8])
    enter(position, Stage(2, MarginRank(), 1, 3, 0.1, 0, 4))

    assert [False, False, False] == looked_at(position, [0.79, 0.78, 0.77])
    assert stage_is_over(position, Stage(2, MarginRank(), 1, 3, 0.1, 0, 4), steps=100)
    assert 1 == position.best_step
