"""The gradient of a batch is one and the same, in however many chunks and processes it is computed."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.data.schema import Dataset
from models.losses import scaled_softmax
from models.towers import Tower, TwoTowers, Views, build_towers, channel_groups
from models.training.batches import DocumentTable, PairBatch, QueryTable
from models.training.ranks import Ranks
from models.training.steps import backward
from tests.helpers import small_config, small_featurizer
from tests.models.together import run_together

B, N = 7, 11  # four documents more than queries; neither chunks of 2 or 3 nor two processes divide them evenly
SEED = 5


class Softmax(nn.Module):
    """Every view pair's softmax where the views are present, with a gain to learn, as objectives may."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, queries: Views, documents: Views, _batch: PairBatch) -> Tensor:
        vectors = documents.vectors * documents.present.unsqueeze(-1)
        cosines = torch.einsum("bvd,nwd->vwbn", queries.vectors, self.gain * vectors)
        return torch.stack([scaled_softmax(each, scale=5.0) for each in cosines.flatten(0, 1)]).sum()


class Call(NamedTuple):
    random_state: Tensor
    features: tuple[Tensor, ...]
    vectors: Tensor


class Witness(nn.Module):
    """A tower that notes what it was asked, with which random state, and what it gave."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.tower = tower
        self.calls: list[Call] = []
        self.inputs = tower.inputs
        self.device = tower.device

    def views(self, *features: Tensor) -> Views:
        state = torch.get_rng_state()
        views = self.tower.views(*features)
        self.calls.append(Call(state, features, views.vectors.detach()))
        return views


class Fixture:
    """Towers with two views a side, tables and a batch; texts of many lengths, some without description or image."""

    def __init__(self, dataset: Dataset, folder: Path, *, dropout: float = 0.0) -> None:
        featurizer = small_featurizer()
        torch.manual_seed(3)
        config = small_config(folder).model
        self.towers: TwoTowers = build_towers(config, featurizer.spec, vocabulary=featurizer.vocabulary)
        for module in self.towers.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        for tower in (self.towers.query, self.towers.document):
            tower.groups = channel_groups("grouped", tower)[-1:]
        self.objective = Softmax()
        texts = [f"red dress {at} " + "lamp " * at for at in range(B)]
        self.queries = QueryTable(pl.DataFrame({"query": texts, "country": ["US"] * B}), featurizer)
        self.documents = DocumentTable(dataset, featurizer)
        self.batch = PairBatch(np.arange(B), np.arange(N), np.eye(B, N, dtype=bool))

    def backward(
        self,
        *,
        chunk: int | None = None,
        ranks: Ranks | None = None,
        towers: TwoTowers | None = None,
        bfloat16: bool = False,
    ) -> float:
        self.towers.train()
        loss = backward(
            towers or self.towers,
            self.objective,
            self.batch,
            queries=self.queries,
            documents=self.documents,
            chunk=chunk,
            ranks=ranks or Ranks(),
            seed=SEED,
            bfloat16=bfloat16,
        )
        assert (loss.dtype, loss.requires_grad) == (torch.float32, False)
        return loss.item()

    def gradients(self) -> dict[str, Tensor]:
        parameters = {**dict(self.towers.named_parameters()), **dict(self.objective.named_parameters())}
        return {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}


def assert_same_gradients(expected: dict[str, Tensor], actual: dict[str, Tensor], *, atol: float) -> None:
    assert expected.keys() == actual.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(
            actual[name], gradient, atol=atol, rtol=1e-4, msg=lambda said, at=name: f"{at}: {said}"
        )


@pytest.fixture
def dataset(dataset_dir: Path) -> Dataset:
    return Dataset.open(dataset_dir)


def test_one_chunk_is_an_ordinary_step(dataset: Dataset, tmp_path: Path) -> None:
    """Each tower embeds once, and the gradient is that of the loss over both towers' vectors."""
    fixture = Fixture(dataset, tmp_path)
    query, document = Witness(fixture.towers.query), Witness(fixture.towers.document)
    loss = fixture.backward(towers=TwoTowers(query=query, document=document))
    found = fixture.gradients()
    for module in (fixture.towers, fixture.objective):
        module.zero_grad()
    views = [tower.tower.views(*tower.calls[0].features) for tower in (query, document)]
    ordinary = fixture.objective(*views, fixture.batch)
    ordinary.backward()

    assert (1, 1) == (len(query.calls), len(document.calls))
    assert loss == pytest.approx(ordinary.item(), abs=1e-6)
    assert_same_gradients(fixture.gradients(), found, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 3, B, N])
def test_accumulation_gives_the_full_batchs_gradient(chunk: int, dataset: Dataset, tmp_path: Path) -> None:
    """Without dropout, whatever the chunk and so the padding: the loss and every gradient are the whole batch's."""
    whole, cached = Fixture(dataset, tmp_path), Fixture(dataset, tmp_path)

    assert whole.backward() == pytest.approx(cached.backward(chunk=chunk), abs=1e-6)
    assert_same_gradients(whole.gradients(), cached.gradients(), atol=1e-6)


def test_the_second_pass_drops_what_the_first_did(dataset: Dataset, tmp_path: Path) -> None:
    """With dropout on, chunks come out as before, and the gradient is that of the vectors that the loss saw."""
    fixture = Fixture(dataset, tmp_path, dropout=0.5)
    query, document = Witness(fixture.towers.query), Witness(fixture.towers.document)
    loss = fixture.backward(chunk=3, towers=TwoTowers(query=query, document=document))
    found = fixture.gradients()
    for module in (fixture.towers, fixture.objective):
        module.zero_grad()

    seen = []
    for tower, chunks in ((query, 3), (document, 4)):
        first, second = tower.calls[:chunks], tower.calls[chunks:]
        for before, after in zip(first, second, strict=True):
            torch.testing.assert_close(after.vectors, before.vectors)
        drawn = []
        for call in first:
            torch.set_rng_state(call.random_state)
            drawn.append(tower.tower.views(*call.features))
        seen.append(Views(*(torch.cat(parts) for parts in zip(*drawn, strict=True))))
    assert not torch.allclose(query.calls[0].vectors[0], query.calls[1].vectors[0])  # other rows, other draws
    ordinary = fixture.objective(*seen, fixture.batch)
    ordinary.backward()

    assert loss == pytest.approx(ordinary.item(), abs=1e-6)
    assert_same_gradients(fixture.gradients(), found, atol=1e-6)


def test_a_step_draws_by_its_seed(dataset: Dataset, tmp_path: Path) -> None:
    """A step that is repeated drops the same units; in chunks the draws come in another order."""
    losses = [Fixture(dataset, tmp_path, dropout=0.5).backward(chunk=chunk) for chunk in (None, 3) for _ in range(2)]

    assert losses[0] == losses[1] != losses[2] == losses[3]


@pytest.mark.parametrize("chunk", [None, 3])
def test_a_tower_that_learns_nothing_is_left_alone(chunk: int | None, dataset: Dataset, tmp_path: Path) -> None:
    """The other tower's gradient is what it would be anyhow."""
    both, one = Fixture(dataset, tmp_path), Fixture(dataset, tmp_path)
    both.backward()
    one.towers.document.requires_grad_(requires_grad=False)
    one.backward(chunk=chunk)

    kept = {name: gradient for name, gradient in both.gradients().items() if not name.startswith("document.")}
    assert_same_gradients(kept, one.gradients(), atol=1e-6)


@pytest.mark.parametrize("chunk", [None, 3])
def test_bfloat16_is_close_and_the_loss_stays_float32(chunk: int | None, dataset: Dataset, tmp_path: Path) -> None:
    """The towers in bfloat16 lose digits: the loss is within a per cent of float32's, gradients are float32."""
    exact = Fixture(dataset, tmp_path).backward()
    fixture = Fixture(dataset, tmp_path)

    assert exact == pytest.approx(fixture.backward(chunk=chunk, bfloat16=True), rel=0.01)
    assert {torch.float32} == {gradient.dtype for gradient in fixture.gradients().values()}


STEP = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from models.data.schema import Dataset
from models.training.ranks import Ranks
from tests.models.test_steps import Fixture

folder, dataset = Path(sys.argv[1]), Dataset.open(Path(sys.argv[2]))
with Ranks.from_environment(torch.device("cpu")) as ranks:
    for chunk in (None, 2):
        fixture = Fixture(dataset, folder)
        if ranks.rank:  # another start, which the first process's overrides
            torch.nn.init.zeros_(next(fixture.towers.parameters()))
        ranks.broadcast(fixture.towers)
        loss = torch.tensor(fixture.backward(chunk=chunk, ranks=ranks))
        found = {name: gradient.contiguous() for name, gradient in fixture.gradients().items()}
        save_file(found | {"loss": loss}, folder / f"rank{ranks.rank}-{chunk}")
"""


def test_two_processes_give_one_processs_gradient(dataset: Dataset, tmp_path: Path) -> None:
    """Uneven shares of queries and of documents, in chunks or not: both processes have one process's gradient."""
    alone = Fixture(dataset, tmp_path)
    loss = alone.backward()
    run_together(STEP, tmp_path, dataset.path)

    for rank in range(2):
        for chunk in (None, 2):
            found = load_file(tmp_path / f"rank{rank}-{chunk}")
            assert loss == pytest.approx(found.pop("loss").item(), abs=1e-5)
            assert_same_gradients(alone.gradients(), found, atol=1e-5)
