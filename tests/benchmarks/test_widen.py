"""A run with tables as large as the paper's finds what the small one finds."""

from pathlib import Path

import pytest
import torch

from benchmarks.widen import widen
from models.towers import as_tensors
from models.training.run import Run

TEXTS = ["red dress", "bicicleta para niños", "x", "", "ドレス 赤"]


@pytest.fixture
def narrow(run_dir: Path) -> Run:
    return Run.open(run_dir)


def test_tables_grow_and_every_vector_stays(narrow: Run, tmp_path: Path) -> None:
    """Ten times the pieces; 3-gram rows to the nearest multiple; queries and documents keep their vectors."""
    pieces, rows = 10 * narrow.featurizer.vocabulary, 4 * narrow.featurizer.spec.trigram_rows
    widen(narrow.path, tmp_path / "wide", pieces=pieces, trigram_rows=rows, query_tokens=1)
    wide = Run.open(tmp_path / "wide")

    assert pieces == wide.featurizer.vocabulary
    assert 4 * (narrow.featurizer.spec.trigram_rows - 1) + 1 == wide.featurizer.spec.trigram_rows
    with torch.inference_mode():
        for tower in ("query", "document"):
            first, second = (embedded(run, tower) for run in (narrow, wide))
            torch.testing.assert_close(first, second)


def test_a_long_query_is_no_longer_cut(narrow: Run, tmp_path: Path) -> None:
    """The wide run reads 64 tokens; its further positions are copies of the last one that was trained."""
    wide = widen(narrow.path, tmp_path / "wide", pieces=0, trigram_rows=0, query_tokens=64)
    long = " ".join(["dress"] * 40)

    assert (True, False) == (
        *narrow.featurizer.query(long).truncated,
        *wide.featurizer.query(long).truncated,
    )
    positions = dict(wide.towers.query.named_parameters())["channels.text.encoder.position_embedding.weight"]
    assert 64 == len(positions)
    torch.testing.assert_close(positions[-1], positions[narrow.featurizer.spec.query_tokens - 1])


def embedded(run: Run, tower: str) -> torch.Tensor:
    if tower == "query":
        query = run.towers.query
        return query(*as_tensors(run.featurizer.queries(TEXTS, ["US"] * len(TEXTS)), query))  # type: ignore[no-any-return]
    document = run.towers.document
    nothing = [None] * len(TEXTS)
    return document(*as_tensors(run.featurizer.documents(TEXTS, TEXTS, nothing), document))  # type: ignore[no-any-return]
