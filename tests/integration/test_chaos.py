"""A server with writes in flight whose processes are killed: a short run of `que2search bench chaos`."""

from pathlib import Path

import pytest

from benchmarks.chaos import run
from tests.helpers import small_featurizer
from tests.small_release import small_catalogue, small_release

KILLS = 10
SEED = 204  # its first ten kills come to every kind of process, and to all three moments


@pytest.mark.timeout(1_200)  # a minute on a quiet machine; each kill starts processes anew
def test_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Ten SIGKILLs, each with writes in flight; the run raises at the first write that is not there as it must be."""
    release = small_release(tmp_path, featurizer=small_featurizer()).rename(tmp_path / "in a folder of another name")
    catalogue = small_catalogue(tmp_path, release, products=400, factory="IVF16,Flat")

    result = run(release, catalogue, folder=tmp_path / "chaos", kills=KILLS, seed=SEED, check_every=5)

    total = result.rows[-1]
    assert KILLS == total["kills"]
    assert total["in_flight"] >= KILLS
    assert total["acknowledged"] >= KILLS
    assert any("temporary files left behind: none" in note for note in result.notes), result.notes
    assert not (tmp_path / "chaos").exists()
