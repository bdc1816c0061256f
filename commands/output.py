"""What a command says at its end, and what it writes for machines."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

if TYPE_CHECKING:
    from benchmarks.report import BenchResult

# Away from a terminal a table must not be folded into eighty columns.
# Of the processes of a torchrun, the first one speaks.
console = Console(
    width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160, quiet=os.environ.get("RANK", "0") != "0"
)
errors = Console(stderr=True)


def finish(made: str, result: object, json_file: Path | None) -> None:
    """Say what was made, and write the result for machines when asked to."""
    console.print(f"[green]done[/green] {made}", highlight=False, soft_wrap=True)
    write_json(result, json_file)


def finish_bench(result: "BenchResult", out: Path, json_file: Path | None) -> None:
    """Show the table, and keep it as JSON, Markdown and a plot."""
    console.print(result.table())
    for path in result.save(out):
        console.print(f"[green]wrote[/green] {path}", highlight=False, soft_wrap=True)
    write_json(result, json_file)


def write_json(result: object, json_file: Path | None) -> None:
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        beside = json_file.with_name(f"{json_file.name}.tmp")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(result, enc_hook=str)))
        beside.replace(json_file)
