"""What other stacks are given of a catalogue: its products and vectors as plain files, and our query tower."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.vectors import VectorSet, from_catalogue, nearest
from index.catalogue import Catalogue
from models.runtime import GoldenQuery, open_release

_BATCH = 16_384  # products written at a time


class Material(NamedTuple):
    """A catalogue for those who do not read ours."""

    vectors: VectorSet  # of the release's document tower, and of its golden queries
    queries: Sequence[GoldenQuery]
    near: np.ndarray  # of `vectors.nearest`
    near_ids: Sequence[frozenset[str]]  # for each query, the products nearest to it
    near_ids_anywhere: Sequence[frozenset[str]]  # the same of the queries without their country
    products: Path  # JSON lines in the order of the vectors; a hit's fields
    vectors_file: Path  # .npy, the same order


def material(release: Path, catalogue: Path, *, cache: Path) -> Material:
    """The files are written where they are missing, and kept in `cache`.

    Raises:
        ReleaseError, CatalogueError, DataError: as `from_catalogue`.
    """
    vectors = from_catalogue(release, catalogue)
    folder = cache / vectors.products_key
    folder.mkdir(parents=True, exist_ok=True)
    products, vectors_file = folder / "products.jsonl", folder / "vectors.npy"
    opened = open_release(release)
    queries = opened.golden_queries()
    near = nearest(vectors, cache=cache)
    anywhere = np.stack([opened.embed_query(query.query) for query in queries])
    near_anywhere = nearest(replace(vectors, queries=anywhere), cache=cache)
    with Catalogue.open(catalogue) as store:
        numbers = np.concatenate([batch.numbers for batch in store.vectors(opened.id)])
        if not products.exists():
            _write_products(store, numbers, products)
        near_ids, near_ids_anywhere = (
            [_ids(store, numbers[rows[rows >= 0]]) for rows in each] for each in (near, near_anywhere)
        )
    if not vectors_file.exists():
        np.save(vectors_file, vectors.products)
    return Material(vectors, queries, near, near_ids, near_ids_anywhere, products, vectors_file)


def export_plainly(run: Path, path: Path) -> None:
    """A run's query tower through torch's exporter, as its manual has it: what a release's graph is compared with.

    Raises:
        RunError: the run cannot be opened.
    """
    import torch  # noqa: PLC0415 - measuring without this row needs no torch

    from models.towers import as_tensors  # noqa: PLC0415 - needs torch
    from models.training.run import Run  # noqa: PLC0415 - needs torch

    opened = Run.open(run)
    tower = opened.towers.query.eval()
    # Two rows of odd lengths: the exporter must see that no size is fixed.
    example = as_tensors(opened.featurizer.queries(["red dress", "bicycle for children"], [None, "US"]), tower)
    shapes = tuple(dict.fromkeys(range(tensor.ndim), torch.export.Dim.DYNAMIC) for tensor in example)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            tower,
            tuple(example),
            path,
            input_names=list(tower.inputs),
            output_names=["vector"],
            dynamic_shapes={"features": shapes},
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _write_products(store: Catalogue, numbers: np.ndarray, path: Path) -> None:
    beside = path.with_name(f"{path.name}.tmp")
    with beside.open("wb") as lines:
        for start in range(0, len(numbers), _BATCH):
            fragments = store.fragments(numbers[start : start + _BATCH].tolist())
            lines.writelines(b"{%b}\n" % fragment for fragment in fragments)
    beside.replace(path)


def _ids(store: Catalogue, numbers: np.ndarray) -> frozenset[str]:
    return frozenset(record["product_id"] for record in store.records(numbers.tolist()))
