"""`que2search data`: make or import a dataset, add image vectors to it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.options import DataOption, DatasetOut, ImportOut, JsonOption, Locale, Split
from commands.output import console, finish
from commands.progress import progress_bar

if TYPE_CHECKING:
    from models.data.intake import ImportReport


def sample(
    out: DatasetOut,
    products: Annotated[int, typer.Option(min=100, help="How many products.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal tables.")] = 0,
    json_file: JsonOption = None,
) -> None:
    """Make the synthetic marketplace: products, eight weeks of events, rated queries."""
    from models.data.marketplace import sample

    with progress_bar("products") as progress:
        manifest = sample(out, products=products, seed=seed, progress=progress)
    finish(f"dataset {out}", manifest, json_file)


def import_esci(
    src: Annotated[Path, typer.Argument(help="Folder of shopping_queries_dataset_{products,examples}.parquet.")],
    out: ImportOut,
    locale: Annotated[Locale | None, typer.Option(help="One marketplace only.", show_default="all three")] = None,
    small: Annotated[
        bool, typer.Option("--small", help="The published small version, and only the products it rates.")
    ] = False,
    split: Annotated[
        Split | None, typer.Option(help="The ratings of one split only; products stay.", show_default="both")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Amazon's Shopping Queries Dataset: products and ratings in English, Spanish and Japanese.

    A product's id is LOCALE:ID. Exact is rated 3, substitute 1 (a near miss), complement and irrelevant 0.
    """
    from models.data.importers import import_esci

    with progress_bar("rows") as progress:
        report = import_esci(src, out, locale=locale, small=small, split=split, progress=progress)
    finish_import(report, out, json_file)


def import_wands(
    src: Annotated[Path, typer.Argument(help="Folder of product.csv, query.csv and label.csv.")],
    out: ImportOut,
    json_file: JsonOption = None,
) -> None:
    """Wayfair's WANDS: 42,994 pieces of furniture and 233,448 ratings, in English.

    Exact is rated 3, Partial 1 (a near miss), Irrelevant 0.
    """
    from models.data.importers import import_wands

    with progress_bar("rows") as progress:
        report = import_wands(src, out, progress=progress)
    finish_import(report, out, json_file)


def import_chorus(
    src: Annotated[Path, typer.Argument(help="Folder of products.jsonl(.gz) and judgements*.csv.")],
    out: ImportOut,
    json_file: JsonOption = None,
) -> None:
    """The Chorus electronics catalogue with its ratings."""
    from models.data.importers import import_chorus

    with progress_bar("rows") as progress:
        report = import_chorus(src, out, progress=progress)
    finish_import(report, out, json_file)


def import_table(
    src: Annotated[
        Path,
        typer.Argument(
            help="CSV, JSON lines or Parquet file of products, or a folder of products.*, events.* and so on."
        ),
    ],
    out: ImportOut,
    column_map: Annotated[
        Path | None, typer.Option("--map", help="TOML column map: which of their columns is which of ours.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Any table. docs/data.md explains column maps; docs/maps has some."""
    from models.data.importers import import_table

    with progress_bar("rows") as progress:
        report = import_table(src, out, column_map=column_map, progress=progress)
    finish_import(report, out, json_file)


def images(
    data: DataOption,
    images: Annotated[Path, typer.Option("--images", help="Folder of ID.jpg, ID_1.jpg, or ID/*.jpg.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the dataset with image vectors.")],
    encoder: Annotated[
        str, typer.Option(help="builtin, an .onnx file, or an earlier dataset's image_encoder.safetensors.")
    ] = "builtin",
    sheet: Annotated[
        Path | None, typer.Option(help="PNG: some pictures with their nearest neighbours.", dir_okay=False)
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Compute the products' image vectors from image files; unreadable ones are listed."""
    from models.data.image_files import add_images
    from models.data.schema import Dataset

    with progress_bar("pictures") as progress:
        report = add_images(Dataset.open(data), images, out, encoder=encoder, sheet=sheet, progress=progress)
    for problem in report.unreadable:
        console.print(f"unreadable: {problem}", highlight=False)
    if report.unmatched:
        console.print(f"{report.unmatched:,} files are named after no product", highlight=False)
    console.print(
        f"{report.images:,} pictures of {report.with_images:,} of {report.products:,} products, "
        f"{report.dim} numbers each by {report.encoder}",
        highlight=False,
    )
    finish(f"dataset {out}", report._asdict(), json_file)


def finish_import(report: "ImportReport", out: Path, json_file: Path | None) -> None:
    """Say what was taken in and what was left out."""
    for bad in report.bad_rows:
        console.print(
            f"left out: {bad.file} row {bad.row}: {bad.reason}", highlight=False, markup=False, soft_wrap=True
        )
    counts = ", ".join(f"{count:,} {table}" for table, count in report.manifest.counts.items())
    console.print(
        f"{counts}; {report.bad_count:,} bad rows left out, {report.passed_over:,} passed over", highlight=False
    )
    finish(f"dataset {out}", report, json_file)
