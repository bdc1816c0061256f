"""Distillation: a finished run teaches a query tower that is cheap enough to serve.

The student keeps the teacher's featuriser and its document tower, so the index need not change. Its query tower learns
to give the teacher's vectors, and the teacher's similarities to the documents of the batch. As documents stay as they
are they are embedded once, and a step costs no more than the student's query tower: there is room for many steps, and
parts of product titles serve as queries that nobody has asked yet.
"""

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from models.config import RunConfig
from models.data.conversations import PairSplit, training_pairs
from models.data.schema import Dataset
from models.errors import ConfigError, RunError
from models.losses import distil_similarities, distil_vectors
from models.sections import DistillationConfig, LossConfig
from models.towers import Tower, TwoTowers, Views, build_towers
from models.training.batches import DocumentTable, PairBatch, PairBatches, QueryTable, number_pairs
from models.training.checkpoint import load_weights, save_weights
from models.training.measures import Measures
from models.training.objective import Objective
from models.training.ranks import Ranks
from models.training.run import BEST_FILE, Run, can_resume, finish_run, run_identity, start_run
from models.training.trainer import Reporter, Trainer
from models.training.validation import Validation, embed_rows, validation_examples

K = 10
MOST_TITLES = 60_000  # parts of titles that join the queries: the teacher embeds each
SHORTEST, LONGEST = 1, 4  # words of such a part


class Retained(NamedTuple):
    """KNN recall@10 of the teacher's and the student's query vectors over the same document vectors."""

    teacher: float
    student: float

    @property
    def share(self) -> float:
        return self.student / self.teacher


class VectorRows(NamedTuple):
    """Documents as `VectorTower` reads them."""

    rows: np.ndarray  # (n,) int64


class VectorTable:
    """The products of a table whose vectors are known: a row is all there is to a document."""

    def __init__(self, documents: DocumentTable) -> None:
        self.row_of = documents.row_of
        self.lengths = documents.lengths

    def __len__(self) -> int:
        return len(self.row_of)

    def batch(self, rows: np.ndarray) -> VectorRows:
        return VectorRows(rows)


class VectorTower(Tower):
    """A document tower that has embedded everything already, and learns nothing."""

    inputs = ("rows",)

    def __init__(self, vectors: Tensor) -> None:
        nn.Module.__init__(self)
        self._vectors = vectors
        self.groups = ()

    @property
    def dim(self) -> int:
        return self._vectors.size(1)

    def forward(self, *features: Tensor) -> Tensor:
        return self._vectors[features[0]]

    def views(self, *features: Tensor) -> Views:
        vectors = self(*features).unsqueeze(1)
        return Views(vectors, torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device))


class DistillationObjective(Objective):
    """Near the teacher's vectors, with its similarities; and, as far as it is asked, the pairs' own loss.

    Args:
        teacher: (t, d) vectors of the query table's rows.
    """

    def __init__(self, config: DistillationConfig, loss: LossConfig, *, teacher: Tensor) -> None:
        super().__init__(loss)
        self._config = config
        self.register_buffer("_teacher", teacher, persistent=False)

    def forward(self, queries: Views, documents: Views, batch: PairBatch) -> Tensor:
        config, student, vectors = self._config, queries.vectors[:, 0], documents.vectors[:, 0]
        teacher: Tensor = self._teacher[torch.from_numpy(batch.query_rows)]  # type: ignore[index]
        similarities = distil_similarities(student @ vectors.T, teacher @ vectors.T, scale=config.scale)
        loss = config.vector_weight * distil_vectors(student, teacher) + config.similarity_weight * similarities
        if config.pair_weight:
            loss = loss + config.pair_weight * super().forward(queries, documents, batch)
        return loss


def distil(
    dataset: Dataset, out: Path, config: RunConfig, *, resume: bool = False, report: Reporter | None = None
) -> Run:
    """Train the configured query tower to stand in for the teacher's; the run is one like any other.

    Raises:
        ConfigError: no teacher is named, or the student cannot read what the teacher reads.
        RunError: the teacher is no finished run, or there is nothing to resume.
    """
    if config.distillation is None:
        raise ConfigError("there is no [distillation] table that names the teacher's run")
    torch.set_num_threads(config.train.threads or len(os.sched_getaffinity(0)))
    torch.manual_seed(config.seed)
    teacher = Run.open(Path(config.distillation.teacher))
    config = student_config(config, teacher.config)
    split = training_pairs(dataset, seed=config.seed)
    resume = resume and can_resume(out)
    if not resume:
        start_run(out, config, teacher.featurizer)
    trainer, pairs = _trainer(dataset, split, out, config, teacher, report=report)
    if resume:
        trainer.restore()
    position = trainer.run()
    towers = build_towers(config.model, teacher.featurizer.spec, vocabulary=teacher.featurizer.vocabulary)
    load_weights(out / BEST_FILE, trainer.towers)
    towers.query.load_state_dict(trainer.towers.query.state_dict())
    towers.document.load_state_dict(teacher.towers.document.state_dict())
    save_weights(out / BEST_FILE, towers)
    weak = bool(split.train["weak"].any())
    finish_run(out, dataset, pairs=pairs, weak_pairs=weak, batch=config.train.batch, towers=towers, position=position)
    return Run.open(out)


def student_config(config: RunConfig, teacher: RunConfig) -> RunConfig:
    """The student's own query encoder and channels; all else of the towers as the teacher has it.

    Raises:
        ConfigError: a pretrained encoder, which would bring a vocabulary of its own.
    """
    if config.model.query_encoder.pretrained:
        raise ConfigError(
            "model.query_encoder.pretrained and [distillation] exclude each other: the student reads the "
            "teacher's vocabulary; leave one out"
        )
    student = msgspec.structs.replace(
        teacher.model,
        query_encoder=config.model.query_encoder,
        query_channels=config.model.query_channels,
        dropout=config.model.dropout,
    )
    alone = {"curriculum": None, "mining": None, "teacher": None, "classification": None, "blending": None}
    return msgspec.structs.replace(config, features=teacher.features, model=student, **alone)


def retained_recall(student: Run, dataset: Dataset) -> Retained:
    """What the student keeps of its teacher: of the test pairs, the share whose product is among the nearest 10.

    Raises:
        RunError: the run had no teacher, or the teacher's is gone.
    """
    if student.config.distillation is None:
        raise RunError(f"{student.path} was not distilled: its config.toml names no teacher")
    teacher = Run.open(Path(student.config.distillation.teacher))
    pairs = training_pairs(dataset, seed=teacher.config.seed).test
    documents = DocumentTable(dataset, teacher.featurizer)
    numbered = number_pairs(pairs, documents)
    queries = QueryTable(numbered.queries, teacher.featurizer)
    document_vectors = embed_rows(teacher.towers.document, documents, np.arange(len(documents)))
    recalls = []
    for run in (teacher, student):
        vectors = embed_rows(run.towers.query, queries, np.arange(len(queries)))
        nearest = np.concatenate(
            [
                np.argpartition(-(vectors[at : at + 256] @ document_vectors.T), K, axis=1)[:, :K]
                for at in range(0, len(vectors), 256)
            ]
        )
        recalls.append(float((nearest[numbered.query_rows] == numbered.document_rows[:, None]).any(axis=1).mean()))
    return Retained(*recalls)


def _trainer(
    dataset: Dataset, split: PairSplit, out: Path, config: RunConfig, teacher: Run, *, report: Reporter | None
) -> tuple[Trainer, int]:
    """The ordinary loop over queries and parts of titles, each with its product; and how many pairs that is."""
    assert config.distillation is not None  # noqa: S101 - for the type checker
    documents = DocumentTable(dataset, teacher.featurizer)
    pairs = split.train.select("query", "country", "product_id")
    if config.distillation.titles:
        pairs = pl.concat([pairs, title_parts(dataset, seed=config.seed)])
    numbered = number_pairs(pairs, documents)
    queries = QueryTable(numbered.queries, teacher.featurizer)
    taught = embed_rows(teacher.towers.query, queries, np.arange(len(queries)))
    vectors = embed_rows(teacher.towers.document, documents, np.arange(len(documents)))
    fixed = VectorTable(documents)
    student = build_towers(config.model, teacher.featurizer.spec, vocabulary=teacher.featurizer.vocabulary)
    towers = TwoTowers(query=student.query, document=VectorTower(torch.from_numpy(vectors)))
    objective = DistillationObjective(config.distillation, config.train.loss, teacher=torch.from_numpy(taught))
    rows = np.stack([numbered.query_rows, numbered.document_rows], axis=1)
    batches = PairBatches(rows, queries=queries, documents=fixed, batch=config.train.batch, seed=config.seed)
    examples = validation_examples(dataset.judgements(), split.validation, documents=documents, seed=config.seed)
    ranks = Ranks()
    trainer = Trainer(
        out,
        config,
        identity=run_identity(config, dataset),
        towers=towers,
        objective=objective,
        batches=batches,
        measures=Measures(
            out, config, towers=towers, objective=objective, batches=batches, held_out=batches, ranks=ranks
        ),
        validation=Validation(examples, documents=fixed, featurizer=teacher.featurizer),
        ranks=ranks,
        report=report or (lambda _done, _most, _evaluation: None),
    )
    return trainer, len(pairs)


def title_parts(dataset: Dataset, *, seed: int) -> pl.DataFrame:
    """Runs of one to four words of titles, as if somebody had searched for them: query, country, product_id."""
    products = dataset.products(["title", "country", "product_id"])
    if len(products) > MOST_TITLES // 2:
        products = products.sample(MOST_TITLES // 2, seed=seed)
    dice = random.Random(seed)
    parts = [[_part(title.split(), dice) for _ in range(2)] for title in products["title"]]
    return (
        products.with_columns(query=pl.Series(parts, dtype=pl.List(pl.String)))
        .explode("query", empty_as_null=True)
        .filter(pl.col("query") != "")
        .select("query", "country", "product_id")
    )


def _part(words: Sequence[str], dice: random.Random) -> str:
    length = dice.randint(SHORTEST, LONGEST)
    start = dice.randint(0, max(0, len(words) - length))
    return " ".join(words[start : start + length])
