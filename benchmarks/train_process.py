"""Training steps in a process of their own, whose peak memory is theirs alone: `python -m benchmarks.train_process`.

Its argument is `Asked` as JSON. It prints a line per step and, last, `Measured` as JSON.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import nn

from benchmarks.random_pairs import RandomDocuments, RandomQueries, batches_by_length, pairs_of, random_spec
from models.config import RunConfig
from models.sections import ClassificationConfig
from models.towers import build_towers, channel_groups
from models.training.batches import WINDOW, PairBatch
from models.training.objective import ClassHead, Objective
from models.training.ranks import Ranks
from models.training.steps import backward
from models.training.trainer import build_optimizer, training_device, wants_bfloat16

WARM_UP = 2  # steps: the first one makes Adam's moments, so that the second takes as much memory as any
LABELLED = 0.3  # share of documents that have a head query


class Asked(msgspec.Struct, frozen=True):
    """What to measure."""

    config: RunConfig
    steps: int


class Measured(msgspec.Struct, frozen=True):
    """What was found."""

    seconds: list[float]  # of each step after the warm-up
    parameters: int  # learnt ones, the class head's included
    threads: int
    device: str
    peak_rss_gb: float  # 1e9 bytes
    peak_gpu_gb: float | None


class Training:
    """What `train` puts together for a configuration, over random pairs."""

    def __init__(self, config: RunConfig) -> None:
        torch.set_num_threads(config.train.threads or torch.get_num_threads())
        torch.manual_seed(config.seed)
        draw = np.random.default_rng(config.seed)
        spec, rows, vocabulary = random_spec(config), WINDOW * config.train.batch, config.features.vocabulary
        self.config = config
        self.device = training_device(config.train)
        self.queries = RandomQueries(rows, spec, draw, vocabulary=vocabulary)
        self.documents = RandomDocuments(rows, spec, draw, vocabulary=vocabulary)
        self.towers = build_towers(config.model, spec, vocabulary=vocabulary).to(self.device)
        head = random_class_head(config.classification, draw, documents=rows, dim=config.model.dim)
        self.objective = Objective(config.train.loss, class_head=head).to(self.device)
        if config.blending:
            for tower in (self.towers.query, self.towers.document):
                tower.groups = channel_groups(config.blending.groups, tower)
            losses = 1 + len(self.towers.query.groups) + len(self.towers.document.groups)
            self.objective.weights = [1 / losses] * losses  # training estimates them, which takes no part in a step
        self.learned = nn.ModuleList([self.towers, self.objective])
        self._optimizer = build_optimizer(self.towers, self.objective, config.train)

    def step(self, batch: PairBatch) -> None:
        """As the trainer takes it, waited for."""
        train = self.config.train
        self.learned.train()
        self._optimizer.zero_grad(set_to_none=True)
        backward(
            self.towers,
            self.objective,
            batch,
            queries=self.queries,
            documents=self.documents,
            chunk=train.chunk,
            ranks=Ranks(),
            seed=self.config.seed,
            bfloat16=wants_bfloat16(train, self.device),
        )
        nn.utils.clip_grad_norm_(self.learned.parameters(), train.clip)
        self._optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def random_class_head(
    config: ClassificationConfig | None, draw: np.random.Generator, *, documents: int, dim: int
) -> ClassHead | None:
    """One label for some of the documents; None without the task."""
    if config is None:
        return None
    labels = draw.integers(0, config.labels, (documents, 1))
    labels[draw.random(documents) >= LABELLED] = -1
    return ClassHead(config, labels=torch.from_numpy(labels), classes=config.labels, dim=dim)


def timed_steps(training: Training, *, steps: int) -> Iterator[float]:
    """Seconds of each step: first the warm-up on the longest texts, then batches from all over the window."""
    train = training.config.train
    batches = batches_by_length(training.documents, batch=train.batch)
    longest = pairs_of(batches[-1].document_rows[-(train.chunk or train.batch) :])
    spread = [batches[int((at + 0.5) * WINDOW / steps)] for at in range(steps)]
    for batch in [longest] * WARM_UP + spread:
        started = time.perf_counter()
        training.step(batch)
        yield time.perf_counter() - started


def peak_rss_bytes() -> int:
    """This program's own peak; getrusage would count that of the process that started it, too."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024  # "VmHWM:   1234 kB"


def main(asked: Asked) -> None:
    training = Training(asked.config)
    seconds = []
    for took in timed_steps(training, steps=asked.steps):
        seconds.append(took)
        print(f"{took:.3f} s", flush=True)
    on_gpu = training.device.type == "cuda"
    measured = Measured(
        seconds=seconds[WARM_UP:],
        parameters=sum(parameter.numel() for parameter in training.learned.parameters()),
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(training.device) if on_gpu else "cpu",
        peak_rss_gb=peak_rss_bytes() / 1e9,
        peak_gpu_gb=torch.cuda.max_memory_allocated(training.device) / 1e9 if on_gpu else None,
    )
    print(msgspec.json.encode(measured).decode())


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Asked))
