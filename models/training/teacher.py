"""A pretrained encoder as the teacher of both towers: in-batch similarities, beside the pairs' own loss.

The teacher reads a query, and a product's title and description as one text. It reads each once, before the first
step; its vectors stay in the run directory for a run that is resumed.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.errors import RunError
from models.losses import distil_similarities
from models.reader import PretrainedReader, TextsRead
from models.sections import TeacherConfig
from models.towers import Views
from models.training.batches import PairBatch


class Teacher(nn.Module):
    """Its vectors of every query and every product, rows of norm 1, and what of them is taught.

    Args:
        queries: (q, t) by rows of the query table.
        documents: (n, t) by rows of the document table.
    """

    def __init__(self, config: TeacherConfig, *, queries: Tensor, documents: Tensor) -> None:
        super().__init__()
        self.pair_weight = config.pair_weight
        self._weight = config.weight
        self._scale = config.scale
        self.register_buffer("_queries", queries, persistent=False)
        self.register_buffer("_documents", documents, persistent=False)

    def forward(self, queries: Views, documents: Views, batch: PairBatch) -> Tensor:
        """How far the batch's cosines are from the teacher's, weighted."""
        student = queries.vectors[:, 0] @ documents.vectors[:, 0].T
        teacher = self._queries[batch.query_rows] @ self._documents[batch.document_rows].T  # type: ignore[index]
        return self._weight * distil_similarities(student, teacher, scale=self._scale)


def read_by_teacher(
    config: TeacherConfig,
    path: Path,
    *,
    queries: Sequence[str],
    products: Sequence[tuple[str, str | None]],
    progress: TextsRead | None,
) -> None:
    """Write the teacher's vectors of the queries and of the products (title, description) to `path`.

    Raises:
        ConfigError: the directory is not an encoder that can be read.
    """
    reader = PretrainedReader(Path(config.encoder), tokens=config.tokens)
    texts = [*queries, *(f"{title}. {description}" if description else title for title, description in products)]
    vectors = torch.from_numpy(reader.vectors(texts, progress=progress))
    beside = path.with_name(f"{path.name}.tmp")
    parts = {"queries": vectors[: len(queries)].clone(), "documents": vectors[len(queries) :].clone()}
    save_file(parts, beside)
    beside.replace(path)


def load_teacher(config: TeacherConfig, path: Path) -> Teacher:
    """Raises RunError where `path` is missing or damaged."""
    try:
        return Teacher(config, **load_file(path))
    except (OSError, SafetensorError) as exc:
        raise RunError(f"cannot read {path}: {exc}; train without --resume") from exc
