"""What each part of the model is worth: rows of Tables 3 and 4 of Que2Search, each trained with several seeds.

A row is a configuration and the row that it is compared with. Every run is a run directory OUT/ROW/seed-N of its own:
what is finished is taken as it is, what was killed goes on. Small models gain little from a second core, so runs share
the cores out among them.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import msgspec
import numpy as np
from rich.table import Table

from models.config import RunConfig, changed
from models.data.schema import Dataset
from models.errors import ConfigError, RunError
from models.evaluation.held_out import held_out_task, vector_system
from models.evaluation.retrieval import METRICS, observe, statistics
from models.evaluation.slices import whole
from models.training.batches import DocumentTable
from models.training.run import Run, run_identity
from models.training.train import train_once

FIGURES_FILE = "figures.json"  # of one run
ABLATION_FILE = "ablation.json"  # of the study
TABLES_FOLDER, ADAPTIVE_FOLDER = "tables", "adaptive"  # of the two studies
HEADLINE = "roc_auc"  # what the paper's Table 4 shows
SHOWN = ("roc_auc", "query_roc_auc", "batch_recall_at_1", "knn_recall_at_10", "recall_at_10")

Progress = Callable[[int, int, str], None]  # runs done, runs in all, the run that is done


class Row(NamedTuple):
    """One line of the table."""

    name: str
    over: str | None  # the row it is compared with; None: the baseline
    changes: Mapping[str, Any]  # over the compared row's configuration
    paper: str = ""  # what the paper found
    family: str = ""  # of a sweep: the hyper-parameter
    value: float | None = None  # of a sweep: the fixed value; None: it is adapted


class Study(NamedTuple):
    """Rows in the order in which they are shown; a row comes after the one it is compared with."""

    title: str
    common: Mapping[str, Any]  # changes over the base for every row
    rows: tuple[Row, ...]

    def configurations(self, base: RunConfig) -> dict[str, RunConfig]:
        """Each row's configuration, by its name. Raises ConfigError."""
        bottom = changed(base, self.common, source=self.title)
        found: dict[str, RunConfig] = {}
        for row in self.rows:
            below = bottom if row.over is None else found[row.over]
            found[row.name] = changed(below, row.changes, source=f"row {row.name!r}")
        return found

    def only(self, names: Sequence[str]) -> "Study":
        """The named rows and those that they are compared with, down to the baseline. Raises ConfigError."""
        known = {row.name: row for row in self.rows}
        if unknown := [name for name in names if name not in known]:
            raise ConfigError(f"unknown rows {unknown}; known are {list(known)}")
        kept = set(names)
        for row in reversed(self.rows):
            if row.name in kept and row.over is not None:
                kept.add(row.over)
        return self._replace(rows=tuple(row for row in self.rows if row.name in kept))


def _model(**changes: Any) -> dict[str, Any]:
    return {"model": changes}


_TRIGRAMS = ("title_trigram", "description_trigram")
_TEXTS = ("title_text", "description_text")

_SOFTMAX_ALONE = {"curriculum": False, "classification": False, "blending": False}

TABLES_3_AND_4 = Study(
    "What each part is worth (Que2Search, Tables 3 and 4)",
    _SOFTMAX_ALONE,
    (
        Row("trigram", None, _model(query_channels=("trigram",), document_channels=_TRIGRAMS), "ROC AUC 0.795"),
        Row(
            "+ text",
            "trigram",
            _model(query_channels=("text", "trigram"), document_channels=(*_TEXTS, *_TRIGRAMS)),
            "+2.1 points",
        ),
        Row("+ image", "trigram", _model(document_channels=(*_TRIGRAMS, "image")), "+1.1"),
        Row("+ text + image", "+ text", _model(document_channels=(*_TEXTS, *_TRIGRAMS, "image")), "+0.9"),
        Row("concatenation", "+ text + image", _model(fusion="concatenation"), "batch recall@1 -0.15 % relative"),
        Row("sum", "+ text + image", _model(fusion="sum"), "not in the paper"),
        Row("separate encoders", "+ text + image", _model(shared_encoder=False), "batch recall@1 -0.04 % relative"),
        Row("+ country", "+ text + image", _model(query_channels=("text", "trigram", "country")), "in Fig. 2"),
        Row(
            "+ curriculum",
            "+ country",
            {"curriculum": {"loss": {"type": "margin", "reduction": "sum"}, "epochs": 2, "patience": 2}},
            "+0.8",
        ),
        Row("margin, mean", "+ curriculum", {"curriculum": {"loss": {"reduction": "mean"}}}, "worse than the sum"),
        Row("scaled BCE", "+ curriculum", {"curriculum": {"loss": {"type": "bce"}}}, "not better than the margin"),
        Row("+ encoder rate", "+ curriculum", {"train": {"encoder_learning_rate": 2e-4}}, "+0.4"),
        Row("+ class head", "+ encoder rate", {"classification": {}}, "+0.5"),
        Row("+ blending", "+ class head", {"blending": {}}, "+0.7"),
    ),
)


def _adaptive(kind: str, **changes: Any) -> dict[str, Any]:
    return {"train": {"loss": {"type": kind, **changes}}}


def _fixed_margin(margin: float) -> Row:
    changes = _adaptive("adaptive_margin", alpha=0.0, delta_0=margin)
    return Row(f"margin {margin:g}", None, changes, family="margin", value=margin)


def _fixed_temperature(temperature: float) -> Row:
    name = f"temperature 1/{round(1 / temperature)}"
    changes = _adaptive("adaptive_softmax", alpha=0.0, tau_0=temperature)
    return Row(name, None, changes, family="temperature", value=temperature)


def _adapted(family: str, name: str, over: str, paper: str, **changes: Any) -> Row:
    kind = {"margin": "adaptive_margin", "temperature": "adaptive_softmax"}[family]
    return Row(name, over, _adaptive(kind, **changes), paper, family=family)


_MARGIN, _TEMPERATURE = "margin 0.1", "temperature 1/30"  # JD's hand-tuned ones

ADAPTIVE = Study(
    "Fixed against adaptive hyper-parameters (JD, EMNLP'23)",
    # A loss is compared here, not an encoder: without text a run takes a quarter of the time.
    _SOFTMAX_ALONE | _model(query_channels=("trigram", "country"), document_channels=(*_TRIGRAMS, "image")),
    (
        *(_fixed_margin(margin) for margin in (0.02, 0.05, 0.1, 0.2, 0.4)),
        _adapted("margin", "adaptive margin", _MARGIN, "better than any fixed one", alpha=0.5, delta_0=0.01),
        _adapted("margin", "margin, no stop-gradient", "adaptive margin", "collapses", stop_gradient=False),
        _adapted("margin", "margin, no symmetric term", "adaptive margin", "worse", symmetric_weight=0.0),
        *(_fixed_temperature(temperature) for temperature in (1 / 5, 1 / 10, 1 / 20, 1 / 30, 1 / 60)),
        _adapted("temperature", "adaptive temperature", _TEMPERATURE, "better than any fixed one", alpha=0.5),
        _adapted(
            "temperature", "temperature, no stop-gradient", "adaptive temperature", "collapses", stop_gradient=False
        ),
        _adapted(
            "temperature", "temperature, no symmetric term", "adaptive temperature", "worse", symmetric_weight=0.0
        ),
        _adapted("temperature", "added temperature", "adaptive temperature", "not said", tau_form="add"),
    ),
)


class Spread(msgspec.Struct, frozen=True):
    """A figure over the seeds."""

    mean: float
    deviation: float  # sample standard deviation; 0 with one seed
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        deviation = stdev(values) if len(values) > 1 else 0.0
        return cls(fmean(values), deviation, min(values), max(values))


class RowResult(msgspec.Struct, frozen=True, kw_only=True):
    """A row over its seeds."""

    name: str
    over: str | None
    paper: str
    family: str
    value: float | None
    metrics: dict[str, Spread]
    gains: dict[str, Spread]  # over the compared row, seed by seed; empty for a baseline
    verdict: str


class AblationResult(msgspec.Struct, frozen=True, kw_only=True):
    """`ablation.json`."""

    title: str
    conditions: dict[str, Any]
    rows: list[RowResult]

    @classmethod
    def load(cls, folder: Path) -> "AblationResult | None":
        """What `save` wrote, or None where there is nothing. Raises RunError where it is damaged."""
        path = folder / ABLATION_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as exc:
            raise RunError(f"{path} is damaged: {exc}; run the ablation again, finished runs are kept") from exc

    def save(self, folder: Path) -> Path:
        """Write `ablation.json` beside, then rename; returns where."""
        return _write(folder / ABLATION_FILE, self)

    def table(self) -> Table:
        """Mean and standard deviation over the seeds, and by how much a row moves the headline figure."""
        table = Table(title=f"{self.title}: mean ± standard deviation over seeds", title_justify="left")
        table.add_column("row", no_wrap=True)
        for metric in SHOWN:
            table.add_column(METRICS[metric], justify="right")
        for heading in (f"gain, {METRICS[HEADLINE]}", "over", "", "paper"):
            table.add_column(heading)
        for row in self.rows:
            figures = [
                f"{row.metrics[metric].mean:.3f} ± {row.metrics[metric].deviation:.3f}"
                if metric in row.metrics
                else "-"
                for metric in SHOWN
            ]
            gain = row.gains.get(HEADLINE)
            moved = f"{gain.mean:+.3f} [{gain.least:+.3f}, {gain.most:+.3f}]" if gain else ""
            table.add_row(row.name, *figures, moved, row.over or "", row.verdict, row.paper)
        return table


class Job(NamedTuple):
    """One run of a study."""

    row: str
    config: RunConfig  # with its seed
    path: Path  # the run directory

    def __str__(self) -> str:
        return f"{self.row}, seed {self.config.seed}"


def run_study(
    study: Study,
    dataset: Dataset,
    out: Path,
    base: RunConfig,
    *,
    seeds: Sequence[int],
    jobs: int = 1,
    commit: str | None = None,
    progress: Progress | None = None,
) -> AblationResult:
    """Train and measure every row with every seed, `jobs` at a time, or take what is there already.

    Raises:
        ConfigError, DataError: the base configuration or the dataset cannot be used for a row.
    """
    configs = study.configurations(base)
    wanted = [  # a seed at a time: an early stop leaves whole tables
        Job(name, msgspec.structs.replace(config, seed=seed), out / _folder(name) / f"seed-{seed}")
        for seed in seeds
        for name, config in configs.items()
    ]
    figures = {job: kept for job in wanted if (kept := _kept(job, dataset)) is not None}
    lacking = [job for job in wanted if job not in figures]
    for job, measured in _one_by_one(lacking, dataset) if jobs == 1 else _side_by_side(lacking, dataset, jobs):
        figures[job] = measured
        if progress is not None:
            progress(len(figures), len(wanted), str(job))
    conditions = {
        "dataset": str(dataset.path),
        "preset": base.preset,
        "seeds": list(seeds),
        "counts": dict(dataset.manifest.counts),
        "commit": commit,
    }
    by_row = {name: [figures[job] for job in wanted if job.row == name] for name in configs}
    return AblationResult(title=study.title, conditions=conditions, rows=list(_results(study, by_row)))


def _one_by_one(jobs: Sequence[Job], dataset: Dataset) -> Iterator[tuple[Job, dict[str, float]]]:
    for job in jobs:
        yield job, _measured(job, dataset)


def _side_by_side(jobs: Sequence[Job], dataset: Dataset, workers: int) -> Iterator[tuple[Job, dict[str, float]]]:
    """In processes that share out this one's cores, as they get done."""
    cores = sorted(os.sched_getaffinity(0))
    spawn = multiprocessing.get_context("spawn")  # a forked torch can hang
    shares = spawn.SimpleQueue()
    for worker in range(workers):
        shares.put(set(cores[worker::workers]) or set(cores))
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_keep_to_share, initargs=(shares,)) as pool:
        running = {pool.submit(_measured, job, dataset): job for job in jobs}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # one failed, or nobody waits for the rest


def _keep_to_share(shares: "multiprocessing.SimpleQueue[set[int]]") -> None:
    """A training takes as many threads as its process has cores."""
    os.sched_setaffinity(0, shares.get())


def _kept(job: Job, dataset: Dataset) -> dict[str, float] | None:
    """The run's figures, where it was measured before with this configuration and data."""
    try:
        kept = msgspec.json.decode((job.path / FIGURES_FILE).read_bytes())
    except FileNotFoundError:
        return None
    return dict(kept["figures"]) if kept["identity"] == run_identity(job.config, dataset) else None


def _measured(job: Job, dataset: Dataset) -> dict[str, float]:
    """The run's figures on the test days and ratings; trained now, or on from its checkpoint."""
    figures = _figures(train_once(dataset, job.path, job.config), dataset)
    _write(job.path / FIGURES_FILE, {"identity": run_identity(job.config, dataset), "figures": figures})
    return figures


def _figures(run: Run, dataset: Dataset) -> dict[str, float]:
    task = held_out_task(run, dataset)
    system = vector_system(run.path.name, run, task, DocumentTable(dataset, run.featurizer))
    observed = observe(task, system, batch=run.config.train.batch)
    once = np.ones(len(task.queries))
    found = {name: statistic(once) for name, statistic in statistics(task, observed, whole(task)).items()}
    return {name: value for name, value in found.items() if value is not None}


def _results(study: Study, figures: Mapping[str, list[dict[str, float]]]) -> Iterator[RowResult]:
    for row in study.rows:
        own = figures[row.name]
        gains = {}
        if row.over is not None:
            pairs = list(zip(own, figures[row.over], strict=True))
            gains = {
                metric: Spread.of([mine[metric] - theirs[metric] for mine, theirs in pairs]) for metric in _common(own)
            }
        yield RowResult(
            name=row.name,
            over=row.over,
            paper=row.paper,
            family=row.family,
            value=row.value,
            metrics={metric: Spread.of([each[metric] for each in own]) for metric in _common(own)},
            gains=gains,
            verdict=verdict(gains[HEADLINE]) if HEADLINE in gains else "",
        )


def verdict(gain: Spread) -> str:
    """What the seeds agree on."""
    if gain.least > 0:
        return "helps with every seed"
    return "hurts with every seed" if gain.most < 0 else "no clear effect"


def _common(figures: Sequence[Mapping[str, float]]) -> list[str]:
    return [metric for metric in METRICS if all(metric in each for each in figures)]


def _folder(name: str) -> str:
    """A row's name as a folder's."""
    return "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")


def _write(path: Path, result: object) -> Path:
    beside = path.with_name(f"{path.name}.tmp")
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    return beside.replace(path)
