"""`que2search train`, `pretrain`, `export`: from a dataset to a release."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.options import (
    ConfigOption,
    DataOption,
    EncoderOption,
    JsonOption,
    Preset,
    PresetOption,
    ReleaseOut,
    ResumeOption,
    RunOption,
    RunOut,
    SeedOption,
    TeacherOption,
    TowerName,
    in_home,
)
from commands.output import console, finish
from commands.progress import ProgressCallback, progress_bar, progress_bars

if TYPE_CHECKING:
    from models.training.checkpoint import Evaluation
    from models.training.run import TrainingRecord
    from models.training.trainer import Reporter


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
