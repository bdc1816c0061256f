"""A pretrained encoder teaches both towers its in-batch similarities, beside the pairs' own loss."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models.config import RunConfig, load_config
from models.data.schema import Dataset
from models.errors import ConfigError
from models.evaluation.evaluate import trigram_variant
from models.reader import PretrainedReader
from models.sections import TeacherConfig
from models.towers import Views
from models.training.batches import PairBatch
from models.training.checkpoint import Evaluation
from models.training.objective import Objective
from models.training.run import TEACHER_FILE, record
from models.training.teacher import Teacher, load_teacher, read_by_teacher
from models.training.train import train
from tests.helpers import small_config, small_encoder


class Killed(Exception):
    """Raised by a reporter to end a run as a signal would."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder in Hugging Face layout, read by the mean of its tokens."""
    out = tmp_path_factory.mktemp("encoder")
    small_encoder(out)
    return out


@pytest.fixture
def dataset(dataset_dir: Path) -> Dataset:
    return Dataset.open(dataset_dir)


def taught(folder: Path, directory: Path, **values: object) -> RunConfig:
    return msgspec.structs.replace(
        small_config(folder), teacher=TeacherConfig(encoder=str(directory), tokens=40, **values)
    )


def views(*rows: list[float]) -> Views:
    vectors = torch.tensor(rows).unsqueeze(1)
    return Views(vectors, torch.ones(vectors.shape[:2], dtype=torch.bool))


PAIRS = PairBatch(np.array([1, 0]), np.array([0, 2]), np.eye(2, dtype=bool))


def test_the_loss_is_the_divergence_of_the_softmaxes() -> None:
    """Worked by hand: the student's cosines are 0, the teacher's of query 1 are 1 and 0, of query 0 are 0 and 1.

    At scale 1 the teacher's shares are e/(e+1) = 0.7311 and 0.2689, the student's a half each, so both rows have
    KL = 0.7311 ln(0.7311/0.5) + 0.2689 ln(0.2689/0.5) = 0.1109; weight 2 makes it 0.2219. Rows are looked up.
    """
    config = TeacherConfig(encoder="unused", weight=2.0, scale=1.0)
    queries, documents = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [9.0, 9.0], [0.0, 1.0]])
    teacher = Teacher(config, queries=queries, documents=documents)
    far = views([0.0, 0.0, 1.0], [0.0, 0.0, 1.0]), views([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])

    assert 0.2219 == pytest.approx(teacher(*far, PAIRS).item(), abs=1e-4)
    assert 0.0 == pytest.approx(
        teacher(views([1.0, 0.0], [0.0, 1.0]), views([1.0, 0.0], [0.0, 1.0]), PAIRS).item(), abs=1e-6
    )


def test_the_pairs_own_loss_is_weighted_beside_it() -> None:
    """Objective = pair_weight x loss + the teacher's; without a teacher it is the loss."""
    config = load_config().train.loss
    queries, documents = torch.eye(3)[:2], torch.eye(3)
    given = views([0.8, 0.6, 0.0], [0.0, 1.0, 0.0]), views([1.0, 0.0, 0.0], [0.0, 0.6, 0.8])
    teacher = Teacher(TeacherConfig(encoder="unused", pair_weight=0.25), queries=queries, documents=documents)
    alone, beside = Objective(config)(*given, PAIRS), Objective(config, teacher=teacher)(*given, PAIRS)

    assert beside.item() == pytest.approx(0.25 * alone.item() + teacher(*given, PAIRS).item(), abs=1e-6)


def test_a_taught_run_comes_near_its_teacher(dataset: Dataset, directory: Path, tmp_path: Path) -> None:
    """The pairs' loss off, the objective falls towards 0: the towers' similarities become the teacher's."""
    config = taught(tmp_path, directory, pair_weight=0.0)
    config = msgspec.structs.replace(config, train=msgspec.structs.replace(config.train, epochs=6, patience=99))
    history = record(train(dataset, tmp_path / "run", config).path).position.history

    assert history[-1].loss < 0.5 * history[0].loss


def test_a_killed_run_goes_on_with_what_its_teacher_read(dataset: Dataset, directory: Path, tmp_path: Path) -> None:
    """The texts are read once; resumed, it ends where an uninterrupted one ends."""
    config, readings = taught(tmp_path, directory), []
    whole = train(dataset, tmp_path / "whole", config)

    def kill(done: int, _most: int, _evaluation: Evaluation | None) -> None:
        if done == 8:
            raise Killed

    def reading(done: int, most: int) -> None:
        readings.append((done, most))

    with pytest.raises(Killed):
        train(dataset, tmp_path / "killed", config, report=kill, reading=reading)
    assert readings[-1][0] == readings[-1][1] > dataset.product_count
    read = len(readings)
    resumed = train(dataset, tmp_path / "killed", config, resume=True, reading=reading)

    assert read == len(readings)
    histories = [[e.loss for e in record(run.path).position.history] for run in (whole, resumed)]
    assert histories[0] == pytest.approx(histories[1], abs=1e-6)


def test_texts_are_read_again_only_where_they_differ(directory: Path, tmp_path: Path) -> None:
    """The same texts and encoder: the file stays. A damaged file, another text or another cut: read anew."""
    path, config = tmp_path / TEACHER_FILE, TeacherConfig(encoder=str(directory), tokens=40)
    path.write_bytes(b"damaged")

    def is_read(config: TeacherConfig, *titles: str) -> bool:
        readings: list[int] = []
        read_by_teacher(
            config,
            path,
            queries=["lamp"],
            products=[(title, None) for title in titles],
            progress=lambda done, _most: readings.append(done),
        )
        return bool(readings)

    assert is_read(config, "red lamp", "sofa")
    assert not is_read(config, "red lamp", "sofa")
    assert is_read(config, "red lamp", "green sofa")
    assert is_read(msgspec.structs.replace(config, tokens=4), "red lamp", "green sofa")
    assert (2, 16) == load_teacher(config, path)._documents.shape


def test_the_trigram_variant_has_the_same_teacher(dataset: Dataset, directory: Path, tmp_path: Path) -> None:
    """The baseline differs from the run in its channels alone, and nothing is read again for it."""
    run = train(dataset, tmp_path / "run", taught(tmp_path, directory))
    variant = trigram_variant(run, dataset)

    assert variant.config.teacher == run.config.teacher
    assert (variant.path / TEACHER_FILE).samefile(run.path / TEACHER_FILE)


def test_a_directory_without_an_encoder_is_refused_before_training(dataset: Dataset, tmp_path: Path) -> None:
    config = load_config(path=_small_file(tmp_path), teacher=tmp_path / "nowhere")

    assert str(tmp_path / "nowhere") == config.teacher.encoder  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"nowhere.config\.json"):
        train(dataset, tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_a_reader_gives_each_text_its_vector(directory: Path) -> None:
    """In the order asked, of norm 1, whatever else is read with it; past its tokens a text is cut."""
    reader = PretrainedReader(directory, tokens=6)
    texts = ["red dress", "a green wooden chair like new", "lamp"]
    together, alone = reader.vectors(texts), [reader.vectors([text])[0] for text in texts]

    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert [1.0] * 3 == pytest.approx(np.linalg.norm(together, axis=1).tolist(), abs=1e-6)
    long = "red dress lamp sofa guitar phone case"
    np.testing.assert_allclose(*reader.vectors([long, f"{long} bicycle"]), atol=1e-6)
    assert math.isfinite(float(reader.vectors([""]).sum()))


def _small_file(folder: Path) -> Path:
    small_config(folder)
    return folder / "small.toml"
