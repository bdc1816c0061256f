"""que2search: the command line. Each command imports what it needs when it runs, so --help is instant."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.report import BenchResult
    from index.catalogue import Catalogue
    from index.choose import Choice
    from index.generations import Generation
    from index.hybrid import FusionTuning
    from index.intervals import Interval
    from index.operating_points import OperatingPoint, OperatingPoints
    from index.radius import Radius, RadiusRow, RadiusRule
    from index.strata import StratumRecall
    from index.tune import Tuning
    from models.config import RunConfig
    from models.data.intake import ImportReport
    from models.data.schema import Dataset
    from models.evaluation.ablation import Study
    from models.runtime import GoldenQuery, Release
    from models.training.checkpoint import Evaluation
    from models.training.run import TrainingRecord
    from models.training.trainer import Reporter
    from service.activation import Activation

ProgressCallback = Callable[[int, int], None]  # done, total

JUDGED_QUERIES = 1_000  # at most, that decide on the radius and on hybrid weights
RELEVANT = 2  # the lowest rating that answers; as models.data.schema, which a serving installation cannot import
PLAIN_EVERY_S = 5.0  # between progress lines where the output is not a terminal
STRATEGIES = {  # what a filter does to the search by vectors
    "exact": "all of them compared",
    "post": "the others left out of an ordinary list",
    "lists": "looked for in the lists that hold them",
    None: "found by words alone",
}

app = typer.Typer(
    name="que2search",
    help="Embedding-based product search for marketplaces: data in, trained towers, an index, and /search.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Make or import a dataset.", no_args_is_help=True)
import_app = typer.Typer(
    help="Import products, events and ratings of a source; bad rows are left out, counted and listed.",
    no_args_is_help=True,
)
bench_app = typer.Typer(
    help="Measure, beside a baseline in the same run: JSON, Markdown and a plot.", no_args_is_help=True
)
release_app = typer.Typer(help="Change the release that is served, without a gap.", no_args_is_help=True)
catalogue_app = typer.Typer(help="Look after a catalogue: check, back up, move, compact.", no_args_is_help=True)
data_app.add_typer(import_app, name="import")
app.add_typer(data_app, name="data")
app.add_typer(release_app, name="release")
app.add_typer(catalogue_app, name="catalogue")
app.add_typer(bench_app, name="bench")

# Away from a terminal a table must not be folded into eighty columns.
# Of the processes of a torchrun, the first one speaks.
console = Console(
    width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160, quiet=os.environ.get("RANK", "0") != "0"
)
errors = Console(stderr=True)


class Locale(StrEnum):
    us = "us"
    es = "es"
    jp = "jp"


class Split(StrEnum):
    train = "train"
    test = "test"


class Engine(StrEnum):
    onnx = "onnx"
    int8 = "int8"
    torchscript = "torchscript"


class ScopeName(StrEnum):
    read = "read"
    write = "write"
    admin = "admin"


class TowerName(StrEnum):
    query = "query"
    document = "document"


class Arrivals(StrEnum):
    poisson = "poisson"
    constant = "constant"


class Loop(StrEnum):
    closed = "closed"
    open = "open"


class Layout(StrEnum):
    one_core = "one-core"
    two_cores = "two-cores"


class Preset(StrEnum):
    tiny = "tiny"
    ablation = "ablation"
    base = "base"
    paper = "paper"
    catalogue = "catalogue"
    jd = "jd"


JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write the result, for machines.", dir_okay=False)]


def home() -> Path:
    """Where datasets, runs, releases and the catalogue lie: --home, else Q2S_HOME, else `var`."""
    return Path(os.environ.get("Q2S_HOME", "var"))


def in_home(option: str, place: str, help_text: str) -> Any:
    """A path option whose default lies in `home()`."""
    return typer.Option(option, default_factory=lambda: home() / place, show_default=f"HOME/{place}", help=help_text)


DataOption = Annotated[Path, in_home("--data", "datasets/sample", "Dataset directory.")]
RunOption = Annotated[Path, in_home("--run", "runs/sample", "Run directory, as `train` made it.")]
ReleaseOption = Annotated[Path, in_home("--release", "releases/sample", "Release directory, as `export` made it.")]
CatalogueOption = Annotated[Path, in_home("--catalogue", "catalogue", "Catalogue directory, as `build` made it.")]
DatasetOut = Annotated[Path, in_home("--out", "datasets/sample", "Where to write the dataset.")]
RunOut = Annotated[Path, in_home("--out", "runs/sample", "Where to write the run.")]
ImportOut = Annotated[Path, typer.Option("--out", help="Where to write the dataset.", show_default=False)]
ReleaseOut = Annotated[Path, in_home("--out", "releases/sample", "Where to write the release.")]
PresetOption = Annotated[Preset, typer.Option(help="Sizes to start from.")]
BasePresetOption = Annotated[Preset, typer.Option("--preset", help="What the rows' changes are laid over.")]
ConfigOption = Annotated[Path | None, typer.Option(help="TOML laid over the preset.")]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Instead of the configuration's.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
EncoderOption = Annotated[
    Path | None, typer.Option(help="Pretrained text encoder to start from: a directory in Hugging Face layout.")
]
TeacherOption = Annotated[
    Path | None,
    typer.Option(help="Pretrained text encoder that teaches both towers its similarities: a directory like that."),
]
AblationOut = Annotated[Path, in_home("--out", "ablation", "Folder for the runs and the tables.")]
SeedsOption = Annotated[int, typer.Option(min=1, help="Runs of each row, with seeds 0, 1, ...")]
RowsOption = Annotated[
    list[str] | None, typer.Option("--row", help="Only this row and what it is compared with; may be repeated.")
]
JobsOption = Annotated[
    int, typer.Option(min=1, help="Runs at a time; they share the cores.", show_default="one for each core")
]
ServiceUrl = Annotated[str, typer.Option(help="The service.")]
KeyOption = Annotated[
    str | None, typer.Option(envvar="QUE2SEARCH_KEY", help="API key of scope admin, where keys are configured.")
]
BenchOut = Annotated[Path, in_home("--out", "bench", "Folder for the JSON, the Markdown and the plot.")]
IndexCache = Annotated[Path, in_home("--cache", "bench/indexes", "Keeps built indexes, so that a second run measures.")]
SearchedData = Annotated[
    Path | None, typer.Option("--data", help="Ask what this dataset's users searched for; default: golden queries.")
]
SearchedQueries = Annotated[int, typer.Option(min=1, help="Distinct queries of 3 to 8 words drawn from --data.")]
SearchedSeed = Annotated[int, typer.Option(min=0, help="Of that draw.")]
MadeUpProducts = Annotated[int, typer.Option(min=1_000, help="Made-up product vectors.")]
MadeUpQueries = Annotated[int, typer.Option(min=1, help="Made-up QUERY vectors.")]
MadeUpDim = Annotated[int, typer.Option(min=4, help="Of made-up vectors; a multiple of 4.")]
MadeUpSeed = Annotated[int, typer.Option(min=0, help="Of made-up vectors.")]


@app.callback()
def common(
    home_dir: Annotated[
        Path | None, typer.Option("--home", help="Where everything lies by default; else Q2S_HOME, else var.")
    ] = None,
) -> None:
    if home_dir is not None:
        os.environ["Q2S_HOME"] = str(home_dir)  # worker processes look there too


@data_app.command("sample")
def data_sample(
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


@import_app.command("esci")
def import_esci_command(
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


@import_app.command("wands")
def import_wands_command(
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


@import_app.command("chorus")
def import_chorus_command(
    src: Annotated[Path, typer.Argument(help="Folder of products.jsonl(.gz) and judgements*.csv.")],
    out: ImportOut,
    json_file: JsonOption = None,
) -> None:
    """The Chorus electronics catalogue with its ratings."""
    from models.data.importers import import_chorus

    with progress_bar("rows") as progress:
        report = import_chorus(src, out, progress=progress)
    finish_import(report, out, json_file)


@import_app.command("table")
def import_table_command(
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


@data_app.command("images")
def data_images(
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


@app.command()
def train(
    data: DataOption,
    out: RunOut,
    preset: PresetOption = Preset.tiny,
    config: ConfigOption = None,
    encoder: EncoderOption = None,
    teacher: TeacherOption = None,
    seed: SeedOption = None,
    resume: ResumeOption = False,
    json_file: JsonOption = None,
) -> None:
    """Train the two towers on a dataset's conversations until the validation ROC AUC stops rising.

    With a \\[distillation] table in the configuration, a finished run teaches a query tower instead. Runs on several
    processes under torchrun.
    """
    from models.config import load_config
    from models.data.schema import Dataset
    from models.training.distillation import distil
    from models.training.run import record
    from models.training.train import train as train_towers

    settings = load_config(preset=preset, path=config, seed=seed, encoder=encoder, teacher=teacher)
    with progress_bars("texts that the teacher reads", "steps") as (reading, steps):
        report = training_reporter(steps)
        if settings.distillation:
            distil(Dataset.open(data), out, settings, resume=resume, report=report)
        else:
            train_towers(Dataset.open(data), out, settings, resume=resume, report=report, reading=reading)
    trained = record(out)
    console.print(training_summary(trained, wants_stage_two=settings.curriculum is not None), highlight=False)
    finish(f"run {out}", trained, json_file)


@app.command()
def pretrain(
    data: DataOption,
    out: Annotated[Path, in_home("--out", "encoders/sample", "Where to write the encoder directory.")],
    tower: Annotated[TowerName, typer.Option(help="Whose text encoder: its sizes.")] = TowerName.document,
    preset: PresetOption = Preset.tiny,
    config: ConfigOption = None,
    seed: SeedOption = None,
    resume: ResumeOption = False,
    json_file: JsonOption = None,
) -> None:
    """Pre-train a text encoder on the dataset's own text by masked language model; `train --encoder` starts from it."""
    from models.config import load_config
    from models.data.schema import Dataset
    from models.pretraining import MaskedLoss
    from models.pretraining import pretrain as pretrain_encoder

    settings = load_config(preset=preset, path=config, seed=seed)
    with progress_bar("steps") as progress:

        def report(done: int, most: int, look: MaskedLoss | None) -> None:
            if look is None:
                progress(done, most)
            else:
                console.print(
                    f"step {look.step}: masked tokens {look.accuracy:.1%} right, loss {look.loss:.3f}", highlight=False
                )

        made = pretrain_encoder(Dataset.open(data), out, settings, tower=tower.value, resume=resume, report=report)
    console.print(f"{made.tokens / max(made.seconds, 1e-9):,.0f} tokens/s over {made.texts:,} texts", highlight=False)
    finish(f"encoder {out}", made, json_file)


@app.command()
def evaluate(
    run: RunOption,
    data: DataOption,
    ablation: Annotated[
        Path, in_home("--ablation", "ablation", "Folder of `ablate`, for the report, if there is one.")
    ],
    missing: Annotated[
        bool, typer.Option("--missing", help="Instead: with descriptions removed, and with images removed.")
    ] = False,
    teacher: Annotated[
        bool, typer.Option("--teacher", help="Instead: what a distilled run keeps of its teacher's KNN recall@10.")
    ] = False,
    encoder: Annotated[
        Path | None,
        typer.Option(
            help="A pretrained text encoder, in Hugging Face layout, to measure beside it as it comes, on titles."
        ),
    ] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="A further run, for its training curve in the report; may be repeated.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Measure a run on the test days and the ratings, with its trigram-only variant and BM25 beside it.

    Writes metrics.json and report.html into the run.
    """
    from benchmarks.conditions import commit
    from models.data.schema import Dataset
    from models.evaluation.ablation import ADAPTIVE_FOLDER, TABLES_FOLDER, AblationResult
    from models.evaluation.evaluate import evaluate_missing, evaluate_run
    from models.training.distillation import retained_recall
    from models.training.run import Run

    trained, dataset = Run.open(run), Dataset.open(data)
    if teacher:
        kept = retained_recall(trained, dataset)
        console.print(f"KNN recall@10: teacher {kept.teacher:.4f}, student {kept.student:.4f}, kept {kept.share:.1%}")
        write_json(kept._asdict() | {"share": kept.share}, json_file)
        return
    if missing:
        without = evaluate_missing(trained, dataset)
        for table in without.tables():
            console.print(table)
        write_json(without.to_dict(), json_file)
        return
    with progress_bars("steps of the trigram-only variant", "texts that the encoder reads") as (steps, reading):
        evaluation = evaluate_run(
            trained,
            dataset,
            encoder=encoder,
            beside={path.name: path for path in beside or ()},
            ablation=AblationResult.load(ablation / TABLES_FOLDER),
            sweep=AblationResult.load(ablation / ADAPTIVE_FOLDER),
            commit=commit(),
            report=training_reporter(steps),
            reading=reading,
        )
    for table in evaluation.tables():
        console.print(table)
    finish(f"metrics {run / 'metrics.json'} and {run / 'report.html'}", evaluation.to_dict(), json_file)


@app.command()
def ablate(
    data: DataOption,
    out: AblationOut,
    preset: BasePresetOption = Preset.ablation,
    config: ConfigOption = None,
    encoder: EncoderOption = None,
    seeds: SeedsOption = 3,
    jobs: JobsOption = len(os.sched_getaffinity(0)),
    rows: RowsOption = None,
    json_file: JsonOption = None,
) -> None:
    """What each part of the model is worth: rows of Que2Search's Tables 3 and 4. What is finished is not repeated."""
    from models.config import load_config
    from models.evaluation.ablation import TABLES_3_AND_4, TABLES_FOLDER

    base = load_config(preset=preset, path=config, encoder=encoder)
    run_ablation(
        TABLES_3_AND_4, data, out / TABLES_FOLDER, base, seeds=seeds, jobs=jobs, rows=rows, json_file=json_file
    )


@app.command("ablate-adaptive")
def ablate_adaptive(
    data: DataOption,
    out: AblationOut,
    preset: BasePresetOption = Preset.ablation,
    config: ConfigOption = None,
    encoder: EncoderOption = None,
    seeds: SeedsOption = 3,
    jobs: JobsOption = len(os.sched_getaffinity(0)),
    rows: RowsOption = None,
    json_file: JsonOption = None,
) -> None:
    """JD's adaptive margin and temperature against a sweep of fixed ones. What is finished is not repeated."""
    from models.config import load_config
    from models.evaluation.ablation import ADAPTIVE, ADAPTIVE_FOLDER

    base = load_config(preset=preset, path=config, encoder=encoder)
    run_ablation(ADAPTIVE, data, out / ADAPTIVE_FOLDER, base, seeds=seeds, jobs=jobs, rows=rows, json_file=json_file)


@app.command()
def export(
    run: RunOption,
    data: DataOption,
    out: ReleaseOut,
    json_file: JsonOption = None,
) -> None:
    """Export the towers, prove them equal to the trained ones, and seal the release."""
    from models.data.schema import Dataset
    from models.export import export as export_release
    from models.training.run import Run

    with console.status("exporting"):
        manifest = export_release(Run.open(run), Dataset.open(data), out)
    console.print(f"int8 query tower: {manifest.int8 or 'not made: there are no golden queries'}", highlight=False)
    finish(f"release {out}", manifest, json_file)


@app.command()
def build(
    release: ReleaseOption,
    data: DataOption,
    catalogue: CatalogueOption,
    factory: Annotated[
        str | None, typer.Option(help="Faiss factory, such as OPQ32,IVF256,PQ32; default: by size.")
    ] = None,
    goal_recall: Annotated[
        float | None, typer.Option(help="Measure several indexes: ann_recall@10 to reach. Default with a goal: 0.95.")
    ] = None,
    goal_bytes: Annotated[float | None, typer.Option(help="Measure several indexes: bytes a product, at most.")] = None,
    goal_us: Annotated[
        float | None, typer.Option(help="Measure several indexes: p50 in microseconds, at most.")
    ] = None,
    attributes: Annotated[
        list[str],
        typer.Option("--attribute", help="Of the products' attributes, one to filter by. May be given several times."),
    ] = [],  # noqa: B006
    from_catalogue: Annotated[
        bool, typer.Option("--from-catalogue", help="No dataset: embed what the catalogue holds, as after an import.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Embed the products, fill the catalogue, and build its next index generation. A killed build goes on.

    With a goal, every candidate index is built over the products and searched by the release's golden queries first.
    """
    from index.build import build_generation
    from index.catalogue import Catalogue
    from index.generations import generation_path, open_generation
    from index.lock import exclusive
    from models.data.schema import Dataset
    from models.runtime import open_release

    opened, dataset = open_release(release), None if from_catalogue else Dataset.open(data)
    with exclusive(catalogue, use="que2search build"), Catalogue.create(catalogue) as store:
        with progress_bar("embedding") as progress:
            if dataset is None:
                embed_missing(store, opened, progress)
            else:
                fill_catalogue(store, dataset, opened, progress)
        if (goal_recall, goal_bytes, goal_us) != (None, None, None):
            if factory is not None:
                raise typer.BadParameter(f"--factory {factory} names the index; leave it out, or the goals")
            factory = measured_factory(store, opened, goal_recall, goal_bytes, goal_us)
        with progress_bar("indexing") as progress:
            number = build_generation(
                store, release=opened.id, factory=factory, attributes=attributes, progress=progress
            )
    manifest = open_generation(generation_path(catalogue, number), verify=False).manifest
    finish(
        f"generation {number} of {catalogue}: {manifest.factory} over {manifest.count:,} products", manifest, json_file
    )


@app.command()
def tune(
    catalogue: CatalogueOption,
    release: Annotated[Path | None, typer.Option(help="Default: the current generation's, beside the others.")] = None,
    minimal: Annotated[
        float | None, typer.Option(help="ann_recall@10 of this effort.", show_default="0.80, or --low")
    ] = None,
    low: Annotated[float, typer.Option(help="Of first pages.")] = 0.95,
    balanced: Annotated[float | None, typer.Option(help="Between the two.", show_default="0.97, or halfway")] = None,
    high: Annotated[float, typer.Option(help="Of later pages.")] = 0.99,
    radius_loss_first: Annotated[
        float, typer.Option(help="Share of the relevant judged products that the radius of first pages may lose.")
    ] = 0.01,
    radius_loss_later: Annotated[float, typer.Option(help="The same of later pages, efforts high and exact.")] = 0.02,
    no_radius: Annotated[bool, typer.Option("--no-radius", help="Return results of any score.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Measure the current generation on golden queries and set its operating points.

    Judgements set the radius and the weights of hybrid search.
    """
    from index.efforts import Targets
    from index.generations import open_current
    from index.radius import RadiusRule
    from index.tune import tune as tune_generation
    from models.runtime import open_release

    targets = Targets.of(minimal=minimal, low=low, balanced=balanced, high=high)
    rule = RadiusRule(loss_first=radius_loss_first, loss_later=radius_loss_later)
    generation = open_current(catalogue)
    opened = open_release(release or release_named(generation.manifest.release))
    vectors = opened.golden_vectors()
    judged = judged_queries(opened, catalogue)
    radius = None if no_radius else judged_radius(judged, generation, rule)
    with progress_bar("settings") as progress:
        tuning = tune_generation(
            generation.ann,
            generation.exact,
            vectors,
            targets=targets,
            strata=strata_of(opened.golden_queries()),
            radius=radius,
            progress=progress,
        )
    fusion = judged_fusion(judged, generation, tuning.points["low"])
    points = tuning.points.fused_by(fusion)
    generation.save_operating_points(points)
    console.print(operating_points_table(points))
    console.print(strata_table(tuning.strata))
    if radius is not None and radius.tables:
        console.print(radius_table(radius))
    for note in (*tuning.notes, *fusion.notes):
        console.print(f"note: {note}", highlight=False)
    draw_tuning(tuning, generation)
    finish(f"operating points of generation {generation.number} in {catalogue}", points, json_file)


@app.command()
def serve(
    release: Annotated[Path | None, typer.Option(help="Default: Q2S_RELEASE or HOME/releases/sample.")] = None,
    catalogue: Annotated[Path | None, typer.Option(help="Default: Q2S_CATALOGUE or HOME/catalogue.")] = None,
    host: Annotated[str | None, typer.Option(help="Default: Q2S_HOST or 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Default: Q2S_PORT or 8000.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; they share the index. Default: Q2S_WORKERS or 1.")
    ] = None,
    engine: Annotated[
        Engine | None, typer.Option(help="What runs the query tower. Default: Q2S_ENGINE or onnx.")
    ] = None,
) -> None:
    """Answer /search over HTTP. Every other setting is a Q2S_ variable; see docs/operations.md."""
    # The first process of a container is deaf to a signal that it does not handle, and the imports take a while.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(0))
    from service.server import serve as serve_http
    from service.settings import load_settings

    usual = {"Q2S_RELEASE": str(home() / "releases/sample"), "Q2S_CATALOGUE": str(home() / "catalogue")}
    chosen = {
        "release": release,
        "catalogue": catalogue,
        "host": host,
        "port": port,
        "workers": workers,
        "engine": engine,
    }
    overrides = {name: value for name, value in chosen.items() if value is not None}
    serve_http(load_settings({**usual, **os.environ}, overrides=overrides))


@app.command("key")
def key_command(
    name: Annotated[str, typer.Option(help="Whose key: one word, for the file's reader.")],
    keys: Annotated[Path, in_home("--keys", "keys", "Key file to add it to; Q2S_KEYS_FILE names it to `serve`.")],
    scope: Annotated[ScopeName, typer.Option(help="What it opens; each includes those before it.")] = ScopeName.write,
) -> None:
    """Make an API key: shown once, kept as a hash. Delete its line, and start the server again, to revoke it."""
    from service.keys import new_key

    if not name or len(name.split()) != 1:
        raise typer.BadParameter(f"{name!r} is not one word", param_hint="--name")
    secret, key = new_key(name, scope.value)
    keys.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(keys, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as file:
        file.write(key.line())
    errors.print(f"added {name!r} with scope {scope.value} to {keys}; this is the only time that the key is shown:")
    print(secret)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    url: Annotated[str, typer.Option(help="The service.")] = "http://127.0.0.1:8000",
    country: Annotated[str | None, typer.Option(help="ISO 3166 code of the searcher.")] = None,
    page: Annotated[int | None, typer.Option(help="From 1.")] = None,
    size: Annotated[int | None, typer.Option(help="Hits per page, 1 to 100.")] = None,
    cursor: Annotated[str | None, typer.Option(help="Of the page before.")] = None,
    effort: Annotated[str | None, typer.Option(help="auto, minimal, low, balanced, high or exact.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Nothing below this cosine.")] = None,
    timeout_ms: Annotated[float | None, typer.Option(help="Deadline; the effort is lowered to meet it.")] = None,
    category: Annotated[str | None, typer.Option(help="And those below it: 'Fashion > Shoes'.")] = None,
    price_min: Annotated[float | None, typer.Option(help="This price or more.")] = None,
    price_max: Annotated[float | None, typer.Option(help="This price or less.")] = None,
    seller: Annotated[str | None, typer.Option(help="Of this seller.")] = None,
    created_after: Annotated[str | None, typer.Option(help="Date or date and time, ISO 8601.")] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="An expression: 'country = GB AND (tokens OR nn(radius=0.3))'.")
    ] = None,
    per_seller: Annotated[int | None, typer.Option(help="Hits of one seller, at most.")] = None,
    mode: Annotated[str | None, typer.Option(help="vector, lexical or hybrid.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show the parts of each score.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Ask a running service and print its answer."""
    from service.client import search as ask

    fields = {
        "q": query,
        "country": country,
        "page": page,
        "size": size,
        "cursor": cursor,
        "effort": effort,
        "min_score": min_score,
        "timeout_ms": timeout_ms,
        "category": category,
        "price_min": price_min,
        "price_max": price_max,
        "seller": seller,
        "created_after": created_after,
        "filter": filter_,
        "per_seller": per_seller,
        "mode": mode,
        "explain": explain or None,
    }
    answer = ask(url, {name: value for name, value in fields.items() if value is not None})
    console.print(hits_table(answer))
    for note in notes_of(answer):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    write_json(answer, json_file)


@release_app.command("activate")
def release_activate(
    name: Annotated[str, typer.Argument(help="The release's folder, beside the one that is served.")],
    url: ServiceUrl = "http://127.0.0.1:8000",
    catalogue: Annotated[
        Path | None, typer.Option(help="Instead of a running service: this catalogue, while none runs.")
    ] = None,
    releases: Annotated[
        Path | None, typer.Option(help="With --catalogue: where releases lie. Default: HOME/releases.")
    ] = None,
    key: KeyOption = None,
) -> None:
    """Embed what the catalogue holds by another release, build its index, and serve it. Run again, it goes on.

    What was served before stays to be gone back to, by the same command.
    """
    from service.client import activate_release

    with progress_bars("embedding", "building") as bars:
        progress = dict(zip(("embedding", "building"), bars, strict=True))

        def tell(activation: "Activation") -> None:
            if activation.total:
                progress[activation.state](activation.done, activation.total)

        if catalogue is None:
            for activation in activate_release(url, name, key=key):
                tell(activation)
        else:
            activate_offline(name, catalogue, releases or home() / "releases", tell)
    finish(f"release {name} is served", {"release": name}, None)


@release_app.command("show")
def release_show(
    url: ServiceUrl = "http://127.0.0.1:8000", key: KeyOption = None, json_file: JsonOption = None
) -> None:
    """What a running service serves, what it served before, and how far a change is."""
    from service.client import release_status

    status = release_status(url, key=key)
    for name, value in status.items():
        console.print(f"{name}: {value}", markup=False, highlight=False)
    write_json(status, json_file)


@catalogue_app.command("check")
def catalogue_check(catalogue: CatalogueOption, json_file: JsonOption = None) -> None:
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


@catalogue_app.command("export")
def catalogue_export(
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


@catalogue_app.command("import")
def catalogue_import(
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


@catalogue_app.command("compact")
def catalogue_compact(catalogue: CatalogueOption, json_file: JsonOption = None) -> None:
    """Write the store anew without free pages, and in the present format, while no server runs."""
    from index.backup import compact

    sizes = compact(catalogue)
    finish(
        f"{catalogue}: {sizes.before / 2**20:,.1f} MiB before, {sizes.after / 2**20:,.1f} after",
        sizes._asdict(),
        json_file,
    )


@catalogue_app.command("backup")
def catalogue_backup(
    out: Annotated[Path, typer.Argument(help="Folder to make.", file_okay=False)],
    catalogue: CatalogueOption,
    json_file: JsonOption = None,
) -> None:
    """Copy the catalogue as of one moment: store, current index, keys. May run beside a server."""
    from index.backup import back_up

    with progress_bar("index files") as progress:
        backup = back_up(catalogue, out, progress=progress)
    finish(f"backup {out}: {backup.products:,} products as of change {backup.sequence:,}", backup._asdict(), json_file)


@catalogue_app.command("restore")
def catalogue_restore(
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


@bench_app.command("towers")
def bench_towers(
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


@bench_app.command("ann")
def bench_ann(
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


@bench_app.command("peers")
def bench_peers(
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
    release: Annotated[
        Path | None, typer.Option(help="Its vectors in --catalogue instead, and its golden queries.")
    ] = None,
    catalogue: Annotated[Path | None, typer.Option(help="Catalogue directory, with --release.")] = None,
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


@bench_app.command("services")
def bench_services(
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


@bench_app.command("scale")
def bench_scale(
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


@bench_app.command("filters")
def bench_filters(
    out: BenchOut,
    cache: IndexCache,
    products: MadeUpProducts = 1_000_000,
    queries: MadeUpQueries = 1_000,
    dim: MadeUpDim = 128,
    seed: Annotated[int, typer.Option(min=0, help="Of made-up vectors, and of the filters.")] = 0,
    release: Annotated[
        Path | None, typer.Option(help="Its vectors in --catalogue instead, and its golden queries.")
    ] = None,
    catalogue: Annotated[Path | None, typer.Option(help="Catalogue directory, with --release.")] = None,
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


@bench_app.command("search")
def bench_search(
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


@bench_app.command("http")
def bench_http(
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


@bench_app.command("check")
def bench_check(
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


@bench_app.command("overload")
def bench_overload(
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


@bench_app.command("modes")
def bench_modes(
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


@bench_app.command("watch")
def bench_watch(
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


@bench_app.command("widen")
def bench_widen(
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


@bench_app.command("train")
def bench_train(
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


@bench_app.command("load")
def bench_load(
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


@app.command()
def doctor(
    catalogue: Annotated[Path | None, typer.Option(help="Whether its index fits into memory.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Look, and measure nothing.")] = False,
    json_file: JsonOption = None,
) -> None:
    """What this machine and installation are, what of them makes the service slow, and what that costs here."""
    from benchmarks.doctor import run

    diagnosis = run(quick=quick, catalogue=catalogue)
    console.print(diagnosis.table())
    write_json(diagnosis, json_file)


def fill_catalogue(store: "Catalogue", dataset: "Dataset", release: "Release", progress: ProgressCallback) -> None:
    """Store the products and the vectors that they lack; what an earlier, killed build did is kept."""
    from models.embed import ProductEmbedder, product_rows

    embedder, done = ProductEmbedder(release), 0
    for rows in product_rows(dataset):
        numbers = store.put_products(rows)
        missing = set(store.missing_vectors(release.id, numbers).tolist())
        lacking = [at for at, number in enumerate(numbers.tolist()) if number in missing]
        if lacking:
            store.put_vectors(release.id, numbers[lacking], embedder.embed([rows[at] for at in lacking]))
        done += len(rows)
        progress(done, dataset.product_count)


def embed_missing(store: "Catalogue", release: "Release", progress: ProgressCallback) -> None:
    """Store the vectors that searchable products lack, wherever the products came from."""
    from models.embed import CHUNK, ProductEmbedder

    embedder, missing = ProductEmbedder(release), store.missing_vectors(release.id)
    for start in range(0, len(missing), CHUNK):
        numbers = missing[start : start + CHUNK]
        store.put_vectors(release.id, numbers, embedder.embed(store.records(numbers.tolist())))
        progress(start + len(numbers), len(missing))


def measured_factory(
    store: "Catalogue", release: "Release", recall: float | None, size: float | None, p50_us: float | None
) -> str:
    """The index that meets the goals best, with the table of all that were tried."""
    from index.build import spec_for
    from index.choose import Goals, choose_by_measuring

    goals = Goals(ann_recall_at_10=0.95 if recall is None else recall, bytes_per_product=size, p50_us=p50_us)
    spec = spec_for(store, release=release.id)
    with progress_bar("vectors of all candidates") as progress:
        choice = choose_by_measuring(
            lambda: store.vectors(release.id),
            release.golden_vectors(),
            count=spec.count,
            dim=spec.dim,
            goals=goals,
            progress=progress,
        )
    console.print(trials_table(choice))
    for note in choice.notes:
        console.print(f"note: {note}", highlight=False)
    return choice.factory


class JudgedQuery(NamedTuple):
    """A query that was rated, as the catalogue knows its products."""

    query: str
    country: str | None
    vector: "np.ndarray"  # (d,) float32
    ratings: dict[int, int]  # product number -> 0 to 3


def judged_queries(release: "Release", catalogue: Path) -> list[JudgedQuery]:
    """The release's judgements by query; of many queries a sample."""
    from random import Random

    from index.catalogue import Catalogue

    ratings: dict[tuple[str, str | None], dict[str, int]] = {}
    for each in release.judgements():
        ratings.setdefault((each.query, each.country), {})[each.product_id] = each.rating
    asked = Random(0).sample(list(ratings), min(JUDGED_QUERIES, len(ratings)))
    with Catalogue.open(catalogue) as store:
        numbers = {product: store.number_of(product) for key in asked for product in ratings[key]}
    return [
        JudgedQuery(
            query,
            country,
            release.embed_query(query, country),
            {
                number: rating
                for product, rating in ratings[query, country].items()
                if (number := numbers[product]) is not None
            },
        )
        for query, country in asked
    ]


def judged_radius(judged: "Sequence[JudgedQuery]", generation: "Generation", rule: "RadiusRule") -> "Radius":
    """Choose the radius by judgements."""
    import numpy as np

    from index.radius import Judged, choose_radius

    split = [
        Judged(
            country=each.country,
            relevant=[number for number, rating in each.ratings.items() if rating >= RELEVANT],
            others=[number for number, rating in each.ratings.items() if rating < RELEVANT],
        )
        for each in judged
    ]
    return choose_radius(generation.exact, np.array([each.vector for each in judged]), split, rule=rule)


def judged_fusion(judged: "Sequence[JudgedQuery]", generation: "Generation", point: "OperatingPoint") -> "FusionTuning":
    """Choose the weights of hybrid search by judgements, over the lists that its first pages are made of."""
    from index.ann import ranked
    from index.hybrid import RatedLists, tune_fusion

    lists = []
    for each in judged:
        query = each.vector[None]
        lexical = generation.lexical.search(each.query, k=point.candidates).numbers
        vector = ranked(generation.search(query, point), min_score=point.min_score)
        vector = generation.joined_by_words(query, vector, lexical, min_score=point.min_score)
        lists.append(RatedLists(vector.numbers, lexical, each.ratings))
    return tune_fusion(lists, relevant=RELEVANT)


def strata_of(golden: "Sequence[GoldenQuery]") -> dict[str, list[str]]:
    """What kinds of queries tuning tells apart: a label for each golden query, by stratum."""
    return {
        "frequency": [query.stratum for query in golden],
        "length": [length_label(query.query) for query in golden],
        "language": [query.language or "unknown" for query in golden],
        "country": [query.country or "unknown" for query in golden],
    }


def length_label(query: str) -> str:
    """Characters, in the bands of the evaluation: the paper's trigram channel dominates below five."""
    bands = {"1-4": 5, "5-9": 10, "10-19": 20}
    return next((label for label, below in bands.items() if len(query) < below), "20+")


def draw_tuning(tuning: "Tuning", generation: "Generation") -> None:
    """The picture beside the operating points, where it can be drawn."""
    try:
        from benchmarks.tuning_picture import save
    except ModuleNotFoundError as exc:
        console.print(f"no picture was drawn: there is no {exc.name} here", highlight=False)
        return
    manifest = generation.manifest
    path = save(tuning, generation.path, title=f"{manifest.factory} over {manifest.count:,} products")
    console.print(f"[green]wrote[/green] {path}", highlight=False, soft_wrap=True)


def activate_offline(name: str, catalogue: Path, releases: Path, tell: "Callable[[Activation], None]") -> None:
    """Activate a release while no server runs on the catalogue."""
    from index.catalogue import Catalogue
    from index.lock import exclusive
    from service.activator import Activator
    from service.logs import make_logger

    with (
        exclusive(catalogue, use="que2search release activate"),
        Catalogue.open(catalogue, readonly=False) as opened,
    ):
        log = make_logger("warning")
        activator = Activator(opened, releases=releases, engine="onnx", workers=0, threads=None, log=log)
        activator.activate(name, tell=tell)


def release_named(release_id: str) -> Path:
    """The directory of a release, looked for in the usual place."""
    from models.errors import ReleaseError
    from models.runtime import MANIFEST_FILE, read_manifest

    for path in sorted((home() / "releases").glob(f"*/{MANIFEST_FILE}")):
        if read_manifest(path.parent).id == release_id:
            return path.parent
    raise ReleaseError(f"no release {release_id} in {home() / 'releases'}; name its directory with --release")


@contextmanager
def progress_bar(unit: str) -> Iterator[ProgressCallback]:
    """A bar on a terminal; elsewhere a plain line every few seconds."""
    with progress_bars(unit) as (progress,):
        yield progress


@contextmanager
def progress_bars(*units: str) -> Iterator[tuple[ProgressCallback, ...]]:
    """The same for work that comes in several parts; a part is shown from its first step on."""
    if console.quiet:
        yield tuple(lambda _done, _total: None for _ in units)
        return
    if not console.is_terminal:
        yield tuple(plain_progress(unit) for unit in units)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:

        def shown(task: TaskID) -> ProgressCallback:
            return lambda done, total: bar.update(task, completed=done, total=total, visible=True)

        yield tuple(shown(bar.add_task(unit, total=None, visible=False)) for unit in units)


def plain_progress(unit: str) -> ProgressCallback:
    """Prints `unit done/total` when PLAIN_EVERY_S have passed, and once at the end."""
    printed, printed_at = -1, time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal printed, printed_at
        if done != printed and (done >= total or time.monotonic() - printed_at >= PLAIN_EVERY_S):
            printed, printed_at = done, time.monotonic()
            print(f"{unit} {done:,}/{total:,}", flush=True)

    return progress


def run_ablation(
    study: "Study",
    data: Path,
    out: Path,
    base: "RunConfig",
    *,
    seeds: int,
    jobs: int,
    rows: list[str] | None,
    json_file: Path | None,
) -> None:
    """Train what is missing of a study, and show and keep its table."""
    from benchmarks.conditions import commit
    from models.data.schema import Dataset
    from models.evaluation.ablation import run_study

    chosen = study.only(rows) if rows else study
    with progress_bar("runs") as progress:

        def run_is_done(done: int, most: int, name: str) -> None:
            progress(done, most)
            console.print(f"run {done} of {most}: {name}", highlight=False)

        result = run_study(
            chosen,
            Dataset.open(data),
            out,
            base,
            seeds=range(seeds),
            jobs=jobs,
            commit=commit(),
            progress=run_is_done,
        )
    console.print(result.table())
    finish(f"table {result.save(out)}", result, json_file)


def training_reporter(progress: ProgressCallback) -> "Reporter":
    """Steps move the bar, an evaluation prints a line."""

    def report(done: int, most: int, evaluation: "Evaluation | None") -> None:
        if evaluation is None:
            progress(done, most)
        else:
            console.print(
                f"stage {evaluation.stage}, epoch {evaluation.epoch:.4g}: loss {evaluation.loss:.4f}, "
                f"validation ROC AUC {evaluation.roc_auc:.4f}, {evaluation.seconds / evaluation.step:.3f} s/step",
                highlight=False,
            )

    return report


def training_summary(trained: "TrainingRecord", *, wants_stage_two: bool) -> str:
    """How it ended, how fast it was, and what it took."""
    position = trained.position
    ended = f"best validation ROC AUC {position.best_roc_auc:.4f} at step {position.best_step} of {position.step}"
    cost = f"{trained.pairs_per_second:,.0f} pairs/s, {trained.peak_memory_mb:,.0f} MB at most"
    if wants_stage_two and position.stage_one_converged is False:
        ended += "; stage 1 used up its epochs before it converged, so no stage 2 follows: raise train.epochs for one"
    return f"{ended}; {cost}"


def finish(made: str, result: object, json_file: Path | None) -> None:
    """Say what was made, and write the result for machines when asked to."""
    console.print(f"[green]done[/green] {made}", highlight=False, soft_wrap=True)
    write_json(result, json_file)


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


def operating_points_table(points: "OperatingPoints") -> Table:
    """One row per effort."""
    from index.operating_points import EFFORTS

    table = Table(
        "effort",
        "nprobe",
        "candidates",
        "ann_recall@10 (95 %)",
        "ann_recall@100",
        "codes scanned",
        "p50 us",
        "p99 us",
        "min_score",
    )
    for effort in EFFORTS:
        point = points[effort]
        table.add_row(
            effort,
            figure(point.nprobe),
            figure(point.candidates),
            with_span(point.ann_recall_at_10, point.ann_recall_at_10_interval),
            figure(point.ann_recall_at_100),
            figure(point.codes_scanned),
            figure(point.p50_us),
            figure(point.p99_us),
            figure(point.min_score),
        )
    return table


def figure(value: float | None) -> str:
    """Four digits; a dash where nothing was measured."""
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def with_span(value: float | None, interval: "Interval | None") -> str:
    """A share or a difference of shares, and where 95 % of the resampled ones lie."""
    if value is None or interval is None:
        return figure(value)
    return f"{value:.3f} ({interval.low:.3f}-{interval.high:.3f})"


def strata_table(recalls: "Sequence[StratumRecall]") -> Table:
    """ann_recall@10 of the chosen points: a row per label, a column per effort; intervals are in the file."""
    efforts = list(dict.fromkeys(found.effort for found in recalls))
    table = Table("ann_recall@10 where", "is", "queries", *efforts)
    for (stratum, label, queries), same in groupby(recalls, key=lambda row: (row.stratum, row.label, row.queries)):
        table.add_row(stratum, label, figure(queries), *(f"{row.ann_recall_at_10:.3f}" for row in same))
    return table


def radius_table(radius: "Radius") -> Table:
    """What the chosen thresholds do in each country, beside a ladder over all; every threshold is in the file."""
    from index.radius import ALL

    columns = ("country", "judged queries", "min_score", "precision", "gain (95 %)", "lost", "results", "p10", "none")
    table = Table(*columns)
    for part in radius.tables:
        for row in part.rows:
            if row.min_score in {radius.first, radius.later} - {None} or (part.country == ALL and is_rung(row)):
                table.add_row(
                    part.country,
                    figure(part.queries),
                    figure(row.min_score),
                    figure(row.precision),
                    with_span(row.gain, row.gain_interval),
                    f"{row.lost:.1%}",
                    figure(row.results),
                    figure(row.results_p10),
                    f"{row.without_results:.1%}",
                )
    return table


def is_rung(row: "RadiusRow") -> bool:
    """No radius, and each tenth that takes something and leaves at least half of what is relevant."""
    if row.min_score is None:
        return True
    return 0 < row.lost <= 0.5 and round(100 * row.min_score) % 10 == 0


def trials_table(choice: "Choice") -> Table:
    """One row per candidate index, the chosen one marked."""
    table = Table(
        "index",
        "bytes/product",
        "built in s",
        "nprobe",
        "candidates",
        "ann_recall@10",
        "codes scanned",
        "p50 us",
        "p99 us",
    )
    for trial in choice.trials:
        setting = trial.setting
        table.add_row(
            f"* {trial.factory}" if trial.factory == choice.factory else trial.factory,
            f"{trial.bytes_per_product:.0f}",
            f"{trial.build_s:.1f}",
            figure(setting.nprobe),
            figure(setting.candidates),
            f"{setting.ann_recall_at_10:.3f}",
            f"{setting.codes_scanned:,.0f}",
            f"{setting.p50_us:.0f}",
            f"{setting.p99_us:.0f}",
        )
    return table


def hits_table(answer: Mapping[str, Any]) -> Table:
    """One row per hit: score and what a person wants to see; where it was explained, what either leg says of it."""
    parts = ("cosine", "rank", "BM25", "rank") if "explain" in answer else ()
    table = Table("score", *parts, "id", "title", "price", "country")
    for hit in answer["hits"]:
        price = f"{hit['price']:,.2f} {hit.get('currency', '')}" if hit.get("price") is not None else ""
        seen = (hit["id"], hit.get("title", ""), price, hit.get("country", ""))
        table.add_row(figure(hit["score"]), *parts_of(hit), *map(escape, seen))
    return table


def parts_of(hit: Mapping[str, Any]) -> list[str]:
    """Score and rank in the list of vectors and in that of words; nothing where the hit was not explained."""
    legs = (hit["explain"]["vector"], hit["explain"]["lexical"]) if "explain" in hit else ()
    return [figure(leg[member]) for leg in legs for member in ("score", "rank")]


def notes_of(answer: Mapping[str, Any]) -> Iterator[str]:
    """How a page was searched and what that took, a line each."""
    searched = dict(answer["search"])
    applied = searched.pop("filter")
    yield " ".join(f"{name}={value}" for name, value in searched.items())
    yield " ".join(f"{stage}={micros}us" for stage, micros in answer["timings_us"].items())
    if applied is not None:
        yield f"filter: {applied['condition']}; {applied['allowed']:,} products pass, {STRATEGIES[applied['strategy']]}"
    explained = answer.get("explain", {})
    if explained.get("channel_weights"):
        yield f"query tower: {named(explained['channel_weights'])}"
    if explained.get("fusion"):
        yield f"fusion: {named(explained['fusion'])}"
    for word, taken in explained.get("corrections", {}).items():
        yield f"no product holds {word!r}: looked for {' and '.join(taken)}"


def named(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {figure(value)}" for name, value in figures.items())


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
