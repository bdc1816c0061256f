"""A process's place among those that train together."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.training.ranks import Ranks


@given(st.integers(0, 50), st.integers(1, 7))
def test_shares_are_all_rows_once_and_even(rows: int, world: int) -> None:
    """Whatever the counts: in rank order the shares are the rows, and their sizes differ by one at most."""
    shares = [range(rows)[Ranks(rank, world).share(rows)] for rank in range(world)]

    assert list(range(rows)) == [row for share in shares for row in share]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_nothing_is_exchanged() -> None:
    """One process gathers its own rows, agrees with itself, and needs no torchrun."""
    with Ranks.from_environment(torch.device("cpu")) as ranks:
        own = torch.arange(3)

        assert ranks.is_main
        assert own is ranks.gather(own)
        assert 0.5 == ranks.agree(0.5)


def test_half_an_environment_is_named() -> None:
    """RANK without the rest is no torchrun: the error names what is missing."""
    code = (
        "import torch; from models.training.ranks import Ranks; Ranks.from_environment(torch.device('cpu')).__enter__()"
    )
    clean = {name: value for name, value in os.environ.items() if name != "WORLD_SIZE"}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=clean | {"RANK": "0"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "RANK are set but not WORLD_SIZE, MASTER_ADDR, MASTER_PORT; start with torchrun" in ended.stderr
