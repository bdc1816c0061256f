"""Distillation: a student tower learns to stand in for its teacher's, over the same document vectors."""

from pathlib import Path

import msgspec
import pytest
import torch

from models.config import RunConfig
from models.data.schema import Dataset
from models.errors import ConfigError, RunError
from models.sections import DistillationConfig
from models.training.checkpoint import Evaluation
from models.training.distillation import distil, retained_recall, title_parts
from models.training.run import Run, record
from tests.helpers import small_config


class Killed(Exception):
    """Raised by a reporter to end a run as a signal would."""


@pytest.fixture
def dataset(dataset_dir: Path) -> Dataset:
    return Dataset.open(dataset_dir)


def student(folder: Path, teacher: Path, *, epochs: int = 12, **values: object) -> RunConfig:
    config = small_config(folder)
    train = msgspec.structs.replace(
        config.train, epochs=epochs, learning_rate=5e-3, encoder_learning_rate=2e-3, patience=99
    )
    return msgspec.structs.replace(config, train=train, distillation=DistillationConfig(teacher=str(teacher), **values))


def test_the_student_finds_what_its_teacher_finds(dataset: Dataset, run_dir: Path, tmp_path: Path) -> None:
    """Nine tenths of the teacher's KNN recall are kept, over a document tower that is the teacher's to the last bit."""
    run = distil(dataset, tmp_path / "student", student(tmp_path, run_dir))
    teacher = Run.open(run_dir)

    assert retained_recall(run, dataset).share > 0.9
    for mine, theirs in zip(run.towers.document.parameters(), teacher.towers.document.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=0, rtol=0)
    assert run.featurizer.hash == teacher.featurizer.hash


def test_a_killed_distillation_resumed_ends_the_same(dataset: Dataset, run_dir: Path, tmp_path: Path) -> None:
    config = student(tmp_path, run_dir, epochs=2)
    whole = distil(dataset, tmp_path / "whole", config)

    def kill(done: int, _most: int, _evaluation: Evaluation | None) -> None:
        if done == 8:
            raise Killed

    with pytest.raises(Killed):
        distil(dataset, tmp_path / "killed", config, report=kill)
    resumed = distil(dataset, tmp_path / "killed", config, resume=True)

    histories = [[e.loss for e in record(run.path).position.history] for run in (whole, resumed)]
    assert histories[0] == pytest.approx(histories[1], abs=1e-6)


def test_parts_of_titles_are_one_to_four_of_its_words(dataset: Dataset) -> None:
    """Each is a run of words of its product's title, and the same seed draws the same."""
    parts = title_parts(dataset, seed=3)
    titles = dict(dataset.products(["product_id", "title"]).iter_rows())

    assert parts.equals(title_parts(dataset, seed=3))
    for query, _, product in parts.iter_rows():
        assert query in titles[product]
        assert 1 <= len(query.split()) <= 4


def test_a_teacher_must_be_a_finished_run(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        distil(dataset, tmp_path / "student", student(tmp_path, tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="names the teacher"):
        distil(dataset, tmp_path / "student", small_config(tmp_path))
