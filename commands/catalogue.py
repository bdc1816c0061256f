"""`que2search catalogue`: check, back up, move, compact."""

from pathlib import Path
from typing import Annotated

import typer

from commands.options import CatalogueOption, JsonOption
from commands.output import console, errors, finish, write_json
from commands.progress import progress_bar


def check(catalogue: CatalogueOption, json_file: JsonOption = None) -> None:
    """Look through every row and file for what cannot be; ends with 1 if anything is wrong. May run beside a server."""
    from index.catalogue_check import check_catalogue

    with progress_bar("rows") as progress:
        report = check_catalogue(catalogue, progress=progress)
    vectors = "".join(f", {count:,} vectors of {release}" for release, count in report.vectors.items())
    console.print(
        f"{report.products:,} products, {report.pending:,} pending, {report.failed:,} of them set aside, "
        f"{report.log_entries:,} log entries{vectors}",
        highlight=False,
    )
    write_json(report, json_file)
    for problem in report.problems:
        console.print(f"wrong: {problem}", style="red", highlight=False, markup=False, soft_wrap=True)
    if report.problem_count:
        errors.print(f"error: {report.problem_count:,} things are wrong with {catalogue}", style="red")
        raise typer.Exit(1)
    console.print(f"[green]done[/green] {catalogue} is sound", highlight=False, soft_wrap=True)


def export(
    out: Annotated[Path, typer.Argument(help="File of JSON lines to write.", dir_okay=False)],
    catalogue: CatalogueOption,
    json_file: JsonOption = None,
) -> None:
    """Write all products as JSON lines, as last written. Goes on where it was cut off. May run beside a server."""
    from index.catalogue import Catalogue
    from index.transfer import export_products

    with Catalogue.open(catalogue) as store, progress_bar("product numbers") as progress:
        count = export_products(store, out, progress=progress)
    finish(f"{count:,} products in {out}", {"products": count}, json_file)


def import_(
    src: Annotated[Path, typer.Argument(help="File of JSON lines, as `export` wrote it.", dir_okay=False)],
    catalogue: CatalogueOption,
    json_file: JsonOption = None,
) -> None:
    """Store the products of an export, while no server runs; `build --from-catalogue` then makes them searchable."""
    from index.catalogue import Catalogue
    from index.lock import exclusive
    from index.transfer import import_products

    with exclusive(catalogue, use="que2search catalogue import"), Catalogue.create(catalogue) as store:
        with progress_bar("bytes") as progress:
            count = import_products(store, src, progress=progress)
        held = store.count
    finish(f"{count:,} products read; {catalogue} holds {held:,}", {"read": count, "products": held}, json_file)


def compact(catalogue: CatalogueOption, json_file: JsonOption = None) -> None:
    """Write the store anew without free pages, and in the present format, while no server runs."""
    from index.backup import compact

    sizes = compact(catalogue)
    finish(
        f"{catalogue}: {sizes.before / 2**20:,.1f} MiB before, {sizes.after / 2**20:,.1f} after",
        sizes._asdict(),
        json_file,
    )


def backup(
    out: Annotated[Path, typer.Argument(help="Folder to make.", file_okay=False)],
    catalogue: CatalogueOption,
    json_file: JsonOption = None,
) -> None:
    """Copy the catalogue as of one moment: store, current index, keys. May run beside a server."""
    from index.backup import back_up

    with progress_bar("index files") as progress:
        backup = back_up(catalogue, out, progress=progress)
    finish(f"backup {out}: {backup.products:,} products as of change {backup.sequence:,}", backup._asdict(), json_file)


def restore(
    backup: Annotated[Path, typer.Argument(help="Folder that `backup` made.", file_okay=False)],
    catalogue: CatalogueOption,
    json_file: JsonOption = None,
) -> None:
    """Make a catalogue of a backup, where none is yet."""
    from index.backup import restore

    with progress_bar("files") as progress:
        restored = restore(backup, catalogue, progress=progress)
    finish(
        f"{catalogue}: {restored.products:,} products as of change {restored.sequence:,}", restored._asdict(), json_file
    )
