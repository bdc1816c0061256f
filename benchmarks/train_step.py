"""A training step: its seconds and the memory that it takes, each preset in a process of its own."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from statistics import median

import msgspec

from benchmarks.blocks import Progress
from benchmarks.conditions import ROOT, conditions
from benchmarks.disturbance import cpu_times, steal_between
from benchmarks.report import BenchResult, Row
from benchmarks.train_process import WARM_UP, Asked, Measured
from models.config import RunConfig, load_config
from models.errors import ConfigError


def run(
    presets: Sequence[str] = ("tiny", "base"),
    *,
    batch: int | None = None,
    chunk: int | None = None,
    steps: int = 5,
    threads: int = 0,
    progress: Progress | None = None,
) -> BenchResult:
    """Take real steps on random pairs of realistic lengths: features, forward, loss, backward, clipping and Adam.

    Args:
        presets: by name.
        batch: pairs; None: the preset's.
        chunk: rows in memory at once; None: the preset's.
        steps: measured ones, after two that warm up on the longest texts of all.
        threads: of torch; 0: every core.

    Raises:
        ConfigError: an unknown preset, an impossible size, or a step that memory does not hold.
    """
    configs = [configured(preset, batch=batch, chunk=chunk, threads=threads) for preset in presets]
    each, done = WARM_UP + steps, 0

    def step_done() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, each * len(configs))

    before = cpu_times()
    found = [_in_own_process(Asked(config, steps), step_done) for config in configs]
    return BenchResult(
        bench="train-step",
        title="A training step on random pairs of realistic lengths",
        rows=[_row(*pair) for pair in zip(configs, found, strict=True)],
        conditions=conditions(
            threads=found[0].threads,
            device=found[0].device,
            steps=steps,
            steal=round(steal_between(before, cpu_times()), 4),
        ),
        notes=["seconds: the median step, Adam's included; memory: the process' peak, over the longest texts too"],
    )


def configured(preset: str, *, batch: int | None, chunk: int | None, threads: int) -> RunConfig:
    """The preset with what was asked instead of its own; raises ConfigError."""
    config = load_config(preset=preset)
    asked = {"batch": batch, "chunk": chunk, "threads": threads}
    given = {name: value for name, value in asked.items() if value is not None}
    changed = msgspec.structs.replace(config, train=msgspec.structs.replace(config.train, **given))
    changed.check()
    return changed


def _in_own_process(asked: Asked, step_done: Callable[[], None]) -> Measured:
    command = [sys.executable, "-m", "benchmarks.train_process", msgspec.json.encode(asked).decode()]
    said: list[str] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        for line in process.stdout or ():
            said.append(line)
            if len(said) <= WARM_UP + asked.steps:
                step_done()
    if process.returncode:
        train = asked.config.train
        raise ConfigError(
            f"{asked.config.preset} at train.batch={train.batch} and train.chunk={train.chunk} ended with "
            f"{process.returncode} after {len(said)} steps; where it was killed for its memory, lower the chunk"
        )
    return msgspec.json.decode(said[-1], type=Measured)


def _row(config: RunConfig, found: Measured) -> Row:
    seconds, train = median(found.seconds), config.train
    return {
        "name": config.preset,
        "parameters_millions": found.parameters / 1e6,
        "batch": train.batch,
        "chunk": train.chunk,
        "s_per_step": seconds,
        "pairs_per_s": train.batch / seconds,
        "peak_rss_gb": found.peak_rss_gb,
        **({} if found.peak_gpu_gb is None else {"peak_gpu_gb": found.peak_gpu_gb}),
    }
