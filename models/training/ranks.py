"""The processes that train together under torchrun; one alone is the plain case."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.errors import ConfigError

TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


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
            ConfigError: some of torchrun's variables are set and others are not.
        """
        found = [name for name in TORCHRUN if name in os.environ]
        if not found:
            yield cls()
            return
        if missing := [name for name in TORCHRUN if name not in os.environ]:
            raise ConfigError(f"{', '.join(found)} are set but not {', '.join(missing)}; start with torchrun, or unset")
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield cls(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()

    @property
    def is_main(self) -> bool:
        """The one process that writes files and reports."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """This process's part of a batch's rows; parts differ by one row at most."""
        return slice(self.rank * rows // self.world, (self.rank + 1) * rows // self.world)

    def gather(self, own: Tensor) -> Tensor:
        """Every process's rows, in the order of ranks; no gradient flows through."""
        if self.world == 1:
            return own
        count = torch.tensor([len(own)], device=own.device)
        counts = [torch.zeros_like(count) for _ in range(self.world)]
        dist.all_gather(counts, count)
        longest = int(torch.cat(counts).max())
        padded = own.new_zeros((longest, *own.shape[1:]))
        padded[: len(own)] = own
        parts = [torch.zeros_like(padded) for _ in range(self.world)]
        dist.all_gather(parts, padded)
        return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])

    def sum_gradients(self, module: nn.Module) -> None:
        """Each parameter's gradient becomes the sum over the processes."""
        if self.world == 1:
            return
        for parameter in module.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)

    def broadcast(self, module: nn.Module) -> None:
        """Everyone starts from the first process's parameters."""
        if self.world > 1:
            for parameter in module.parameters():
                dist.broadcast(parameter.data, src=0)

    def agree(self, value: float) -> float:
        """The first process's value, so that all decide alike."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        if dist.get_backend() == "nccl":
            shared = shared.cuda()
        dist.broadcast(shared, src=0)
        return float(shared)

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()
