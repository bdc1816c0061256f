"""Index products with txtai as it ships: Faiss as it chooses, texts in SQLite. Run in its own environment.

python -m benchmarks.service_peers.txtai_index JOB, where JOB is the JSON of an `IndexJob`.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

TRANSFORM = "benchmarks.service_peers.txtai_tower.QueryVectors"
NEAREST_FILE = "nearest.json"  # written last: without it an index is unfinished
TIES = 20  # nearest looked at for products as near as the tenth
TIE = 1e-6  # float32 rounding between two ways to add up one inner product


class IndexJob(msgspec.Struct, frozen=True, kw_only=True):
    """What to index; the encoder or the vectors, not both."""

    products: str  # JSON lines with id and title
    count: int  # of them, the first ones
    out: str
    encoder: str | None = None  # directory in Hugging Face layout; embeds the titles
    vectors: str | None = None  # .npy, a row for each product
    queries: Sequence[str] = ()  # whose exact nearest are wanted too, with an encoder


def main(job: IndexJob) -> None:
    """Build and save the index, then the exact nearest."""
    embeddings = import_module("txtai").Embeddings(_configuration(job))
    embeddings.index(_documents(job))
    if job.vectors is not None:
        embeddings.config["transform"] = TRANSFORM
    embeddings.save(job.out)
    near = exact_nearest(embeddings, job) if job.queries else []
    (Path(job.out) / NEAREST_FILE).write_text(json.dumps(near))


def exact_nearest(embeddings: Any, job: IndexJob) -> list[list[str]]:
    """Ids of the ten products nearest to each query and of what ties with the tenth: all of its lists are searched."""
    faiss = import_module("faiss")
    vectors = embeddings.batchtransform(list(job.queries), "query")
    queries, backend = np.asarray(vectors, dtype=np.float32), embeddings.ann.backend
    lists = getattr(backend, "nlist", None)
    parameters = None if lists is None else faiss.SearchParametersIVF(nprobe=lists)
    scores, rows = backend.search(queries, TIES, params=parameters)
    ids = [uid for uid, _text, _tags in _documents(job)]
    return [
        [ids[row] for row, near in zip(found, score >= score[9] - TIE, strict=True) if near and row >= 0]
        for score, found in zip(scores, rows, strict=True)
    ]


def _configuration(job: IndexJob) -> dict[str, Any]:
    if job.vectors is None:
        return {"path": job.encoder, "content": True}
    rows = iter(np.load(job.vectors, mmap_mode="r"))

    def next_vectors(texts: Sequence[str]) -> np.ndarray:  # txtai embeds the documents in their order
        return np.stack(list(islice(rows, len(texts))))

    return {"method": "external", "transform": next_vectors, "content": True}


def _documents(job: IndexJob) -> Iterator[tuple[str, str, None]]:
    with Path(job.products).open() as lines:
        for line in islice(lines, job.count):
            product = json.loads(line)
            yield product["id"], product.get("title", ""), None


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=IndexJob))
