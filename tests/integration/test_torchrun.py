"""`train` under torchrun: two processes share every batch and end as one process does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.training.run import record
from tests.helpers import SMALL_CONFIG

ROOT = Path(__file__).parents[2]


def run(command: list[str], **environment: str) -> str:
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == ended.returncode, ended.stderr
    return ended.stdout


def test_two_processes_train_what_one_does(dataset_dir: Path, tmp_path: Path) -> None:
    """Without dropout every evaluation agrees in loss and ROC AUC, through both stages; only one process speaks."""
    config = tmp_path / "small.toml"
    stages = "curriculum = {epochs = 1, patience = 1}\n" + SMALL_CONFIG.replace("curriculum = false", "")
    for old, new in (
        ("least_gain = 0.0", "least_gain = 1.0\npatience = 1"),  # converged at the second look
        ("query_encoder", "dropout = 0.0\nquery_encoder"),
    ):
        stages = stages.replace(old, new)
    config.write_text(stages)
    train = ["que2search.py", "train", "--data", str(dataset_dir), "--config", str(config)]

    run([sys.executable, *train, "--out", str(tmp_path / "one")])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = run([*launch, *train, "--out", str(tmp_path / "two")])

    one, two = (record(tmp_path / name).position.history for name in ("one", "two"))
    assert {1, 2} == {e.stage for e in one}
    assert [e.stage for e in one] == [e.stage for e in two]
    assert [e.loss for e in one] == pytest.approx([e.loss for e in two], abs=1e-3)
    assert [e.roc_auc for e in one] == pytest.approx([e.roc_auc for e in two], abs=1e-2)
    assert 1 == said.count("done run")
