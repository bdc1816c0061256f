"""`que2search bench search`, `modes`, `watch`, `check`: a whole search, in this process and over a socket."""

from pathlib import Path
from typing import Annotated

import typer

from commands.options import (
    BenchOut,
    CatalogueOption,
    Engine,
    JsonOption,
    ReleaseOption,
    SearchedData,
    SearchedQueries,
    SearchedSeed,
)
from commands.output import console, finish_bench, write_json
from commands.progress import progress_bar


def search(
    release: ReleaseOption,
    catalogue: CatalogueOption,
    out: BenchOut,
    data: SearchedData = None,
    queries: SearchedQueries = 20_000,
    seed: SearchedSeed = 0,
    engine: Annotated[Engine, typer.Option(help="What runs the query tower.")] = Engine.onnx,
    json_file: JsonOption = None,
) -> None:
    """The whole pipeline in one process: first and later pages, stage by stage."""
    from benchmarks.search import run

    with progress_bar("blocks") as progress:
        result = run(release, catalogue, data=data, queries=queries, seed=seed, engine=engine.value, progress=progress)
    finish_bench(result, out, json_file)


def modes(
    release: ReleaseOption,
    catalogue: CatalogueOption,
    out: BenchOut,
    queries: Annotated[Path | None, typer.Option(help="One a line; default: the release's golden queries.")] = None,
    expression: Annotated[str, typer.Option("--filter", help="Of the filtered searches.")] = "price < 50",
    json_file: JsonOption = None,
) -> None:
    """Vector, lexical and hybrid search, in one process and over a socket, with a filter and without."""
    from benchmarks.modes import queries_of, run

    asked = None if queries is None else queries_of(queries)
    with progress_bar("blocks") as progress:
        result = run(release, catalogue, expression=expression, queries=asked, progress=progress)
    finish_bench(result, out, json_file)


def watch(
    release: ReleaseOption,
    catalogue: CatalogueOption,
    out: BenchOut,
    share: Annotated[float, typer.Option(min=0.0001, max=1.0, help="Of the searches that are sampled.")] = 0.01,
    json_file: JsonOption = None,
) -> None:
    """What the watch costs a search: the same pipeline watched and not, in turn."""
    from benchmarks.watch import run

    with progress_bar("blocks") as progress:
        result = run(release, catalogue, share=share, progress=progress)
    finish_bench(result, out, json_file)


def check(
    release: ReleaseOption,
    catalogue: CatalogueOption,
    update: Annotated[bool, typer.Option("--update", help="Make what is measured the new baseline.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Ratios of CPU times beside benchmarks/baseline.json; fails when one is worse by more than 30 %."""
    from benchmarks import baseline

    with progress_bar("blocks") as progress:
        measured = baseline.measure(release, catalogue, progress=progress)
    compared = baseline.compare(measured, measured if update else baseline.load())
    result = baseline.result(compared)
    console.print(result.table())
    write_json(result, json_file)
    if update:
        baseline.save(measured)
        console.print(f"[green]wrote[/green] {baseline.BASELINE}", highlight=False, soft_wrap=True)
    elif any(each.worsened for each in compared):
        raise typer.Exit(1)
