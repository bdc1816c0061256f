"""`que2search bench http`, `overload`, `load`, `services`: the service over sockets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.options import (
    Arrivals,
    BenchOut,
    CatalogueOption,
    JsonOption,
    Layout,
    Loop,
    ReleaseOption,
    RunOption,
    SearchedData,
    SearchedQueries,
    SearchedSeed,
    home,
)
from commands.output import finish_bench, write_json
from commands.progress import progress_bar, progress_bars

if TYPE_CHECKING:
    from benchmarks.report import BenchResult


def http(
    release: ReleaseOption,
    catalogue: CatalogueOption,
    out: BenchOut,
    data: SearchedData = None,
    queries: SearchedQueries = 20_000,
    seed: SearchedSeed = 0,
    loop: Annotated[
        Loop | None,
        typer.Option(help="closed: a client that waits; open: rates up to saturation.", show_default="both"),
    ] = None,
    layout: Annotated[
        Layout | None, typer.Option(help="Of client and server.", show_default="both; open loop: two-cores")
    ] = None,
    url: Annotated[str | None, typer.Option(help="A running server, closed loop; default: one of our own.")] = None,
    pid: Annotated[int | None, typer.Option(help="Of that server, for its CPU time.")] = None,
    json_file: JsonOption = None,
) -> None:
    """/search over a socket: one request after the other beside an empty FastAPI route, then rates up to saturation."""
    from benchmarks import http, rates

    if url is not None and loop is Loop.open:
        raise typer.BadParameter("--loop open measures a server of its own: leave --url out")
    results: dict[str, BenchResult] = {}
    if loop is not Loop.open:
        with progress_bar("closed loop") as progress:
            closed = http.run(
                release,
                catalogue,
                data=data,
                queries=queries,
                seed=seed,
                layouts=http.LAYOUTS if layout is None else (layout.value,),
                url=url,
                pid=pid,
                progress=progress,
            )
        finish_bench(closed, out, None)
        results[closed.bench] = closed
    if loop is not Loop.closed and url is None:
        with progress_bar("open loop") as progress:
            opened = rates.run(
                release,
                catalogue,
                data=data,
                queries=queries,
                seed=seed,
                layout=(layout or Layout.two_cores).value,
                progress=progress,
            )
        finish_bench(opened, out, None)
        results[opened.bench] = opened
    write_json(results, json_file)


def overload(
    release: ReleaseOption,
    catalogue: CatalogueOption,
    out: BenchOut,
    data: SearchedData = None,
    queries: SearchedQueries = 20_000,
    seed: SearchedSeed = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Of all phases, in turn.")] = 9,
    seconds: Annotated[float, typer.Option("--duration", min=0.1, help="Seconds of each phase.")] = 3.0,
    connections: Annotated[int, typer.Option(min=1, help="Of the client.")] = 256,
    json_file: JsonOption = None,
) -> None:
    """Three times the capacity: latency of those let in, refusals and their cost, and whether anything grows."""
    from benchmarks.overload import run

    with progress_bar("rounds") as progress:
        result = run(
            release,
            catalogue,
            data=data,
            queries=queries,
            rounds=rounds,
            seconds=seconds,
            connections=connections,
            seed=seed,
            progress=progress,
        )
    finish_bench(result, out, json_file)


def load(
    release: ReleaseOption,
    catalogue: CatalogueOption,
    out: BenchOut,
    url: Annotated[
        str, typer.Option(help="A running server; where nobody answers, one is started for this run.")
    ] = "http://127.0.0.1:8000",
    rate: Annotated[float, typer.Option(min=0.1, help="Searches a second, pages of all kinds.")] = 200.0,
    users: Annotated[int, typer.Option(min=1, max=500, help="Searches that may be under way at once.")] = 8,
    seconds: Annotated[float, typer.Option("--duration", min=1, help="Seconds measured.")] = 60.0,
    arrivals: Annotated[Arrivals, typer.Option(help="How due times follow each other.")] = Arrivals.poisson,
    seed: Annotated[int, typer.Option(min=0, help="Of due times and queries.")] = 0,
    p99_budget_ms: Annotated[float, typer.Option(min=0, help="For the first page, in the server.")] = 1.5,
    one_core: Annotated[bool, typer.Option("--one-core", help="Keep client and server on one core.")] = False,
    json_file: JsonOption = None,
) -> None:
    """People who search and page, in an open loop; fails when P99 is over the budget or an answer is wrong."""
    from benchmarks.load import run

    ended = run(
        release,
        catalogue,
        out,
        url=url,
        rate=rate,
        users=users,
        seconds=seconds,
        arrivals=arrivals.value,
        seed=seed,
        p99_budget_ms=p99_budget_ms,
        one_core=one_core,
    )
    if ended.result is not None:
        write_json(ended.result, json_file)
    raise typer.Exit(ended.exit_code)


def services(
    release: ReleaseOption,
    run: RunOption,
    catalogue: CatalogueOption,
    out: BenchOut,
    encoder: Annotated[
        Path | None, typer.Option(help="MiniLM in Hugging Face layout; without it, txtai as it ships is left out.")
    ] = None,
    encoded: Annotated[int, typer.Option(min=1_000, help="Products that this encoder embeds, at most.")] = 20_000,
    without: Annotated[
        list[str] | None, typer.Option("--without", help="torch, onnx, txtai-ours or txtai; repeatable.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """`serve` beside other stacks over one catalogue, each in an environment of its own below HOME/bench/envs."""
    from benchmarks.service_stacks import STACKS
    from benchmarks.services import run as run_services

    left_out = without or []
    if unknown := sorted(set(left_out) - set(STACKS)):
        raise typer.BadParameter(f"--without {unknown[0]} is none of {', '.join(STACKS)}")
    with progress_bars("building", "blocks") as (building, measuring):
        result = run_services(
            release,
            catalogue,
            trained=run,
            folder=home() / "bench",
            encoder=encoder,
            minilm_products=encoded,
            without=left_out,
            building=building,
            measuring=measuring,
        )
    finish_bench(result, out, json_file)
