"""An ablation trains each row once with each seed, compares seed by seed, and says what the seeds agree on."""

from pathlib import Path

import pytest

from models.config import changed, load_config
from models.data.schema import Dataset
from models.errors import ConfigError, DataError
from models.evaluation.ablation import ADAPTIVE, TABLES_3_AND_4, Row, Spread, Study, run_study, verdict
from models.sections import AdaptiveMargin, AdaptiveSoftmax, MarginRank, ScaledBce
from models.training.run import record
from tests.helpers import small_config

COLOURS_OF_TRIGRAMS = Study(
    "two rows",
    {"curriculum": False},
    (
        Row("trigram", None, {"model": {"query_channels": ["trigram"], "document_channels": ["title_trigram"]}}),
        Row("+ image", "trigram", {"model": {"document_channels": ["title_trigram", "image"]}}, "+1.1"),
    ),
)


def test_rows_of_tables_3_and_4_add_up() -> None:
    """From 3-grams alone to every part; a side row changes one thing of the row that it is compared with."""
    configs = TABLES_3_AND_4.configurations(load_config(preset="ablation"))
    first, full = configs["trigram"], configs["+ blending"]

    assert ("trigram",) == first.model.query_channels
    assert ("title_trigram", "description_trigram") == first.model.document_channels
    assert first.curriculum is first.classification is first.blending is None
    assert ("text", "trigram", "country") == full.model.query_channels
    assert {"title_text", "description_text", "title_trigram", "description_trigram", "image"} == set(
        full.model.document_channels
    )
    assert None not in (full.curriculum, full.classification, full.blending)
    assert full.train.encoder_learning_rate < full.train.learning_rate == first.train.encoder_learning_rate
    curricula = [configs[name].curriculum for name in ("+ curriculum", "margin, mean", "scaled BCE")]
    assert [MarginRank(reduction="sum"), MarginRank(reduction="mean"), ScaledBce()] == [
        curriculum and curriculum.loss for curriculum in curricula
    ]
    assert configs["separate encoders"].model.shared_encoder is False
    assert {"concatenation", "sum"} == {configs[name].model.fusion for name in ("concatenation", "sum")}


def test_a_fixed_value_is_the_adaptive_loss_with_nothing_to_adapt() -> None:
    """alpha 0: the margin is delta_0 and the temperature is tau_0, whatever the negatives."""
    configs = ADAPTIVE.configurations(load_config(preset="ablation"))

    assert AdaptiveMargin(alpha=0.0, delta_0=0.1) == configs["margin 0.1"].train.loss
    assert AdaptiveMargin(alpha=0.5, delta_0=0.01) == configs["adaptive margin"].train.loss
    assert AdaptiveSoftmax(alpha=0.0, tau_0=1 / 30) == configs["temperature 1/30"].train.loss
    assert AdaptiveSoftmax(alpha=0.5, stop_gradient=False) == configs["temperature, no stop-gradient"].train.loss


def test_chosen_rows_bring_what_they_are_compared_with() -> None:
    """Down to the baseline; an unknown row is named."""
    assert ["trigram", "+ text", "+ text + image", "sum"] == [row.name for row in TABLES_3_AND_4.only(["sum"]).rows]
    with pytest.raises(ConfigError, match=r"unknown rows \['product'\]; known are \['trigram'"):
        TABLES_3_AND_4.only(["product"])


def test_what_is_finished_is_not_trained_again(dataset_dir: Path, tmp_path: Path) -> None:
    """A study that was stopped after a seed goes on with the next; a repeated one trains nothing and says the same."""
    dataset, base = Dataset.open(dataset_dir), small_config(tmp_path)

    def trained(seeds: range) -> list[str]:
        done: list[str] = []
        run_study(
            COLOURS_OF_TRIGRAMS,
            dataset,
            tmp_path / "out",
            base,
            seeds=seeds,
            progress=lambda at, most, name: done.append(f"{at}/{most} {name}"),
        )
        return done

    assert ["1/2 trigram, seed 0", "2/2 + image, seed 0"] == trained(range(1))
    assert ["3/4 trigram, seed 1", "4/4 + image, seed 1"] == trained(range(2))
    assert [] == trained(range(2))
    result = run_study(COLOURS_OF_TRIGRAMS, dataset, tmp_path / "out", base, seeds=range(2))

    trigram, image = result.rows
    assert {} == trigram.gains
    assert image.gains["roc_auc"].mean == pytest.approx(
        image.metrics["roc_auc"].mean - trigram.metrics["roc_auc"].mean, abs=1e-9
    )
    assert result.save(tmp_path).read_text().startswith("{")
    assert 2 == result.table().row_count


def test_runs_side_by_side_end_as_one_by_one(dataset_dir: Path, tmp_path: Path) -> None:
    """In two processes that share out the cores: the same figures, and every run reported once."""
    dataset, base = Dataset.open(dataset_dir), small_config(tmp_path)
    done: list[str] = []
    one, two = (
        run_study(
            COLOURS_OF_TRIGRAMS,
            dataset,
            tmp_path / f"jobs-{jobs}",
            base,
            seeds=[0],
            jobs=jobs,
            progress=lambda _at, _most, name: done.append(name),
        )
        for jobs in (1, 2)
    )

    for row, other in zip(one.rows, two.rows, strict=True):
        assert row.metrics["roc_auc"].mean == pytest.approx(other.metrics["roc_auc"].mean, abs=1e-6)
    assert ["+ image, seed 0", "trigram, seed 0"] == sorted(done[2:])


def test_a_row_that_cannot_be_trained_ends_the_study(dataset_dir: Path, tmp_path: Path) -> None:
    """What a process refuses is raised here, by its own name."""
    base = changed(small_config(tmp_path), {"train": {"batch": 100_000}}, source="a test")
    with pytest.raises(DataError, match=r"train\.batch=100000"):
        run_study(COLOURS_OF_TRIGRAMS, Dataset.open(dataset_dir), tmp_path / "out", base, seeds=[0], jobs=2)


def test_another_configuration_is_trained_anew(dataset_dir: Path, tmp_path: Path) -> None:
    """What it finds in its folder was made otherwise, and is replaced."""
    dataset = Dataset.open(dataset_dir)
    study = COLOURS_OF_TRIGRAMS.only(["trigram"])
    two_epochs = small_config(tmp_path)
    three_epochs = changed(two_epochs, {"train": {"epochs": 3}}, source="a test")
    epochs = []
    for base in (two_epochs, three_epochs):
        run_study(study, dataset, tmp_path / "out", base, seeds=[0])
        epochs.append([seen.epoch for seen in record(tmp_path / "out/trigram/seed-0").position.history])

    assert [[1.0, 2.0], [1.0, 2.0, 3.0]] == epochs


def test_seeds_agree_or_they_do_not() -> None:
    """Mean 0.02 and sample deviation 0.01 of 0.01, 0.02, 0.03; a gain counts when every seed has it."""
    spread = Spread.of([0.01, 0.02, 0.03])

    assert (0.02, 0.01, 0.01, 0.03) == pytest.approx((spread.mean, spread.deviation, spread.least, spread.most))
    assert "helps with every seed" == verdict(spread)
    assert "hurts with every seed" == verdict(Spread.of([-0.01, -0.02]))
    assert "no clear effect" == verdict(Spread.of([-0.01, 0.05, 0.05]))
    assert 0.0 == Spread.of([0.3]).deviation
