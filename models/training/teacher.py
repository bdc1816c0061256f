"""A pretrained encoder as the teacher of both towers: in-batch similarities, beside the pairs' own loss.

The teacher reads a query, and a product's title and description as one text. It reads each once, before the first
step; its vectors stay in the run directory for a run that is resumed, or trained again otherwise.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.features import whole_text
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

    What is there already stays where it is of these very texts and this encoder.

    Raises:
        ConfigError: the directory is not an encoder that can be read.
    """
    texts = [*queries, *(whole_text(title, description) for title, description in products)]
    identity = _identity(config, texts)
    if _identity_of(path) == identity:
        return
    reader = PretrainedReader(Path(config.encoder), tokens=config.tokens)
    vectors = torch.from_numpy(reader.vectors(texts, progress=progress))
    beside = path.with_name(f"{path.name}.tmp")
    parts = {"queries": vectors[: len(queries)].clone(), "documents": vectors[len(queries) :].clone()}
    save_file(parts, beside, metadata={"identity": identity})
    beside.replace(path)


def load_teacher(config: TeacherConfig, path: Path) -> Teacher:
    """The teacher with what `read_by_teacher` wrote."""
    return Teacher(config, **load_file(path))


def _identity(config: TeacherConfig, texts: Sequence[str]) -> str:
    """Of all that decides the vectors; an encoder is known by its files' sizes and times."""
    files = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in Path(config.encoder).iterdir())
    return hashlib.sha256(msgspec.json.encode((files, config.tokens, texts))).hexdigest()


def _identity_of(path: Path) -> str | None:
    """Of a file's vectors; None where there is none, or a damaged one."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("identity")
    except (OSError, SafetensorError):
        return None
