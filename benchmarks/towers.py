"""The query tower alone, one query on one thread: every engine, by the query's length in tokens."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Protocol

import torch

from benchmarks.blocks import Arm, Progress, in_turn, interleave
from benchmarks.conditions import conditions, pinned
from benchmarks.report import BenchResult, Row
from benchmarks.tower_engines import ENGINES, Embeds, Footprint, footprint_in_fresh_process, queries
from models.errors import ReleaseError
from models.export import export_plain, export_torchscript
from models.features import FeatureSpec, QueryFeatures
from models.int8 import quantise
from models.query_graph import save_query_graph
from models.runtime import Engine, open_release
from models.sections import EncoderConfig, ModelConfig
from models.towers import build_towers

TOKENS = (4, 8, 16, 32)  # [CLS] included
RELEASE_ENGINES: dict[str, Engine] = {"ONNX fused": "onnx", "int8": "int8", "TorchScript tuned": "torchscript"}
TORCHSCRIPT = ("TorchScript as exported", "TorchScript tuned")
DIM = 128  # of a tower's output


class MeasureFootprint(Protocol):
    """What an engine takes to load its file of a folder."""

    def __call__(self, engine: str, folder: Path, *, vocabulary: int, trigram_rows: int) -> Footprint: ...


class Size(NamedTuple):
    """A query encoder of the paper, and what the paper says of its tower."""

    layers: int
    width: int
    heads: int
    ffn: int
    paper_p99_us: float  # Que2Search 3.1

    @property
    def name(self) -> str:
        return f"{self.layers} x {self.width}"


class Subject(NamedTuple):
    """A tower to measure: its engines, and the ids that its queries may have."""

    name: str
    engines: Mapping[str, Embeds]
    footprints: Mapping[str, Footprint]
    vocabulary: int
    trigram_rows: int
    paper_p99_us: float | None


SIZES = (Size(2, 128, 4, 384, paper_p99_us=1500), Size(3, 256, 4, 768, paper_p99_us=3500))  # chosen, and rejected


def run(
    *,
    pieces: int = 150_000,
    trigram_rows: int = 500_000,
    sizes: tuple[Size, ...] = SIZES,
    tokens: tuple[int, ...] = TOKENS,
    blocks: int = 20,
    calls: int = 100,
    footprint: MeasureFootprint = footprint_in_fresh_process,
    progress: Progress | None = None,
) -> BenchResult:
    """Measure every engine on towers of the paper's sizes with random weights, made in a temporary folder.

    Args:
        pieces: rows of the token table.
        trigram_rows: rows of the 3-grams' table.
        sizes: one tower each.
        tokens: query lengths.
        blocks: interleaved rounds.
        calls: of each arm and round.
        footprint: says what an engine takes to load.
        progress: called with (done, total) rounds.
    """
    with TemporaryDirectory(prefix="towers-") as folder:
        subjects = []
        for size in sizes:
            made = Path(folder) / size.name
            make_tower(size, made, pieces=pieces, trigram_rows=trigram_rows, longest=max(tokens))
            footprints = {name: footprint(name, made, vocabulary=pieces, trigram_rows=trigram_rows) for name in ENGINES}
            engines = {name: engine.load(made / engine.file) for name, engine in ENGINES.items()}
            subjects.append(Subject(size.name, engines, footprints, pieces, trigram_rows, size.paper_p99_us))
        return _measured(
            subjects,
            tokens,
            blocks=blocks,
            calls=calls,
            progress=progress,
            notes=["weights are random: only time and memory are measured"],
            details={"pieces": pieces, "trigram_rows": trigram_rows, "dim": DIM},
        )


def run_release(
    release: Path,
    *,
    tokens: tuple[int, ...] = TOKENS,
    blocks: int = 20,
    calls: int = 100,
    progress: Progress | None = None,
) -> BenchResult:
    """Measure the engines of a release. Lengths beyond its own limit are left out: no query is ever that long.

    Raises:
        ReleaseError: the release cannot be opened.
    """
    opened = open_release(release)
    engines: dict[str, Embeds] = {}
    notes = []
    for name, engine in RELEASE_ENGINES.items():
        try:
            engines[name] = open_release(release, engine=engine).query_tower
        except ReleaseError as exc:
            notes.append(f"{name} was left out: {exc}")
    limit, rows = opened.featurizer.spec.query_tokens, opened.featurizer.spec.trigram_rows
    if limit < max(tokens):
        notes.append(f"this release reads at most {limit} tokens of a query")
    return _measured(
        [Subject(opened.id, engines, {}, opened.featurizer.vocabulary, rows, None)],
        tuple(sorted({min(length, limit) for length in tokens})),
        blocks=blocks,
        calls=calls,
        progress=progress,
        notes=notes,
        details={"release": opened.id, "preset": opened.manifest.preset},
    )


def make_tower(size: Size, folder: Path, *, pieces: int, trigram_rows: int, longest: int) -> None:
    """Write one untrained query tower as the file of every engine."""
    folder.mkdir()
    spec = FeatureSpec(
        trigram_rows=trigram_rows, query_tokens=longest, title_tokens=1, description_tokens=1, countries=(), image_dim=0
    )
    encoder = EncoderConfig(layers=size.layers, dim=size.width, heads=size.heads, ffn=size.ffn)
    # Of the document tower nothing is measured, so it has next to nothing.
    model = ModelConfig(query_encoder=encoder, document_encoder=encoder, dim=DIM, document_channels=("country",))
    torch.manual_seed(0)
    tower = build_towers(model, spec, vocabulary=pieces).query.eval()
    example = queries(length=longest, vocabulary=pieces, trigram_rows=trigram_rows, rows=2)[0]
    torch.save(tower, folder / ENGINES["eager torch"].file)
    export_plain(tower, example, folder / ENGINES["ONNX plain"].file)
    export_torchscript(tower, example, folder / ENGINES["TorchScript tuned"].file)
    fused = folder / ENGINES["ONNX fused"].file
    save_query_graph(tower, fused)
    quantise(fused, folder / ENGINES["int8"].file)


def _measured(
    subjects: list[Subject],
    tokens: tuple[int, ...],
    *,
    blocks: int,
    calls: int,
    progress: Progress | None,
    notes: list[str],
    details: dict[str, Any],
) -> BenchResult:
    arms = {
        _name(subject, engine, length): in_turn(tower.embed, _queries(subject, length), calls=calls)
        for subject in subjects
        for length in tokens
        for engine, tower in subject.engines.items()
    }
    with pinned() as core:
        measured = interleave(arms, blocks=blocks, progress=progress)
    return BenchResult(
        bench="towers",
        title="Query tower, one query, one thread",
        rows=[
            row
            for subject in subjects
            for length in tokens
            for row in rows_of(
                subject, length, {engine: measured.arms[_name(subject, engine, length)] for engine in subject.engines}
            )
        ],
        conditions=conditions(threads=1, core=core, calls_per_block=calls, **details, **measured.conditions()),
        notes=[*notes, *measured.notes()],
    )


def _queries(subject: Subject, length: int) -> list[QueryFeatures]:
    return queries(length=length, vocabulary=subject.vocabulary, trigram_rows=subject.trigram_rows)


def rows_of(subject: Subject, length: int, arms: Mapping[str, Arm]) -> list[Row]:
    """One tower's engines at one length, beside the plain export and the best TorchScript."""
    plain = arms["ONNX plain"].p50_us if "ONNX plain" in arms else None
    torchscript = min((arms[engine].p50_us for engine in TORCHSCRIPT if engine in arms), default=None)
    return [
        {
            "name": _name(subject, engine, length),
            "engine": engine,
            "tokens": length,
            "p50_us": arm.p50_us,
            "p99_us": arm.p99_us,
            "cpu_us": arm.cpu_us,
            "over_plain_onnx": arm.p50_us / plain if plain else None,
            "over_best_torchscript": arm.p50_us / torchscript if torchscript else None,
            "paper_p99_us": subject.paper_p99_us,
            "load_ms": subject.footprints[engine].load_ms if engine in subject.footprints else None,
            "memory_mb": subject.footprints[engine].memory_mb if engine in subject.footprints else None,
        }
        for engine, arm in arms.items()
    ]


def _name(subject: Subject, engine: str, length: int) -> str:
    return f"{subject.name}, {engine}, {length} tokens"
