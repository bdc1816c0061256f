"""From a run to a sealed release: the towers as ONNX and TorchScript, proved equal to the trained ones."""

import contextlib
import hashlib
import logging
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl
import torch
from torch import Tensor, nn

from models.data.conversations import golden_queries
from models.data.schema import Dataset
from models.engines import CHANNEL_WEIGHTS, VECTOR, OnnxTower
from models.errors import ReleaseError
from models.features import Featurizer
from models.int8 import measure, product_vectors, quantise
from models.int8_gate import Int8Check
from models.parity import check_parity
from models.query_graph import OPSET, save_query_graph
from models.runtime import (
    DOCUMENT_ONNX_FILE,
    FORMAT,
    GOLDEN_QUERIES_FILE,
    JUDGEMENTS_FILE,
    MANIFEST_FILE,
    QUERY_INT8_FILE,
    QUERY_ONNX_FILE,
    QUERY_TORCHSCRIPT_FILE,
    GoldenQuery,
    Judgement,
    ReleaseManifest,
    sha256,
)
from models.towers import QueryTower, Tower, WeighedTower, as_tensors
from models.training.run import Run

GOLDEN_QUERIES = 1_000
FIXED_WIDTH = {"country_ids", "language_ids", "images", "image_mask"}  # inputs whose second axis, if any, never changes


def export(run: Run, dataset: Dataset, out: Path, *, golden: int = GOLDEN_QUERIES) -> ReleaseManifest:
    """Write a release beside `out`, prove its towers, seal it and rename it into place.

    Raises:
        ParityError: an exported tower does not compute what the trained one does; nothing is left behind.
        ReleaseError: `out` exists and is not a release.
    """
    if out.exists() and not (out / MANIFEST_FILE).exists():
        raise ReleaseError(f"{out} exists and is not a release; choose another --out")
    beside = out.with_name(f"{out.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        run.featurizer.save(beside)
        sample = golden_queries(dataset, size=golden, seed=run.config.seed)
        rated = dataset.judgements().select("query", "country", "product_id", "rating")
        write_lines(beside / GOLDEN_QUERIES_FILE, (GoldenQuery(**row) for row in sample.iter_rows(named=True)))
        write_lines(beside / JUDGEMENTS_FILE, (Judgement(**row) for row in rated.iter_rows(named=True)))
        export_towers(run, beside)
        parity = check_parity(run, dataset, beside, queries=sample)
        int8 = add_int8(beside, run.featurizer, dataset, queries=sample)
        manifest = seal(beside, run, dataset, name=out.name, parity=parity, int8=int8)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    _replace(beside, out)
    return manifest


def export_towers(run: Run, out: Path) -> None:
    """Both towers as ONNX, the query tower as TorchScript too; a query tower with attention gives its weights."""
    query, document = run.towers.query.eval(), run.towers.document.eval()
    # Two rows of odd lengths: the exporter must see that no size is fixed.
    query_example = run.featurizer.queries(["red dress", "bicycle for children"], [None, "US"])
    document_example = run.featurizer.documents(
        ["a red dress", "bicycle"], ["worn twice, like new", None], [None, None]
    )
    save_query_graph(query, out / QUERY_ONNX_FILE)
    export_plain(document, document_example, out / DOCUMENT_ONNX_FILE)
    export_torchscript(query, query_example, out / QUERY_TORCHSCRIPT_FILE)


def export_plain(tower: Tower, example: NamedTuple, out: Path) -> None:
    """A tower as the exporter writes it: the document tower, and what a query graph is measured against."""
    served, outputs = _with_weights(tower)
    with _quiet_exporters():
        _to_onnx(served, _named(example, tower), out, outputs=outputs)


def export_torchscript(tower: Tower, example: NamedTuple, out: Path) -> None:
    """A tower as TorchScript, traced."""
    served, _ = _with_weights(tower)
    with _quiet_exporters(), torch.inference_mode():
        traced = torch.jit.trace(served, tuple(as_tensors(example, tower)), check_trace=False)  # type: ignore[no-untyped-call]
        traced.save(str(out))


def add_int8(folder: Path, featurizer: Featurizer, dataset: Dataset, *, queries: pl.DataFrame) -> Int8Check | None:
    """Write the int8 query tower, and measure it over the golden queries; one that fails its gate is not kept.

    None: there are no golden queries to measure it with.
    """
    if queries.is_empty():
        return None
    path = folder / QUERY_INT8_FILE
    quantise(folder / QUERY_ONNX_FILE, path)
    products = product_vectors(OnnxTower(folder / DOCUMENT_ONNX_FILE), featurizer, dataset)
    alone = [featurizer.query(*row) for row in queries.select("query", "country").iter_rows()]
    check = measure(OnnxTower(path), OnnxTower(folder / QUERY_ONNX_FILE), alone, products)
    if not check.passed:
        path.unlink()
    return check


def seal(
    folder: Path, run: Run, dataset: Dataset, *, name: str, parity: dict[str, float], int8: Int8Check | None
) -> ReleaseManifest:
    """Write the manifest with the checksum of every file; the id is the name and the start of their hash."""
    files = {file.name: sha256(file) for file in sorted(folder.iterdir())}
    content = hashlib.sha256("".join(f"{file}{digest}" for file, digest in files.items()).encode()).hexdigest()
    manifest = ReleaseManifest(
        format=FORMAT,
        id=f"{name}-{content[:8]}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        dim=run.config.model.dim,
        preset=run.config.preset,
        feature_hash=run.featurizer.hash,
        dataset=dataset.manifest.source,
        parity=parity,
        files=files,
        int8=int8,
        query_channels=[] if run.towers.query.attention is None else list(run.towers.query.channels),
    )
    with (folder / MANIFEST_FILE).open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest)))
        file.flush()
        os.fsync(file.fileno())
    return manifest


def write_lines(path: Path, lines: Iterable[msgspec.Struct]) -> None:
    """JSON lines."""
    with path.open("wb") as file:
        file.writelines(msgspec.json.encode(line) + b"\n" for line in lines)


def _with_weights(tower: Tower) -> tuple[nn.Module, list[str]]:
    """What is exported of a tower, and what its outputs are called: only a query's weights are ever shown."""
    if tower.attention is None or not isinstance(tower, QueryTower):
        return tower, [VECTOR]
    return WeighedTower(tower, tower.attention).eval(), [VECTOR, CHANNEL_WEIGHTS]


def _named(example: NamedTuple, tower: Tower) -> dict[str, Tensor]:
    return dict(zip(tower.inputs, as_tensors(example, tower), strict=True))


def _to_onnx(tower: nn.Module, inputs: dict[str, Tensor], path: Path, *, outputs: list[str]) -> None:
    """One self-contained file; every row count and every padded length is free."""
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    rows_only = {0: torch.export.Dim.DYNAMIC}
    shapes = tuple(rows_only if name in FIXED_WIDTH else free for name in inputs)
    torch.onnx.export(
        tower,
        tuple(inputs.values()),
        path,
        input_names=list(inputs),
        output_names=outputs,
        dynamic_shapes={"features": shapes},
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


@contextlib.contextmanager
def _quiet_exporters() -> Iterator[None]:
    """Keep the exporters' notices to their developers from our users; errors still raise."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript's deprecation is known: it is the alternative engine
        try:
            yield
        finally:
            logger.setLevel(level)


def _replace(beside: Path, out: Path) -> None:
    """Rename a finished release into place; one that was there is moved aside first, then removed."""
    aside = out.with_name(f"{out.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if out.exists():
        out.rename(aside)
    beside.rename(out)
    shutil.rmtree(aside, ignore_errors=True)
