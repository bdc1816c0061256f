"""The gradient of a batch is one and the same, in however many chunks and processes it is computed."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from models.data.schema import Dataset
from models.losses import scaled_softmax
from models.towers import TwoTowers, Views, build_towers, channel_groups
from models.training.batches import DocumentTable, PairBatch, QueryTable
from models.training.ranks import Ranks
from models.training.steps import Side, backward
from tests.helpers import small_config, small_featurizer

B, N = 7, 10  # three documents more than queries, and no chunk divides either


class Softmax(nn.Module):
    """Every view pair's softmax, over scaled document vectors, so that the objective has a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, queries: Views, documents: Views, _batch: PairBatch) -> torch.Tensor:
        cosines = torch.einsum("bvd,nwd->vwbn", queries.vectors, self.gain * documents.vectors)
        return sum((scaled_softmax(view, scale=5.0) for row in cosines for view in row), start=torch.zeros(()))  # type: ignore[return-value]


class Fixture:
    """Towers with two views a side, tables and a batch."""

    def __init__(self, dataset: Dataset, folder: Path, *, dropout: float) -> None:
        featurizer = small_featurizer()
        torch.manual_seed(3)
        config = small_config(folder).model
        self.towers: TwoTowers = build_towers(config, featurizer.spec, vocabulary=featurizer.vocabulary)
        for module in self.towers.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        for tower in (self.towers.query, self.towers.document):
            tower.groups = channel_groups("grouped", tower)[:1]
        self.objective = Softmax()
        texts = [f"red dress {at} " + "lamp " * at for at in range(B)]
        self.queries = QueryTable(pl.DataFrame({"query": texts, "country": ["US"] * B}), featurizer)
        self.documents = DocumentTable(dataset, featurizer)
        self.batch = PairBatch(np.arange(B), np.arange(N), np.eye(B, N, dtype=bool))

    def backward(self, *, chunk: int | None, ranks: Ranks) -> float:
        self.towers.train()
        loss = backward(
            self.towers,
            self.objective,
            self.batch,
            queries=self.queries,
            documents=self.documents,
            chunk=chunk,
            ranks=ranks,
            seed=5,
        )
        return loss.item()

    def gradients(self) -> dict[str, torch.Tensor]:
        return {
            name: parameter.grad
            for module in (self.towers, self.objective)
            for name, parameter in module.named_parameters()
            if parameter.grad is not None
        }


@pytest.fixture
def dataset(dataset_dir: Path) -> Dataset:
    return Dataset.open(dataset_dir)


@pytest.mark.parametrize("chunk", [1, 3, B, N])
def test_accumulation_gives_the_full_batchs_gradient(chunk: int, dataset: Dataset, tmp_path: Path) -> None:
    """Without dropout, whatever the chunk: the loss and every gradient are those of the batch at once."""
    whole, cached = (Fixture(dataset, tmp_path, dropout=0.0) for _ in range(2))
    one = Ranks()

    assert whole.backward(chunk=None, ranks=one) == pytest.approx(cached.backward(chunk=chunk, ranks=one), abs=1e-5)
    theirs = cached.gradients()
    assert whole.gradients().keys() == theirs.keys()
    for name, gradient in whole.gradients().items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-6, rtol=1e-4, msg=name)


def test_the_second_pass_drops_what_the_first_did(dataset: Dataset, tmp_path: Path) -> None:
    """With dropout on: the gradient carried back is that of the vectors that the loss saw, not of other draws."""
    fixture = Fixture(dataset, tmp_path, dropout=0.5)
    fixture.towers.train()
    side = Side(fixture.towers.query, fixture.queries, np.arange(B), chunk=3, ranks=Ranks(), bfloat16=False)
    first, chunks = side.embed_share()
    direction = torch.randn_like(first.vectors)
    side.carry_back(chunks, direction)
    carried = {name: p.grad.clone() for name, p in fixture.towers.query.named_parameters() if p.grad is not None}
    fixture.towers.zero_grad()

    again = []
    for chunk in chunks:
        torch.set_rng_state(chunk.random_state)
        again.append(fixture.towers.query.views(*chunk.features).vectors)
    torch.testing.assert_close(torch.cat(again), first.vectors)
    (torch.cat(again) * direction).sum().backward()
    for name, parameter in fixture.towers.query.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(carried[name], parameter.grad, msg=name)


def test_bfloat16_is_close_and_the_loss_stays_float32(dataset: Dataset, tmp_path: Path) -> None:
    """The towers in bfloat16 lose digits, not the loss: within a per cent of float32's."""
    fixture = Fixture(dataset, tmp_path, dropout=0.0)
    exact = fixture.backward(chunk=None, ranks=Ranks())
    loss = backward(
        fixture.towers,
        fixture.objective,
        fixture.batch,
        queries=fixture.queries,
        documents=fixture.documents,
        ranks=Ranks(),
        seed=5,
        bfloat16=True,
    )

    assert loss.dtype == torch.float32
    assert exact == pytest.approx(loss.item(), rel=0.01)


WORKER = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from safetensors.torch import save_file
from models.data.schema import Dataset
from models.training.ranks import Ranks
from tests.models.test_steps import Fixture

out, dataset, chunk = Path(sys.argv[1]), Dataset.open(Path(sys.argv[2])), int(sys.argv[3]) or None
fixture = Fixture(dataset, out, dropout=0.0)
with Ranks.from_environment(torch.device("cpu")) as ranks:
    if ranks.rank:  # another start, which the first process's overrides
        torch.nn.init.zeros_(next(fixture.towers.parameters()))
    ranks.broadcast(fixture.towers)
    loss = fixture.backward(chunk=chunk, ranks=ranks)
    agreed = ranks.agree(float(ranks.rank + 4))
    found = {name: gradient.contiguous() for name, gradient in fixture.gradients().items()}
    save_file(found | {"loss": torch.tensor(loss), "agreed": torch.tensor(agreed)}, out / f"rank{ranks.rank}")
"""


@pytest.mark.parametrize("chunk", [0, 2])
def test_two_processes_give_one_processs_gradient(chunk: int, dataset: Dataset, tmp_path: Path) -> None:
    """Two gloo ranks with uneven shares of queries and documents: loss and gradients of both equal one process's."""
    from safetensors.torch import load_file

    alone = Fixture(dataset, tmp_path, dropout=0.0)
    loss = alone.backward(chunk=None, ranks=Ranks())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    same = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORKER, str(tmp_path), str(dataset.path), str(chunk)]
    root = Path(__file__).parents[2]
    processes = [subprocess.Popen(command, cwd=root, env=same | {"RANK": str(rank)}) for rank in range(2)]

    assert [0, 0] == [process.wait(timeout=120) for process in processes]
    for rank in range(2):
        found = load_file(tmp_path / f"rank{rank}")
        assert loss == pytest.approx(found.pop("loss").item(), abs=1e-5)
        assert 4.0 == found.pop("agreed").item()
        assert found.keys() == alone.gradients().keys()
        for name, gradient in alone.gradients().items():
            torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=f"rank {rank}: {name}")
