"""A training state on disk: one safetensors file, so that it is written whole or not at all, and never a pickle."""

from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.errors import RunError
from models.towers import TwoTowers

METADATA = "position"


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the validation data."""

    stage: int
    step: int
    epoch: float  # of its stage, from 0; an evaluation need not wait for an epoch's end
    loss: float  # mean over the steps since the last evaluation
    roc_auc: float
    seconds: float  # of training so far


class Position(msgspec.Struct, kw_only=True):
    """How far a run has come; with the tensors, all that a resumed run needs."""

    identity: str  # of configuration and data
    stage: int = 1
    stage_start: int = 0  # the step at which the stage began
    step: int = 0  # steps done, of all stages
    loss_sum: float = 0.0  # since the last evaluation
    loss_steps: int = 0
    best_roc_auc: float = -1.0  # of the run: these weights are kept
    best_step: int = 0
    stage_best_roc_auc: float = -1.0  # what early stopping compares with
    evaluations_without_gain: int = 0
    stage_one_converged: bool | None = None  # it stopped early, and not because its epochs were used up
    finished: bool = False
    seconds: float = 0.0
    blending_weights: list[float] | None = None  # of the losses, as estimated last
    adap_tau_base: float | None = None  # as measured last
    history: list[Evaluation] = msgspec.field(default_factory=list)


def save_checkpoint(path: Path, *, learned: nn.Module, optimizer: torch.optim.Adam, position: Position) -> None:
    """The state of a training run. Random draws follow from seed and step, so they need no place in it."""
    metadata = msgspec.json.encode(position).decode()
    write_tensors(path, learned=learned, optimizer=optimizer, metadata=metadata)


def load_checkpoint(path: Path, *, learned: nn.Module, optimizer: torch.optim.Adam) -> Position:
    """Restore all that `save_checkpoint` wrote; raises RunError as `read_tensors` does."""
    return msgspec.json.decode(read_tensors(path, learned=learned, optimizer=optimizer), type=Position)


def write_tensors(path: Path, *, learned: nn.Module, optimizer: torch.optim.Adam, metadata: str) -> None:
    """Write all parameters, Adam's moments and the metadata beside, then rename."""
    tensors = {f"learned.{name}": tensor for name, tensor in _weights(learned).items()}
    for at, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{at}.{name}": value for name, value in state.items()}
    _write(path, tensors, {METADATA: metadata})


def read_tensors(path: Path, *, learned: nn.Module, optimizer: torch.optim.Adam) -> str:
    """Restore what `write_tensors` wrote, and return the metadata.

    Raises:
        RunError: the file is missing, damaged or of another model.
    """
    tensors, metadata = _read(path)
    weights = {name.removeprefix("learned."): tensors[name] for name in tensors if name.startswith("learned.")}
    _fill(path, learned, weights)
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, at, field = name.split(".", 2)
            states.setdefault(int(at), {})[field] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return str(metadata[METADATA])


def save_weights(path: Path, towers: TwoTowers) -> None:
    """The towers alone: what evaluation and export read."""
    _write(path, _weights(towers), {})


def load_weights(path: Path, towers: TwoTowers) -> None:
    """Fill `towers` from `save_weights`' file; raises RunError as `load_checkpoint` does."""
    _fill(path, towers, _read(path)[0])


def _weights(learned: nn.Module) -> dict[str, Tensor]:
    """Every parameter once: the shared text encoder goes by its first name."""
    return {name: parameter.detach() for name, parameter in learned.named_parameters()}


def _fill(path: Path, learned: nn.Module, stored: dict[str, Tensor]) -> None:
    weights = _weights(learned)
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    if shapes != {name: tensor.shape for name, tensor in stored.items()}:
        raise RunError(f"{path} holds other towers than the run's config.toml describes; train again")
    for name, tensor in weights.items():
        tensor.copy_(stored[name])  # onto whatever device the towers are


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    beside = path.with_suffix(".tmp")
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, beside, metadata=metadata)
    beside.replace(path)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as exc:
        raise RunError(f"cannot read the checkpoint {path}: {exc}; train again without --resume") from exc
