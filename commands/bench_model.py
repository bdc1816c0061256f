"""`que2search bench towers`, `train`, `widen`: the model alone."""

from pathlib import Path
from typing import Annotated

import typer

from commands.options import BenchOut, JsonOption, Preset, RunOption, in_home
from commands.output import console, finish, finish_bench
from commands.progress import progress_bar


def towers(
    out: BenchOut,
    release: Annotated[
        Path | None, typer.Option(help="Measure the engines of this release, instead of random weights.")
    ] = None,
    pieces: Annotated[int, typer.Option(min=10, help="Rows of the random towers' token table.")] = 150_000,
    trigram_rows: Annotated[int, typer.Option(min=10, help="Rows of their 3-gram table.")] = 500_000,
    json_file: JsonOption = None,
) -> None:
    """The query tower alone, by query length: PyTorch, TorchScript, ONNX plain and fused, int8."""
    from benchmarks.towers import run, run_release

    with progress_bar("blocks") as progress:
        if release is None:
            result = run(pieces=pieces, trigram_rows=trigram_rows, progress=progress)
        else:
            result = run_release(release, progress=progress)
    finish_bench(result, out, json_file)


def train(
    out: BenchOut,
    presets: Annotated[list[Preset], typer.Option("--preset", help="May be given several times.")] = [  # noqa: B006
        Preset.tiny,
        Preset.base,
    ],
    batch: Annotated[int | None, typer.Option(min=2, help="Pairs; default: the preset's.")] = None,
    chunk: Annotated[int | None, typer.Option(min=1, help="Rows in memory at once; default: the preset's.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Measured ones.")] = 5,
    threads: Annotated[int, typer.Option(min=0, help="Of torch; 0: every core.")] = 0,
    json_file: JsonOption = None,
) -> None:
    """A training step: its seconds and memory, on random pairs of realistic lengths."""
    from benchmarks.train_step import run

    with progress_bar("steps") as progress:
        result = run(
            [preset.value for preset in presets],
            batch=batch,
            chunk=chunk,
            steps=steps,
            threads=threads,
            progress=progress,
        )
    finish_bench(result, out, json_file)


def widen(
    run: RunOption,
    out: Annotated[Path, in_home("--out", "runs/wide", "Where to write the wide run.")],
) -> None:
    """Write a run again with tables as large as the paper's; it finds the same. `export` and `build` take it like any.

    For measuring: 150,000 pieces and 500,000 rows of 3-grams do not fit a processor's caches, a sample's tables do.
    """
    from benchmarks.widen import widen

    features = widen(run, out).featurizer
    console.print(
        f"{features.vocabulary:,} pieces, {features.spec.trigram_rows:,} rows of 3-grams, "
        f"{features.spec.query_tokens} tokens a query",
        highlight=False,
    )
    finish(f"run {out}", None, None)
