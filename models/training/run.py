"""A run directory: the configuration, the featuriser, the weights and what happened on the way.

runs/NAME/
    config.toml  features.json  tokenizer.model    written first
    checkpoint.safetensors                         the latest state, to resume from
    teacher.safetensors                            the teacher's vectors, where there is one
    mined.safetensors                              the epoch's hard negatives, where they are mined
    best.safetensors                               the towers at the best validation ROC AUC
    training.json                                  the evaluations, written last
"""

import hashlib
import resource
from pathlib import Path

import msgspec

from models.config import RunConfig, saved_config
from models.data.schema import Dataset
from models.errors import ReleaseError, RunError
from models.features import Featurizer
from models.towers import TwoTowers, build_towers
from models.training.checkpoint import Position, load_weights

CONFIG_FILE = "config.toml"
CHECKPOINT_FILE = "checkpoint.safetensors"
BEST_FILE = "best.safetensors"
TRAINING_FILE = "training.json"
TEACHER_FILE = "teacher.safetensors"


class TrainingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`training.json`: that the run ended, on what, and how it went."""

    dataset: str
    pairs: int
    weak_pairs: bool
    parameters: int
    pairs_per_second: float
    peak_memory_mb: float  # of the training process
    position: Position


class Run:
    """A finished run, opened: its configuration, featuriser and trained towers."""

    def __init__(self, path: Path, config: RunConfig, featurizer: Featurizer, towers: TwoTowers) -> None:
        self.path = path
        self.config = config
        self.featurizer = featurizer
        self.towers = towers

    @classmethod
    def open(cls, path: Path) -> "Run":
        """Load the best weights of a finished run.

        Raises:
            RunError: not a run, unfinished, or damaged; says how to go on.
        """
        record(path)
        config = saved_config(path / CONFIG_FILE)
        try:
            featurizer = Featurizer.load(path)
        except ReleaseError as exc:
            raise RunError(str(exc)) from exc
        towers = build_towers(config.model, featurizer.spec, vocabulary=featurizer.vocabulary)
        load_weights(path / BEST_FILE, towers)
        return cls(path, config, featurizer, towers.eval())


def record(path: Path) -> TrainingRecord:
    """What `training.json` says; raises RunError where the run is missing or unfinished."""
    try:
        return msgspec.json.decode((path / TRAINING_FILE).read_bytes(), type=TrainingRecord)
    except FileNotFoundError as exc:
        if (path / CONFIG_FILE).exists():
            raise RunError(f"{path} is unfinished; go on with `que2search train --resume --out {path}`") from exc
        raise RunError(f"{path} is not a run; make one with `que2search train`") from exc
    except msgspec.DecodeError as exc:
        raise RunError(f"{path / TRAINING_FILE} is damaged: {exc}; train again") from exc


def start_run(path: Path, config: RunConfig, featurizer: Featurizer) -> None:
    """Make the directory and write what must be there before the first step."""
    path.mkdir(parents=True, exist_ok=True)
    for name in (TRAINING_FILE, CHECKPOINT_FILE, BEST_FILE):
        (path / name).unlink(missing_ok=True)
    featurizer.save(path)
    config.save(path / CONFIG_FILE)  # last: with it, the run can be resumed


def finish_run(
    path: Path,
    dataset: Dataset,
    *,
    pairs: int,
    weak_pairs: bool,
    batch: int,
    towers: TwoTowers,
    position: Position,
) -> None:
    """Write `training.json`, which makes the run a finished one."""
    ended = TrainingRecord(
        dataset=str(dataset.path),
        pairs=pairs,
        weak_pairs=weak_pairs,
        parameters=sum(parameter.numel() for parameter in towers.parameters()),
        pairs_per_second=round(position.step * batch / max(position.seconds, 1e-9), 1),
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        position=position,
    )
    beside = path / f"{TRAINING_FILE}.tmp"
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(ended)))
    beside.replace(path / TRAINING_FILE)


def can_resume(path: Path) -> bool:
    """Whether there is a checkpoint; a run that was killed before its first begins again.

    Raises:
        RunError: no run was ever started there.
    """
    if not (path / CONFIG_FILE).exists():
        raise RunError(f"nothing to resume in {path}; train without --resume")
    return (path / CHECKPOINT_FILE).exists()


def run_identity(config: RunConfig, dataset: Dataset) -> str:
    """A resumed run must go on with the configuration and the data that it was started with."""
    return hashlib.sha256(msgspec.json.encode((config, dataset.manifest))).hexdigest()
