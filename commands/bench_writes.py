"""`que2search bench writes`: live writes, a full delta, minutes of mixed load, and bulk figures."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from commands.options import (
    Arrivals,
    BenchOut,
    CatalogueOption,
    JsonOption,
    ReleaseOption,
    SearchedData,
    SearchedQueries,
    SearchedSeed,
)
from commands.output import finish_bench, write_json
from commands.progress import progress_bar, progress_bars

if TYPE_CHECKING:
    from benchmarks.report import BenchResult


class Part(StrEnum):
    """What `bench writes` measures."""

    live = "live"
    delta = "delta"
    mixed = "mixed"
    bulk = "bulk"


def writes(
    release: ReleaseOption,
    catalogue: CatalogueOption,
    out: BenchOut,
    data: SearchedData = None,
    queries: SearchedQueries = 20_000,
    seed: SearchedSeed = 0,
    parts: Annotated[
        list[Part] | None, typer.Option("--part", help="Repeatable.", show_default="all, one after the other")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="live: writes a second.")] = 100.0,
    arrivals: Annotated[Arrivals, typer.Option(help="live: how writes follow each other.")] = Arrivals.poisson,
    share: Annotated[float, typer.Option(min=0.001, max=1, help="delta: its rows, of the products.")] = 0.05,
    minutes: Annotated[float, typer.Option(min=0.5, help="mixed: how long.")] = 10.0,
    products: Annotated[int, typer.Option(min=1, help="bulk: loaded.")] = 20_000,
    json_file: JsonOption = None,
) -> None:
    """What writes cost searches, and how soon they are found; each part writes to a copy beside the catalogue."""
    from benchmarks import writes_bulk, writes_delta, writes_live, writes_mixed

    chosen = parts or list(Part)
    results: dict[str, BenchResult] = {}

    def finished(result: "BenchResult") -> None:
        finish_bench(result, out, None)
        results[result.bench] = result

    if Part.live in chosen:
        with progress_bar("blocks") as progress:
            live = writes_live.run(
                release,
                catalogue,
                data=data,
                queries=queries,
                seed=seed,
                rate=rate,
                arrivals=arrivals.value,
                progress=progress,
            )
        finished(live)
    if Part.delta in chosen:
        with progress_bars("products written", "blocks") as (writing, measuring):
            delta = writes_delta.run(
                release,
                catalogue,
                data=data,
                queries=queries,
                seed=seed,
                share=share,
                writing=writing,
                progress=measuring,
            )
        finished(delta)
    if Part.mixed in chosen:
        with progress_bar("half minutes") as progress:
            mixed = writes_mixed.run(
                release, catalogue, data=data, queries=queries, seed=seed, minutes=minutes, progress=progress
            )
        finished(mixed)
    if Part.bulk in chosen:
        with progress_bar("figures") as progress:
            bulk = writes_bulk.run(release, catalogue, seed=seed, products=products, progress=progress)
        finished(bulk)
    write_json(results, json_file)
