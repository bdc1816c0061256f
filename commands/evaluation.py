"""`que2search evaluate`, `ablate`, `ablate-adaptive`: what a run finds, and what each part of the model is worth."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.options import (
    AblationOut,
    BasePresetOption,
    ConfigOption,
    DataOption,
    EncoderOption,
    JobsOption,
    JsonOption,
    Preset,
    RowsOption,
    RunOption,
    SeedsOption,
    in_home,
)
from commands.output import console, finish, write_json
from commands.progress import progress_bar, progress_bars
from commands.training import training_reporter

if TYPE_CHECKING:
    from models.config import RunConfig
    from models.evaluation.ablation import Study


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
