"""From a dataset and a configuration to a finished run: everything put together, then trained."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import torch

from models.config import RunConfig
from models.data.conversations import PairSplit, head_queries, training_pairs
from models.data.schema import Dataset
from models.data.weak import carriers
from models.errors import ConfigError, DataError, RunError
from models.features import Featurizer, normalise
from models.pretrained import encoder_sizes, load_pretrained_encoders
from models.reader import TextsRead
from models.towers import TwoTowers, build_towers, channel_groups
from models.training.batches import DocumentTable, NumberedPairs, PairBatches, QueryTable, number_pairs
from models.training.measures import Measures
from models.training.objective import ClassHead, Objective, class_labels
from models.training.prepare import prepare_featurizer
from models.training.ranks import Ranks
from models.training.run import TEACHER_FILE, Run, can_resume, finish_run, record, run_identity, start_run
from models.training.teacher import Teacher, load_teacher, read_by_teacher
from models.training.trainer import Reporter, Trainer, training_device
from models.training.validation import Validation, validation_examples


def train(
    dataset: Dataset,
    out: Path,
    config: RunConfig,
    *,
    resume: bool = False,
    featurizer: Featurizer | None = None,
    report: Reporter | None = None,
    reading: TextsRead | None = None,
) -> Run:
    """Train both towers on the dataset's pairs and return the run at its best validation ROC AUC.

    A run that was killed goes on with `resume` from its last checkpoint and ends where it would have ended.
    A `featurizer` given is used as it is: a baseline shares the feature space of the run it is compared with.
    Under torchrun every process trains on its share of each batch, and the first one writes. A teacher's reading of the
    texts, minutes long, is reported through `reading`.

    Raises:
        ConfigError: the configuration asks for what the data or the machine does not have.
        DataError: the dataset has too few pairs.
        RunError: nothing to resume, or `out` was started with another configuration.
    """
    torch.set_num_threads(config.train.threads or len(os.sched_getaffinity(0)))
    torch.manual_seed(config.seed)
    device = training_device(config.train)
    if config.teacher:
        encoder_sizes(Path(config.teacher.encoder))  # refused now, not after the texts are prepared
    split = training_pairs(dataset, seed=config.seed)
    if len(split.train) < config.train.batch:
        raise DataError(
            f"{dataset.path} gives {len(split.train)} training pairs, fewer than train.batch={config.train.batch}"
        )
    with Ranks.from_environment(device) as ranks:
        resume = resume and can_resume(out)
        if resume:
            featurizer = Featurizer.load(out)
        else:
            featurizer = featurizer or prepare_featurizer(dataset, split.train, config)
            if ranks.is_main:
                start_run(out, config, featurizer)
        ranks.barrier()
        trainer = _trainer(
            dataset, split, out, config, featurizer, ranks=ranks, device=device, report=report, reading=reading
        )
        if resume:
            trainer.restore()
        position = trainer.run()
        weak = bool(split.train["weak"].any())
        if ranks.is_main:
            finish_run(
                out,
                dataset,
                pairs=len(split.train),
                weak_pairs=weak,
                towers=trainer.towers,
                position=position,
                batch=config.train.batch,
            )
        ranks.barrier()
    return Run.open(out)


def train_once(
    dataset: Dataset,
    out: Path,
    config: RunConfig,
    *,
    featurizer: Featurizer | None = None,
    report: Reporter | None = None,
) -> Run:
    """The finished run of this configuration and data where `out` has it; else trained now, or on from its checkpoint.

    What another configuration left there is replaced. Raises as `train`.
    """
    try:
        if record(out).position.identity == run_identity(config, dataset):
            return Run.open(out)
    except RunError:
        pass  # not there, or unfinished
    try:
        return train(dataset, out, config, resume=True, featurizer=featurizer, report=report)
    except RunError:  # nothing to go on from
        return train(dataset, out, config, featurizer=featurizer, report=report)


def _trainer(
    dataset: Dataset,
    split: PairSplit,
    out: Path,
    config: RunConfig,
    featurizer: Featurizer,
    *,
    ranks: Ranks,
    device: torch.device,
    report: Reporter | None,
    reading: TextsRead | None,
) -> Trainer:
    """Towers, objective, batches and validation for a run."""
    documents = DocumentTable(dataset, featurizer)
    # Held-out pairs come last in one numbering, so that both kinds read the same tables.
    numbered = number_pairs(pl.concat([split.train, split.validation]), documents)
    pairs = np.stack([numbered.query_rows, numbered.document_rows], axis=1)
    queries = QueryTable(numbered.queries, featurizer)
    towers = _towers(config, featurizer)
    class_head = _class_head(config, split.train, pairs[:, 1], documents=len(documents))
    teacher = _teacher(config, out / TEACHER_FILE, dataset, numbered.queries, ranks=ranks, reading=reading)
    objective = Objective(config.train.loss, class_head=class_head, teacher=teacher)
    for module in (towers, objective):
        ranks.broadcast(module.to(device))
    further = _carried(dataset, numbered) if split.train["weak"].any() else None
    batches, held_out = (
        PairBatches(
            part,
            queries=queries,
            documents=documents,
            batch=config.train.batch,
            seed=config.seed,
            further_positives=further,
        )
        for part in (pairs[: len(split.train)], pairs[len(split.train) :])
    )
    examples = validation_examples(dataset.judgements(), split.validation, documents=documents, seed=config.seed)
    return Trainer(
        out,
        config,
        identity=run_identity(config, dataset),
        towers=towers,
        objective=objective,
        batches=batches,
        measures=Measures(
            out, config, towers=towers, objective=objective, batches=batches, held_out=held_out, ranks=ranks
        ),
        validation=Validation(examples, documents=documents, featurizer=featurizer),
        ranks=ranks,
        report=report or (lambda _done, _most, _evaluation: None),
    )


def _teacher(
    config: RunConfig,
    path: Path,
    dataset: Dataset,
    queries: pl.DataFrame,
    *,
    ranks: Ranks,
    reading: TextsRead | None,
) -> Teacher | None:
    """The teacher with its vectors of all queries and products; None without one. It reads them once in a run."""
    if config.teacher is None:
        return None
    if ranks.is_main:
        read_by_teacher(
            config.teacher,
            path,
            queries=queries["query"].to_list(),
            products=dataset.products(["title", "description"]).rows(),
            progress=reading,
        )
    ranks.barrier()
    return load_teacher(config.teacher, path)


def _carried(dataset: Dataset, numbered: NumberedPairs) -> np.ndarray:
    """(f, 2) query and document rows: each weak query with every product that carries its words."""
    products = dataset.products(["title", "brand", "category"])
    found = [
        np.stack([np.full(len(rows), query), rows], axis=1)
        for query, rows in enumerate(carriers(numbered.queries["query"], products))
    ]
    return np.concatenate(found)


def _towers(config: RunConfig, featurizer: Featurizer) -> TwoTowers:
    towers = build_towers(config.model, featurizer.spec, vocabulary=featurizer.vocabulary)
    load_pretrained_encoders(towers, config.model)
    configured = ((towers.query, config.model.query_encoder), (towers.document, config.model.document_encoder))
    for encoder in (each for tower, settings in configured if settings.frozen for each in tower.text_encoders()):
        encoder.remember()
    if config.blending:
        for tower in (towers.query, towers.document):
            tower.groups = channel_groups(config.blending.groups, tower)
    return towers


def _class_head(
    config: RunConfig, pairs: pl.DataFrame, document_rows: np.ndarray, *, documents: int
) -> ClassHead | None:
    """The head over the training pairs' head queries; None without the task.

    Raises:
        ConfigError: fewer than two queries have enough pairs to be labels.
    """
    task = config.classification
    if task is None:
        return None
    heads = head_queries(pairs, task.labels, least=task.least_pairs)
    if len(heads) < 2:
        raise ConfigError(
            f"classification.least_pairs={task.least_pairs}: {len(heads)} queries have so many training pairs, and a "
            "class head needs two labels; lower it, or leave [classification] out"
        )
    written = {query: normalise(query) for query in pairs["query"].unique()}
    labels = class_labels(
        [written[query] for query in pairs["query"]],
        document_rows[: len(pairs)].tolist(),
        heads=heads,
        documents=documents,
    )
    return ClassHead(task, labels=labels, classes=len(heads), dim=config.model.dim)
