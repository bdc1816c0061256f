"""Parity: an exported tower computes what the trained one does, over one row, many rows, and odd inputs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from models.data.schema import Dataset
from models.errors import ParityError
from models.features import DocumentFeatures, Featurizer, QueryFeatures
from models.runtime import (
    DOCUMENT_ONNX_FILE,
    QUERY_ONNX_FILE,
    QUERY_TORCHSCRIPT_FILE,
    OnnxTower,
    TorchScriptQueryTower,
)
from models.towers import Tower, as_tensors
from models.training.run import Run

MAX_DIFFERENCE = 1e-4  # of any coordinate between the trained and an exported tower
QUERIES, PRODUCTS = 200, 200  # compared, beside the odd inputs
ODD_TEXTS = ("", "?", "tv", "zzz 日本 🙂", "long " * 400)


def check_parity(run: Run, dataset: Dataset, release: Path, *, queries: pl.DataFrame) -> dict[str, float]:
    """The largest difference of each exported tower from the trained one.

    Args:
        release: the folder with the exported towers.
        queries: columns query and country; odd ones (empty, over-long, unknown country) are added.

    Raises:
        ParityError: one is above MAX_DIFFERENCE.
    """
    query_batches = list(query_features(run.featurizer, queries.head(QUERIES)))
    document_batches = list(document_features(run.featurizer, dataset))
    query, document = run.towers.query, run.towers.document
    differences = {
        "onnx": largest_difference(query, OnnxTower(release / QUERY_ONNX_FILE), query_batches),
        "torchscript": largest_difference(
            query, TorchScriptQueryTower(release / QUERY_TORCHSCRIPT_FILE), query_batches
        ),
        "document_onnx": largest_difference(document, OnnxTower(release / DOCUMENT_ONNX_FILE), document_batches),
    }
    for engine, difference in differences.items():
        if not difference <= MAX_DIFFERENCE:  # written so that NaN fails too
            raise ParityError(
                f"{engine} differs from the trained tower by {difference:.2g}, more than {MAX_DIFFERENCE}"
            )
    return differences


def largest_difference(tower: Tower, exported: OnnxTower | TorchScriptQueryTower, batches: list[Any]) -> float:
    """max |exported - trained| over all batches and coordinates."""
    tower.eval()
    with torch.inference_mode():
        return max(
            float(np.abs(exported.embed(features) - tower(*as_tensors(features, tower)).numpy()).max())
            for features in batches
        )


def query_features(featurizer: Featurizer, queries: pl.DataFrame) -> Iterator[QueryFeatures]:
    """All queries in one batch, the odd ones in another, and some of each alone."""
    texts, countries = queries["query"].to_list(), queries["country"].to_list()
    odd_countries = ["??" for _ in ODD_TEXTS]
    yield featurizer.queries(texts, countries)
    yield featurizer.queries(ODD_TEXTS, odd_countries)
    for text, country in zip([*texts[:20], *ODD_TEXTS], [*countries[:20], *odd_countries], strict=True):
        yield featurizer.query(text, country)


def document_features(featurizer: Featurizer, dataset: Dataset) -> Iterator[DocumentFeatures]:
    """The same for documents: with and without description and images."""
    products = next(dataset.product_batches(rows=PRODUCTS)).to_pylist(maps_as_pydicts="strict")
    yield featurizer.products(products)
    yield featurizer.products([{"title": text} for text in ODD_TEXTS])
    for product in products[:5]:
        yield featurizer.products([product])
        yield featurizer.products([{"title": product["title"]}])
