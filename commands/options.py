"""Options that several commands have, the values that some of them take, and where everything lies by default."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


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


def home() -> Path:
    """Where datasets, runs, releases and the catalogue lie: --home, else Q2S_HOME, else `var`."""
    return Path(os.environ.get("Q2S_HOME", "var"))


def in_home(option: str, place: str, help_text: str) -> Any:
    """A path option whose default lies in `home()`."""
    return typer.Option(option, default_factory=lambda: home() / place, show_default=f"HOME/{place}", help=help_text)


JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write the result, for machines.", dir_okay=False)]
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
VectorsRelease = Annotated[
    Path | None, typer.Option("--release", help="Its vectors in --catalogue instead, and its golden queries.")
]
VectorsCatalogue = Annotated[Path | None, typer.Option("--catalogue", help="Catalogue directory, with --release.")]
MadeUpSeed = Annotated[int, typer.Option(min=0, help="Of made-up vectors.")]
