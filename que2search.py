"""que2search: the command line, put together from `commands`, which import what they need when they run."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from commands import (
    bench_chaos,
    bench_index,
    bench_model,
    bench_pipeline,
    bench_service,
    bench_writes,
    catalogue,
    data,
    evaluation,
    index,
    release,
    serving,
    training,
)
from commands.output import errors

Commands = Mapping[str, Callable[..., None]]


def group(name: str, help_text: str, commands: Commands, *subgroups: typer.Typer) -> typer.Typer:
    """Commands and groups of commands by name, in the order of --help."""
    made = typer.Typer(
        name=name,
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command_name, command in commands.items():
        made.command(command_name)(command)
    for subgroup in subgroups:
        made.add_typer(subgroup)
    return made


IMPORT = group(
    "import",
    "Import products, events and ratings of a source; bad rows are left out, counted and listed.",
    {"esci": data.import_esci, "wands": data.import_wands, "chorus": data.import_chorus, "table": data.import_table},
)
DATA = group("data", "Make or import a dataset.", {"sample": data.sample, "images": data.images}, IMPORT)
RELEASE = group(
    "release",
    "Change the release that is served, without a gap.",
    {"activate": release.activate, "show": release.show},
)
CATALOGUE = group(
    "catalogue",
    "Look after a catalogue: check, back up, move, compact.",
    {
        "check": catalogue.check,
        "export": catalogue.export,
        "import": catalogue.import_,
        "compact": catalogue.compact,
        "backup": catalogue.backup,
        "restore": catalogue.restore,
    },
)
BENCH = group(
    "bench",
    "Measure, beside a baseline in the same run: JSON, Markdown and a plot.",
    {
        "towers": bench_model.towers,
        "ann": bench_index.ann,
        "peers": bench_index.peers,
        "services": bench_service.services,
        "scale": bench_index.scale,
        "filters": bench_index.filters,
        "search": bench_pipeline.search,
        "http": bench_service.http,
        "check": bench_pipeline.check,
        "overload": bench_service.overload,
        "modes": bench_pipeline.modes,
        "watch": bench_pipeline.watch,
        "widen": bench_model.widen,
        "train": bench_model.train,
        "load": bench_service.load,
        "writes": bench_writes.writes,
        "chaos": bench_chaos.chaos,
    },
)
app = group(
    "que2search",
    "Embedding-based product search for marketplaces: data in, trained towers, an index, and /search.",
    {
        "train": training.train,
        "pretrain": training.pretrain,
        "evaluate": evaluation.evaluate,
        "ablate": evaluation.ablate,
        "ablate-adaptive": evaluation.ablate_adaptive,
        "export": training.export,
        "build": index.build,
        "tune": index.tune,
        "serve": serving.serve,
        "key": serving.key,
        "search": serving.search,
        "doctor": serving.doctor,
    },
    DATA,
    RELEASE,
    CATALOGUE,
    BENCH,
)


@app.callback()
def common(
    home_dir: Annotated[
        Path | None, typer.Option("--home", help="Where everything lies by default; else Q2S_HOME, else var.")
    ] = None,
) -> None:
    if home_dir is not None:
        os.environ["Q2S_HOME"] = str(home_dir)  # worker processes look there too


def main() -> None:
    """Run the command line; an error that the user can act on is one line, not a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as exc:
        if not isinstance(exc, errors_to_act_on()):
            raise
        errors.print(f"error: {exc}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from exc


def errors_to_act_on() -> tuple[type[Exception], ...]:
    """The roots of our error trees, of the packages that a command has loaded: no other can have raised."""
    roots = {"models.errors": "ModelsError", "index.errors": "SearchIndexError", "service.errors": "ServiceError"}
    return tuple(getattr(sys.modules[module], root) for module, root in roots.items() if module in sys.modules)


if __name__ == "__main__":
    main()
