"""Training: batches, the loop, early stopping, and runs that are killed and resumed."""

from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.config import RunConfig
from models.data.schema import Dataset
from models.errors import DataError, RunError
from models.towers import build_towers
from models.training.batches import DocumentTable, PairBatches, QueryTable, Ragged
from models.training.checkpoint import Evaluation, load_weights
from models.training.run import BEST_FILE, Run, record
from models.training.train import train
from models.training.trainer import build_optimizer, rate_at
from models.training.validation import Validation, embed_rows, validation_examples
from tests.helpers import small_config, small_dataset, small_featurizer


class Killed(Exception):
    """Raised by a reporter to end a run as a signal would."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("data") / "things")


@pytest.fixture(scope="module")
def finished(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs")
    return train(dataset, folder / "whole", small_config(folder))


@given(st.lists(st.lists(st.integers(1, 99), max_size=6), min_size=1, max_size=8), st.data())
def test_ragged_rows_come_back_padded(rows: list[list[int]], data: st.DataObject) -> None:
    """Any choice of rows, in any order and repeated, is those rows with zeros behind."""
    at = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=5)))
    padded = Ragged(rows).padded(at)
    for row, source in zip(padded.tolist(), at.tolist(), strict=True):
        width = len(rows[source])

        assert rows[source] == row[:width]
        assert not any(row[width:])


def test_a_batch_marks_every_known_positive(dataset: Dataset) -> None:
    """Query 0 wants documents 0 and 1, query 1 wants 2: in a batch of all three pairs that is five marks."""
    featurizer = small_featurizer()
    queries = QueryTable(pl.DataFrame({"query": ["red dress", "lamp"], "country": ["US", None]}), featurizer)
    pairs = np.array([[0, 0], [0, 1], [1, 2]])
    documents = DocumentTable(dataset, featurizer)
    batches, further = (
        PairBatches(pairs, queries=queries, documents=documents, batch=3, seed=0, further_positives=more)
        for more in (None, np.array([[1, 0]]))
    )
    known = next(batches.epoch(0)).known_positives

    assert 5 == known.sum()
    assert known.diagonal().all()
    assert 6 == next(further.epoch(0)).known_positives.sum()  # query 1 wants 0 as well, though no pair says so


def test_an_epoch_has_every_pair_once_and_its_own_order(dataset: Dataset) -> None:
    """Same seed and epoch, same order; another epoch, another; skipping k batches leaves out the first k."""
    featurizer = small_featurizer()
    documents = DocumentTable(dataset, featurizer)
    queries = QueryTable(pl.DataFrame({"query": [f"q{n}" for n in range(8)], "country": [None] * 8}), featurizer)
    batches = PairBatches(np.stack([np.arange(8)] * 2, axis=1), queries=queries, documents=documents, batch=2, seed=3)

    def seen(epoch: int, skip: int = 0) -> list[bytes]:
        return [batch.query_rows.tobytes() for batch in batches.epoch(epoch, skip=skip)]

    assert 4 == len(batches) == len(seen(0))
    assert seen(0) == seen(0) != seen(1)
    assert seen(1)[2:] == seen(1, skip=2)


def test_training_finds_what_queries_name(dataset: Dataset, tmp_path: Path) -> None:
    """Coloured things are told apart after a few epochs, far above the 0.5 of chance; the record says what happened."""
    config = small_config(tmp_path)
    longer = msgspec.structs.replace(config.train, epochs=12, learning_rate=5e-3, encoder_learning_rate=2e-3)
    run = train(dataset, tmp_path / "run", msgspec.structs.replace(config, train=longer))
    ended = record(run.path)

    assert ended.position.best_roc_auc > 0.9
    assert ended.position.finished
    assert ended.position.history[0].loss > ended.position.history[-1].loss
    assert not ended.weak_pairs


@pytest.mark.parametrize("killed_at", [1, 8, 9])
def test_a_killed_run_resumed_ends_at_the_same_metrics(
    killed_at: int, dataset: Dataset, finished: Run, tmp_path: Path
) -> None:
    """Before the first checkpoint, behind one, and in the second epoch: the weights come out equal."""
    config = small_config(tmp_path)

    def kill(done: int, _most: int, _evaluation: Evaluation | None) -> None:
        if done == killed_at:
            raise Killed

    with pytest.raises(Killed):
        train(dataset, tmp_path / "run", config, report=kill)
    with pytest.raises(RunError, match="--resume"):
        Run.open(tmp_path / "run")
    resumed = train(dataset, tmp_path / "run", config, resume=True)

    whole, ended = record(finished.path).position, record(resumed.path).position
    assert [e.roc_auc for e in whole.history] == pytest.approx([e.roc_auc for e in ended.history], abs=1e-6)
    assert [e.loss for e in whole.history] == pytest.approx([e.loss for e in ended.history], abs=1e-6)
    for mine, theirs in zip(finished.towers.parameters(), resumed.towers.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)


def test_resuming_needs_the_same_run(dataset: Dataset, finished: Run, tmp_path: Path) -> None:
    """Nothing there, or another configuration, is an error and not a silent restart."""
    with pytest.raises(RunError, match="nothing to resume"):
        train(dataset, tmp_path / "none", small_config(tmp_path), resume=True)
    with pytest.raises(RunError, match="another configuration"):
        train(dataset, finished.path, small_config(tmp_path, seed=1), resume=True)


def test_training_stops_when_validation_no_longer_rises(dataset: Dataset, tmp_path: Path) -> None:
    """With rates too small to learn by, no evaluation beats the first: patience 1 ends after the second."""
    config = small_config(tmp_path)
    frozen = msgspec.structs.replace(
        config.train, epochs=50, patience=1, learning_rate=1e-12, encoder_learning_rate=1e-12
    )
    run = train(dataset, tmp_path / "run", msgspec.structs.replace(config, train=frozen))

    assert 2 == len(record(run.path).position.history)
    assert record(run.path).position.best_step < record(run.path).position.step


def test_too_few_pairs_are_refused_before_training(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "few", sessions=20)
    with pytest.raises(DataError, match=r"train\.batch=64"):
        train(dataset, tmp_path / "run", small_config(tmp_path))


def test_weights_of_another_model_are_refused(finished: Run) -> None:
    other = msgspec.structs.replace(finished.config.model, dim=64)
    towers = build_towers(other, finished.featurizer.spec, vocabulary=finished.featurizer.vocabulary)
    with pytest.raises(RunError, match="other towers"):
        load_weights(finished.path / BEST_FILE, towers)


def test_encoders_learn_at_their_own_rate(finished: Run) -> None:
    """Every parameter is in exactly one group, the encoders' in the slower one."""
    config: RunConfig = finished.config
    others, encoders = build_optimizer(finished.towers, torch.nn.Module(), config.train).param_groups

    assert (7e-4, 2e-4) == (others["peak"], encoders["peak"])
    assert len(finished.towers.encoder_parameters()) == len(encoders["params"])
    assert len(list(finished.towers.parameters())) == len(encoders["params"]) + len(others["params"])


def test_the_rate_rises_then_falls_to_a_tenth(finished: Run) -> None:
    config = msgspec.structs.replace(finished.config.train, warmup_steps=10)

    rates = [rate_at(step, config, decay_steps=110) for step in (0, 10, 60, 110, 500)]
    assert [0.1, 1.0, 0.55, 0.1, 0.1] == pytest.approx(rates)
    assert 1.0 == rate_at(60, config, decay_steps=0)


def test_validation_uses_ratings_where_there_is_a_log(dataset: Dataset, finished: Run) -> None:
    """Rated pairs of the validation share; without ratings, positives against ten random products each."""
    documents = DocumentTable(dataset, finished.featurizer)
    pairs = pl.DataFrame(
        {"query": ["red dress"], "country": ["US"], "product_id": ["p0"], "weak": [False]},
    )
    rated = validation_examples(dataset.judgements(), pairs, documents=documents, seed=0)
    drawn = validation_examples(dataset.judgements().clear(), pairs, documents=documents, seed=0)

    assert set(rated["query"]) < set(dataset.judgements()["query"])
    assert 11 == len(drawn)
    assert 1 == drawn["relevant"].sum()


def test_the_roc_auc_is_over_cosines(dataset: Dataset, finished: Run) -> None:
    """It equals the share of (relevant, other) pairs in the right order, counted one by one."""
    documents = DocumentTable(dataset, finished.featurizer)
    examples = validation_examples(
        dataset.judgements(),
        pl.DataFrame({"query": [], "country": [], "product_id": [], "weak": []}, schema_overrides={"weak": pl.Boolean}),
        documents=documents,
        seed=0,
    )
    queries = QueryTable(examples.select("query", "country"), finished.featurizer)
    rows = np.array([documents.row_of[product] for product in examples["product_id"]])
    cosines = (
        embed_rows(finished.towers.query, queries, np.arange(len(rows)))
        * embed_rows(finished.towers.document, documents, rows)
    ).sum(axis=1)
    relevant = examples["relevant"].to_numpy()
    wins = np.sign(cosines[relevant][:, None] - cosines[~relevant][None, :]) / 2 + 0.5

    validation = Validation(examples, documents=documents, featurizer=finished.featurizer)
    assert wins.mean() == pytest.approx(validation.roc_auc(finished.towers), abs=1e-6)
