"""A training state on disk: one safetensors file, so that it is written whole or not at all, and never a pickle."""

from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.errors import RunError
from models.towers import TwoTowers


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the validation data."""

    step: int
    epoch: int
    loss: float  # mean over the steps since the last evaluation
    roc_auc: float
    seconds: float  # of training so far


class Position(msgspec.Struct, kw_only=True):
    """How far a run has come; with the tensors, all that a resumed run needs."""

    identity: str  # of configuration and data
    step: int = 0  # steps done
    loss_sum: float = 0.0  # since the last evaluation
    loss_steps: int = 0
    best_roc_auc: float = -1.0
    best_step: int = 0
    evaluations_without_gain: int = 0
    finished: bool = False
    seconds: float = 0.0
    history: list[Evaluation] = msgspec.field(default_factory=list)


def save_checkpoint(path: Path, *, towers: TwoTowers, optimizer: torch.optim.Adam, position: Position) -> None:
    """Write weights, Adam's moments, the random state and the position beside, then rename."""
    tensors = {f"towers.{name}": tensor for name, tensor in _weights(towers).items()}
    for at, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{at}.{name}": value for name, value in state.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    _write(path, tensors, {"position": msgspec.json.encode(position).decode()})


def load_checkpoint(path: Path, *, towers: TwoTowers, optimizer: torch.optim.Adam) -> Position:
    """Restore all that `save_checkpoint` wrote.

    Raises:
        RunError: the file is missing, damaged or of another model.
    """
    tensors, metadata = _read(path)
    _fill(
        path,
        towers,
        {name.removeprefix("towers."): tensors[name] for name in tensors if name.startswith("towers.")},
    )
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, at, field = name.split(".", 2)
            states.setdefault(int(at), {})[field] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random.cpu"])
    return msgspec.json.decode(metadata["position"], type=Position)


def save_weights(path: Path, towers: TwoTowers) -> None:
    """The towers alone: what evaluation and export read."""
    _write(path, _weights(towers), {})


def load_weights(path: Path, towers: TwoTowers) -> None:
    """Fill `towers` from `save_weights`' file; raises RunError as `load_checkpoint` does."""
    _fill(path, towers, _read(path)[0])


def _weights(towers: TwoTowers) -> dict[str, Tensor]:
    """Every parameter once: the shared text encoder goes by its first name."""
    return {name: parameter.detach() for name, parameter in towers.named_parameters()}


def _fill(path: Path, towers: TwoTowers, stored: dict[str, Tensor]) -> None:
    weights = _weights(towers)
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    if shapes != {name: tensor.shape for name, tensor in stored.items()}:
        raise RunError(f"{path} holds other towers than the run's config.toml describes; train again")
    for name, tensor in weights.items():
        tensor.copy_(stored[name])


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    beside = path.with_suffix(".tmp")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside, metadata=metadata)
    beside.replace(path)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as exc:
        raise RunError(f"cannot read the checkpoint {path}: {exc}; train again without --resume") from exc
