"""A run against its baselines on the data's test days: what `que2search evaluate` shows."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from index.lexical import LexicalIndex, LexicalProduct
from models.config import TRIGRAM_ONLY
from models.data.schema import Dataset
from models.evaluation.ablation import AblationResult
from models.evaluation.held_out import held_out_task, vector_system
from models.evaluation.page import write_page
from models.evaluation.report import Evaluation, evaluate
from models.evaluation.run_page import run_page
from models.evaluation.systems import LexicalSystem, System, VectorSystem
from models.evaluation.task import EvaluationTask
from models.reader import PretrainedReader, TextsRead
from models.training.batches import DocumentTable
from models.training.run import TEACHER_FILE, Run
from models.training.train import train_once
from models.training.trainer import Reporter

METRICS_FILE = "metrics.json"
REPORT_FILE = "report.html"
TITLE_TOKENS = 48  # of a title, at most, as a pretrained encoder reads it
TRIGRAM_RUN = "trigram"  # the baseline's own run directory, inside the run's


def evaluate_run(
    run: Run,
    dataset: Dataset,
    *,
    encoder: Path | None = None,
    beside: Mapping[str, Path] | None = None,
    ablation: AblationResult | None = None,
    sweep: AblationResult | None = None,
    commit: str | None = None,
    report: Reporter | None = None,
    reading: TextsRead | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure the run, its trigram-only variant and BM25 on test pairs and ratings; write metrics.json and report.html.

    The variant is the paper's baseline: the same data, featuriser and settings, 3-gram channels alone. It is trained
    when it is not there yet, and reported through `report`.

    Args:
        encoder: directory of a pretrained encoder that is measured beside them as it comes, reading titles; its reading
            is reported through `reading`.
        beside, ablation, sweep: what else the report shows, see `run_page`.
        commit: of the code that measures, for the conditions.

    Raises:
        RunError, DataError: a run or the dataset cannot be used.
    """
    task = held_out_task(run, dataset)
    variant = trigram_variant(run, dataset, report=report)
    documents = DocumentTable(dataset, run.featurizer)  # the variant shares the featuriser
    systems: list[System] = [
        vector_system("full model", run, task, documents),
        vector_system("trigram only", variant, task, documents),
    ]
    ranker = LexicalSystem("BM25", lexical=_lexical(dataset), texts=task.queries["query"].to_list())
    systems.append(ranker)
    if encoder is not None:
        systems.append(_pretrained_system(encoder, task, dataset, reading=reading))
    batch, conditions = run.config.train.batch, _conditions(run, dataset, commit=commit)
    evaluation = evaluate(task, systems, batch=batch, conditions=conditions, progress=progress)
    evaluation.save(run.path / METRICS_FILE)
    page = run_page(
        run,
        dataset,
        task=task,
        documents=documents,
        system=systems[0],
        ranker=ranker,
        evaluation=evaluation,
        beside=beside,
        ablation=ablation,
        sweep=sweep,
    )
    write_page(run.path / REPORT_FILE, page)
    return evaluation


def evaluate_missing(run: Run, dataset: Dataset) -> Evaluation:
    """The run with everything there, without any description, and without any image: why blending exists (3.6).

    Raises:
        DataError: the dataset cannot be used.
    """
    task = held_out_task(run, dataset)
    documents = DocumentTable(dataset, run.featurizer)
    systems = [
        vector_system(name, run, task, table)
        for name, table in (
            ("all there", documents),
            ("no descriptions", documents.without(descriptions=True)),
            ("no images", documents.without(images=True)),
        )
    ]
    return evaluate(task, systems, batch=run.config.train.batch, conditions=_conditions(run, dataset))


def trigram_variant(run: Run, dataset: Dataset, *, report: Reporter | None = None) -> Run:
    """The run's trigram-only variant, trained now unless it was before, on the same data and settings."""
    config = run.config.replace_channels(**TRIGRAM_ONLY)
    out = run.path / TRIGRAM_RUN
    read, reads = run.path / TEACHER_FILE, out / TEACHER_FILE
    if read.exists() and not reads.exists():
        out.mkdir(exist_ok=True)
        reads.hardlink_to(read)  # the teacher has read these texts
    return train_once(dataset, out, config, featurizer=run.featurizer, report=report)


def _pretrained_system(
    directory: Path, task: EvaluationTask, dataset: Dataset, *, reading: TextsRead | None
) -> VectorSystem:
    """Exact search in the vectors that a pretrained encoder gives queries and titles."""
    texts = task.queries["query"].to_list() + dataset.products(["title"])["title"].to_list()
    vectors = PretrainedReader(directory, tokens=TITLE_TOKENS).vectors(texts, progress=reading)
    count = len(task.queries)
    return VectorSystem("pretrained encoder", query_vectors=vectors[:count], product_vectors=vectors[count:])


def _lexical(dataset: Dataset) -> LexicalIndex:
    columns = dataset.products(["title", "description", "brand"]).iter_rows()
    return LexicalIndex.build(LexicalProduct(row, *fields) for row, fields in enumerate(columns))


def _conditions(run: Run, dataset: Dataset, *, commit: str | None = None) -> dict[str, Any]:
    named = {"run": str(run.path), "dataset": str(dataset.path), "preset": run.config.preset}
    return {**named, "training seed": run.config.seed, **({"commit": commit} if commit else {})}
