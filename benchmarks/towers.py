"""The query tower alone: ONNX Runtime against TorchScript, by the query's length in tokens."""

from pathlib import Path

import numpy as np

from benchmarks.blocks import Arm, Progress, in_turn, interleave
from benchmarks.conditions import conditions, pinned
from benchmarks.report import BenchResult, Row
from models.errors import ReleaseError
from models.features import QueryFeatures
from models.runtime import Engine, QueryTower, Release, open_release
from models.tokenizers import CLS

TOKENS = (4, 8, 16, 32)  # [CLS] included
ENGINES: tuple[Engine, ...] = ("onnx", "torchscript")
TRIGRAMS_PER_TOKEN = 4  # of a piece of about four characters


def run(
    release: Path,
    *,
    tokens: tuple[int, ...] = TOKENS,
    blocks: int = 20,
    calls: int = 100,
    progress: Progress | None = None,
) -> BenchResult:
    """Measure both engines of a release on one thread, one query at a time.

    Lengths beyond the release's own limit are left out: no query is ever that long.

    Raises:
        ReleaseError: the release cannot be opened.
    """
    opened = open_release(release)
    towers, notes = _towers(release, opened)
    limit = opened.featurizer.spec.query_tokens
    lengths = sorted({min(length, limit) for length in tokens})
    if limit < max(tokens):
        notes.append(f"this release reads at most {limit} tokens of a query")
    arms = {
        (engine, length): in_turn(tower.embed, features_of(opened, length=length), calls=calls)
        for length in lengths
        for engine, tower in towers.items()
    }
    with pinned() as core:
        measured = interleave({_name(*key): arm for key, arm in arms.items()}, blocks=blocks, progress=progress)
    return BenchResult(
        bench="towers",
        title="Query tower, one query, one thread",
        rows=[_row(*key, measured.arms[_name(*key)]) for key in arms],
        conditions=conditions(
            threads=1,
            core=core,
            release=opened.id,
            preset=opened.manifest.preset,
            calls_per_block=calls,
            **measured.conditions(),
        ),
        notes=[*notes, *measured.notes()],
    )


def features_of(release: Release, *, length: int) -> list[QueryFeatures]:
    """Queries of `length` tokens with pieces and 3-grams drawn evenly: time depends on their number alone."""
    draw = np.random.default_rng(length)
    vocabulary, rows = release.featurizer.vocabulary, release.featurizer.spec.trigram_rows
    return [
        QueryFeatures(
            token_ids=np.concatenate([[[CLS]], draw.integers(CLS + 1, vocabulary, (1, length - 1))], axis=1),
            trigram_ids=draw.integers(1, rows, (1, max(1, TRIGRAMS_PER_TOKEN * (length - 1)))),
            country_ids=np.zeros(1, dtype=np.int64),
        )
        for _ in range(64)
    ]


def _towers(release: Path, opened: Release) -> tuple[dict[Engine, QueryTower], list[str]]:
    """Every engine that is installed, and a note on each that is not."""
    towers: dict[Engine, QueryTower] = {"onnx": opened.query_tower}
    try:
        towers["torchscript"] = open_release(release, engine="torchscript").query_tower
    except ReleaseError as exc:
        return towers, [f"torchscript was left out: {exc}"]
    return towers, []


def _name(engine: Engine, length: int) -> str:
    return f"{engine}, {length} tokens"


def _row(engine: Engine, length: int, arm: Arm) -> Row:
    return {
        "name": _name(engine, length),
        "engine": engine,
        "tokens": length,
        "p50_us": arm.p50_us,
        "p99_us": arm.p99_us,
        "cpu_us": arm.cpu_us,
    }
