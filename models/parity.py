"""Parity: an exported tower computes what the trained one does, over one row, many rows, and odd inputs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from models.data.schema import Dataset
from models.engines import OnnxTower, QueryTower, TorchScriptQueryTower
from models.errors import ParityError
from models.features import DocumentFeatures, Featurizer, QueryFeatures
from models.runtime import DOCUMENT_ONNX_FILE, QUERY_ONNX_FILE, QUERY_TORCHSCRIPT_FILE
from models.towers import Tower, WeighedTower, as_tensors
from models.training.run import Run

MAX_DIFFERENCE = 1e-4  # of any coordinate, or channel's weight, between the trained and an exported tower
QUERIES, PRODUCTS = 200, 200  # compared, beside the odd inputs
ODD_TEXTS = ("", "?", "tv", "zzz 日本 🙂", "long " * 400)


def check_parity(run: Run, dataset: Dataset, release: Path, *, queries: pl.DataFrame) -> dict[str, float]:
    """The largest difference of each exported tower from the trained one; of the query tower's weights, if it has any.

    Args:
        release: the folder with the exported towers.
        queries: columns query and country; odd ones (empty, over-long, unknown country) are added.

    Raises:
        ParityError: one is above MAX_DIFFERENCE.
    """
    query_batches = list(query_features(run.featurizer, queries.head(QUERIES)))
    document_batches = list(document_features(run.featurizer, dataset))
    query, document = run.towers.query, run.towers.document
    engines: dict[str, OnnxTower | TorchScriptQueryTower] = {
        "onnx": OnnxTower(release / QUERY_ONNX_FILE),
        "torchscript": TorchScriptQueryTower(release / QUERY_TORCHSCRIPT_FILE),
    }
    differences = {engine: largest_difference(query, tower, query_batches) for engine, tower in engines.items()}
    differences["document_onnx"] = largest_difference(
        document, OnnxTower(release / DOCUMENT_ONNX_FILE), document_batches
    )
    if query.attention is not None:
        weighed = WeighedTower(query, query.attention)
        for engine, tower in engines.items():
            differences[f"{engine}_weights"] = largest_weight_difference(weighed, tower, query_batches)
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


def largest_weight_difference(tower: WeighedTower, exported: QueryTower, batches: list[QueryFeatures]) -> float:
    """The same for the channels' weights; a row's sum that is not 1 is a difference too."""
    tower.eval()
    differences = []
    for features in batches:
        with torch.inference_mode():
            trained = tower(*as_tensors(features, tower.tower)).weights.numpy()
        weights = exported.channel_weights(features)
        differences += [np.abs(weights - trained).max(), np.abs(weights.sum(axis=1) - 1).max()]
    return float(np.max(differences))


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
