"""`que2search bench ann`, `peers`, `scale`, `filters`: the index alone."""

from pathlib import Path
from typing import Annotated

import typer

from commands.options import (
    BenchOut,
    CatalogueOption,
    IndexCache,
    JsonOption,
    MadeUpDim,
    MadeUpProducts,
    MadeUpQueries,
    MadeUpSeed,
    ReleaseOption,
    VectorsCatalogue,
    VectorsRelease,
)
from commands.output import finish_bench
from commands.progress import progress_bar, progress_bars


def ann(
    release: ReleaseOption,
    catalogue: CatalogueOption,
    out: BenchOut,
    json_file: JsonOption = None,
) -> None:
    """The index alone: every operating point and exact search, on golden queries."""
    from benchmarks.ann import run

    with progress_bar("blocks") as progress:
        result = run(release, catalogue, progress=progress)
    finish_bench(result, out, json_file)


def peers(
    out: BenchOut,
    cache: IndexCache,
    products: MadeUpProducts = 1_000_000,
    queries: MadeUpQueries = 1_000,
    dim: MadeUpDim = 128,
    seed: MadeUpSeed = 0,
    vectors: Annotated[
        Path | None, typer.Option(help="Real product vectors instead: .npy, one a row; with --query-vectors.")
    ] = None,
    query_vectors: Annotated[Path | None, typer.Option(help="Of the queries, in the same way.")] = None,
    release: VectorsRelease = None,
    catalogue: VectorsCatalogue = None,
    targets: Annotated[
        list[float], typer.Option("--target", min=0.0, max=1.0, help="ann_recall@10; may be given several times.")
    ] = [0.90, 0.95, 0.99],  # noqa: B006
    json_file: JsonOption = None,
) -> None:
    """The index beside other libraries', each at its cheapest setting that finds as much; extra `peers`."""
    from benchmarks.peers import run
    from benchmarks.vectors import from_catalogue, from_files, made_up

    if (vectors is None) != (query_vectors is None) or (release is None) != (catalogue is None):
        raise typer.BadParameter("--vectors goes with --query-vectors, and --release with --catalogue")
    if vectors is not None and query_vectors is not None:
        chosen = from_files(vectors, query_vectors)
    elif release is not None and catalogue is not None:
        chosen = from_catalogue(release, catalogue)
    else:
        chosen = made_up(products=products, queries=queries, dim=dim, seed=seed)
    with progress_bars("building", "settings", "blocks") as (building, choosing, measuring):
        result = run(chosen, cache=cache, targets=targets, building=building, choosing=choosing, measuring=measuring)
    finish_bench(result, out, json_file)


def scale(
    out: BenchOut,
    cache: IndexCache,
    sizes: Annotated[str, typer.Option(help="Numbers of products, two or more.")] = "10000,100000,1000000",
    queries: MadeUpQueries = 1_000,
    dim: MadeUpDim = 128,
    seed: MadeUpSeed = 0,
    target: Annotated[float, typer.Option(min=0.0, max=1.0, help="ann_recall@10.")] = 0.95,
    json_file: JsonOption = None,
) -> None:
    """The index as the catalogue grows: how time and memory do, at equal recall."""
    from benchmarks.scale import run
    from benchmarks.vectors import made_up

    counts = whole_numbers(sizes)
    chosen = made_up(products=max(counts), queries=queries, dim=dim, seed=seed)
    with progress_bars("building", "settings", "blocks") as (building, choosing, measuring):
        result = run(
            chosen,
            cache=cache,
            sizes=counts,
            target=target,
            building=building,
            choosing=choosing,
            measuring=measuring,
        )
    finish_bench(result, out, json_file)


def filters(
    out: BenchOut,
    cache: IndexCache,
    products: MadeUpProducts = 1_000_000,
    queries: MadeUpQueries = 1_000,
    dim: MadeUpDim = 128,
    seed: Annotated[int, typer.Option(min=0, help="Of made-up vectors, and of the filters.")] = 0,
    release: VectorsRelease = None,
    catalogue: VectorsCatalogue = None,
    selectivities: Annotated[str, typer.Option(help="Shares of the products that pass.")] = "0.5,0.1,0.01,0.001,0.0001",
    target: Annotated[float, typer.Option(min=0.0, max=1.0, help="ann_recall@10 without a filter.")] = 0.95,
    json_file: JsonOption = None,
) -> None:
    """Filtered search: recall and time by how much a filter leaves, and what it has to do with the query."""
    from benchmarks.filters import run
    from benchmarks.vectors import from_catalogue, made_up

    if (release is None) != (catalogue is None):
        raise typer.BadParameter("--release goes with --catalogue")
    if release is not None and catalogue is not None:
        chosen = from_catalogue(release, catalogue)
    else:
        chosen = made_up(products=products, queries=queries, dim=dim, seed=seed)
    with progress_bars("filters", "building", "blocks") as (drawing, building, measuring):
        result = run(
            chosen,
            cache=cache,
            selectivities=shares(selectivities),
            target=target,
            seed=seed,
            building=building,
            drawing=drawing,
            measuring=measuring,
        )
    finish_bench(result, out, json_file)


def whole_numbers(listed: str) -> list[int]:
    """Of an option such as "10000,100000"."""
    try:
        return [int(number) for number in listed.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{listed!r} is no list of whole numbers such as 10000,100000") from None


def shares(listed: str) -> list[float]:
    """Of an option such as "0.5,0.01"."""
    try:
        return [float(share) for share in listed.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{listed!r} is no list of shares such as 0.5,0.01") from None
