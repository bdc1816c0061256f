"""`que2search bench chaos`: kill -9 while it is written to."""

import secrets
from typing import Annotated

import typer

from commands.options import BenchOut, CatalogueOption, JsonOption, ReleaseOption
from commands.output import console, finish_bench
from commands.progress import progress_bar

_SEEDS = 1_000_000


def chaos(
    release: ReleaseOption,
    catalogue: CatalogueOption,
    out: BenchOut,
    kills: Annotated[int, typer.Option(min=1, help="With writes in flight.")] = 200,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of what is killed, when, and what is written.", show_default="drawn")
    ] = None,
    workers: Annotated[int, typer.Option(min=2, help="Search processes of the server.")] = 2,
    check_every: Annotated[int, typer.Option(min=1, help="Kills between checks of the whole catalogue.")] = 10,
    json_file: JsonOption = None,
) -> None:
    """kill -9 over all processes of a server with writes in flight; fails as soon as something acknowledged is lost."""
    from benchmarks.chaos import run

    chosen = secrets.randbelow(_SEEDS) if seed is None else seed
    console.print(f"seed {chosen}: --seed {chosen} repeats the choices", highlight=False)
    with progress_bar("kills") as progress:
        result = run(
            release,
            catalogue,
            folder=out / f"chaos-{chosen}",
            kills=kills,
            seed=chosen,
            workers=workers,
            check_every=check_every,
            progress=progress,
        )
    finish_bench(result, out, json_file)
