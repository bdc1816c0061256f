"""A process's place among those that train together."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ConfigError
from models.training.ranks import TORCHRUN, Ranks
from tests.models.together import ROOT, run_together


@given(st.integers(1, 7), st.integers(0, 50))
def test_shares_are_all_rows_once_and_even(world: int, more: int) -> None:
    """Whatever the counts: in rank order the shares are the rows, and their sizes differ by one at most."""
    rows = world + more
    shares = [range(rows)[Ranks(rank, world).share(rows)] for rank in range(world)]

    assert list(range(rows)) == [row for share in shares for row in share]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_must_go_round() -> None:
    """Three rows leave one of four processes with nothing to embed: the error names both numbers."""
    with pytest.raises(ConfigError, match="3 rows do not go round 4 processes"):
        Ranks(0, 4).share(3)


def test_alone_nothing_is_exchanged() -> None:
    """One process gathers its own rows, agrees with itself, and needs no torchrun."""
    with Ranks.from_environment(torch.device("cpu")) as ranks:
        own = torch.arange(3)

        assert ranks.is_main
        assert own is ranks.gather(own, 3)
        assert 0.5 == ranks.agree(0.5)


EXCHANGE = """
import json, sys
from pathlib import Path
import torch
from torch import nn
from models.training.ranks import Ranks

with Ranks.from_environment(torch.device("cpu")) as ranks:
    share = ranks.share(8)
    rows = torch.full((share.stop - share.start, 2), float(ranks.rank))
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, ranks.rank)
    ranks.broadcast(layer)
    layer.bias.requires_grad_(False)
    if ranks.rank:  # the first one has no gradient
        layer.weight.grad = torch.full((1, 1), float(ranks.rank))
    ranks.sum_gradients(layer)
    ranks.barrier()
    found = {
        "world": ranks.world,
        "main": ranks.is_main,
        "rows": ranks.gather(rows, 8)[:, 1].tolist(),
        "present": ranks.gather(rows > 0, 8)[:, 0].tolist(),
        "weight": layer.weight.item(),
        "gradient": layer.weight.grad.item(),
        "frozen": layer.bias.grad,
        "agreed": ranks.agree(ranks.rank + 0.25),
    }
    Path(sys.argv[1], f"rank{ranks.rank}").write_text(json.dumps(found))
"""


def test_three_processes_exchange(tmp_path: Path) -> None:
    """Rank r brings its 2 or 3 of 8 rows, all r, and the gradient r: all see all rows, 0 + 1 + 2, and rank 0's word."""
    run_together(EXCHANGE, tmp_path, world=3)

    for rank in range(3):
        assert {
            "world": 3,
            "main": rank == 0,
            "rows": [0, 0, 1, 1, 1, 2, 2, 2],
            "present": [False, False, True, True, True, True, True, True],
            "weight": 0.0,
            "gradient": 3.0,
            "frozen": None,
            "agreed": 0.25,
        } == json.loads((tmp_path / f"rank{rank}").read_text())


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RANK": "0"}, "RANK set but not WORLD_SIZE, MASTER_ADDR, MASTER_PORT; start with torchrun"),
        (
            {"RANK": "0", "WORLD_SIZE": "two", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
            "cannot join the other processes by RANK=0, WORLD_SIZE=two",
        ),
    ],
)
def test_an_environment_that_is_not_torchruns_is_named(environment: dict[str, str], said: str) -> None:
    """RANK without the rest, or values that make no sense: the error says which."""
    code = (
        "import torch; from models.training.ranks import Ranks; Ranks.from_environment(torch.device('cpu')).__enter__()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in TORCHRUN} | environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "ConfigError" in ended.stderr
    assert said in ended.stderr
