"""The processes that train together under torchrun; one alone is the plain case."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.errors import ConfigError

TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PATIENCE = timedelta(hours=1)  # while the first process mines negatives, the others wait


@dataclass(frozen=True)
class Ranks:
    """This process's place among `world`."""

    rank: int = 0
    world: int = 1

    @classmethod
    @contextmanager
    def from_environment(cls, device: torch.device) -> Iterator["Ranks"]:
        """As torchrun set it up: gloo on CPUs, NCCL on GPUs; without torchrun one process.

        Raises:
            ConfigError: some of torchrun's variables are set and others are not, or the others cannot be reached.
        """
        found = [name for name in TORCHRUN if name in os.environ]
        if not found:
            yield cls()
            return
        if missing := [name for name in TORCHRUN if name not in os.environ]:
            raise ConfigError(f"{', '.join(found)} set but not {', '.join(missing)}; start with torchrun, or unset")
        _join(device)
        try:
            yield cls(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()

    @property
    def is_main(self) -> bool:
        """The one process that writes files and reports."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """This process's part of a batch's rows; parts differ by one row at most.

        Raises:
            ConfigError: there are fewer rows than processes.
        """
        if rows < self.world:
            raise ConfigError(f"{rows} rows do not go round {self.world} processes; start fewer, or raise train.batch")
        starts = self._starts(rows)
        return slice(starts[self.rank], starts[self.rank + 1])

    def gather(self, own: Tensor, rows: int) -> Tensor:
        """All of so many rows, of which each process has its `share`, in order; no gradient flows through."""
        if self.world == 1:
            return own
        counts = [end - start for start, end in pairwise(self._starts(rows))]
        padded = own.new_zeros((max(counts), *own.shape[1:]))  # all_gather wants equal shapes
        padded[: len(own)] = own
        parts = [torch.zeros_like(padded) for _ in range(self.world)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def sum_gradients(self, module: nn.Module) -> None:
        """Each learnt parameter's gradient becomes the sum over the processes; one that has none counts as 0."""
        learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if self.world == 1 or not learnt:
            return
        own = [torch.zeros_like(each) if each.grad is None else each.grad for each in learnt]
        summed = torch.cat([gradient.flatten() for gradient in own])  # one message for all
        dist.all_reduce(summed)
        for parameter, gradient in zip(learnt, _like(learnt, summed), strict=True):
            parameter.grad = gradient

    def broadcast(self, module: nn.Module) -> None:
        """Everyone starts from the first process's parameters."""
        parameters = list(module.parameters())
        if self.world == 1 or not parameters:
            return
        values = torch.cat([each.detach().flatten() for each in parameters])
        dist.broadcast(values, src=0)
        with torch.no_grad():
            for parameter, value in zip(parameters, _like(parameters, values), strict=True):
                parameter.copy_(value)

    def agree(self, value: float) -> float:
        """The first process's value, so that all decide alike."""
        if self.world == 1:
            return value
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        shared = torch.tensor([value], dtype=torch.float64, device=device)
        dist.broadcast(shared, src=0)
        return float(shared)

    def barrier(self) -> None:
        """Wait for the others."""
        if self.world > 1:
            dist.barrier()

    def _starts(self, rows: int) -> list[int]:
        """Where each process's share begins, and where the last one ends."""
        return [rank * rows // self.world for rank in range(self.world + 1)]


def _like(parameters: list[nn.Parameter], values: Tensor) -> list[Tensor]:
    """One after another out of the flat `values`, each in its parameter's shape."""
    parts = torch.split(values, [each.numel() for each in parameters])
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]


def _join(device: torch.device) -> None:
    """Meet the other processes; raises ConfigError."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)  # NCCL and `agree` use the current one
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE, device_id=device if on_gpu else None)
    except (ValueError, RuntimeError) as exc:
        said = ", ".join(f"{name}={os.environ[name]}" for name in TORCHRUN)
        raise ConfigError(f"cannot join the other processes by {said}: {exc}; start all with torchrun") from exc
