"""Offline hard negatives: documents of middling rank, drawn for the queries of a batch."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.data.schema import Dataset
from models.training.batches import DocumentTable, PairBatches, QueryTable
from models.training.mining import MinedNegatives, mine
from models.training.run import Run
from models.training.validation import embed_rows


@pytest.fixture(scope="module")
def run(run_dir: Path) -> Run:
    return Run.open(run_dir)


@pytest.fixture(scope="module")
def batches(run: Run, dataset_dir: Path) -> PairBatches:
    documents = DocumentTable(Dataset.open(dataset_dir), run.featurizer)
    queries = QueryTable(
        pl.DataFrame({"query": ["red dress", "blue lamp"] * 20, "country": ["US"] * 40}), run.featurizer
    )
    pairs = np.stack([np.arange(40), np.arange(40)], axis=1)
    return PairBatches(pairs, queries=queries, documents=documents, batch=21, seed=0)


def mined(run: Run, batches: PairBatches, **values: int) -> MinedNegatives:
    settings = {"first_rank": 11, "last_rank": 30, "easy_per_hard": 10} | values
    return mine(run.towers, batches, seed=[0, 0], **settings)


def test_candidates_have_the_ranks_that_were_asked_for(run: Run, batches: PairBatches) -> None:
    """Ranked one by one by cosine, every candidate of every query is the 11th to the 30th best document."""
    candidates = mined(run, batches)._candidates
    queries = embed_rows(run.towers.query, batches.queries, np.arange(40))
    documents = embed_rows(run.towers.document, batches.documents, np.arange(len(batches.documents)))
    rank = np.argsort(np.argsort(-(queries @ documents.T), axis=1, kind="stable"), axis=1) + 1  # (queries, documents)
    found = np.take_along_axis(rank, candidates, axis=1)

    assert (40, 20) == candidates.shape
    assert (11, 30) == (found.min(), found.max())


def test_a_batch_gets_one_hard_document_for_every_ten_easy(run: Run, batches: PairBatches) -> None:
    """A batch of 21 has 20 in-batch negatives per query: two mined documents join it, behind the positives."""
    hard = mined(run, batches)
    batch = next(batches.epoch(0, hard=hard))

    assert 21 == len(batch.query_rows)
    assert 22 <= len(batch.document_rows) <= 23  # both may be one document
    assert batch.known_positives.shape == (21, len(batch.document_rows))
    assert set(batch.document_rows[21:]) <= set(hard._candidates[batch.query_rows].ravel())


def test_the_same_seed_draws_the_same_also_after_a_restart(run: Run, batches: PairBatches, tmp_path: Path) -> None:
    """Saved and loaded, as a resumed epoch does it, the epoch's batches are the same."""
    hard = mined(run, batches)
    hard.save(tmp_path / "mined.safetensors")
    again = MinedNegatives.load(tmp_path / "mined.safetensors")

    for mine_, theirs in zip(batches.epoch(3, hard=hard), batches.epoch(3, hard=again), strict=True):
        assert mine_.document_rows.tolist() == theirs.document_rows.tolist()


def test_a_catalogue_too_small_gives_its_last_ranks(run: Run, batches: PairBatches) -> None:
    """Of 160 documents none is the 200th: the last 32 ranks stand in. And one document at least joins a batch."""
    assert (40, 32) == mined(run, batches, first_rank=200, last_rank=500)._candidates.shape
    assert 1 == mined(run, batches, easy_per_hard=1000)._per_batch
