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
import torch
from torch import Tensor, nn

from models.data.conversations import golden_queries
from models.data.schema import Dataset
from models.errors import ReleaseError
from models.parity import check_parity
from models.runtime import (
    CHANNEL_WEIGHTS,
    DOCUMENT_ONNX_FILE,
    FORMAT,
    GOLDEN_QUERIES_FILE,
    JUDGEMENTS_FILE,
    MANIFEST_FILE,
    QUERY_ONNX_FILE,
    QUERY_TORCHSCRIPT_FILE,
    VECTOR,
    GoldenQuery,
    Judgement,
    ReleaseManifest,
    sha256,
)
from models.towers import Tower, WeighedTower, as_tensors
from models.training.run import Run

GOLDEN_QUERIES = 1_000
FIXED_WIDTH = {"country_ids", "language_ids", "images", "image_mask"}  # inputs whose second axis, if any, never changes
OPSET = 20  # the first with GELU as one operator


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
        manifest = seal(beside, run, dataset, name=out.name, parity=parity)
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
    query_inputs, document_inputs = _named(query_example, query), _named(document_example, document)
    served, outputs = _with_weights(query)
    with _quiet_exporters():
        _to_onnx(served, query_inputs, out / QUERY_ONNX_FILE, outputs=outputs)
        _to_onnx(document, document_inputs, out / DOCUMENT_ONNX_FILE, outputs=[VECTOR])
        with torch.inference_mode():
            traced = torch.jit.trace(served, tuple(query_inputs.values()), check_trace=False)  # type: ignore[no-untyped-call]
        traced.save(str(out / QUERY_TORCHSCRIPT_FILE))


def seal(folder: Path, run: Run, dataset: Dataset, *, name: str, parity: dict[str, float]) -> ReleaseManifest:
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
    """What is exported of a query tower, and what its outputs are called."""
    if tower.attention is None:
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
