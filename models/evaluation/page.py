"""report.html: all that is known of a run on one page, which needs no network, no script and no other file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from models.evaluation import page_sections
from models.evaluation.page_sections import Section, WorstQuery
from models.evaluation.plots import AblationRow, Attention, ChannelImportance, Histories, RadiusStudy, Sensitivity
from models.evaluation.report import Evaluation

TEMPLATE = "report.html.jinja"
RETRIEVED_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the report shows. A part without data is left out."""

    title: str
    conditions: Mapping[str, object] = field(default_factory=dict)  # run, dataset, preset, seed, commit; None: unknown
    evaluation: Evaluation | None = None  # the headline and the slices
    histories: Histories | None = None  # by run; several are laid into one picture
    attention: Attention | None = None
    importance: Sequence[ChannelImportance] | None = None
    importance_measure: str = "loss of ROC AUC"
    ablation: Sequence[AblationRow] | None = None
    sensitivities: Sequence[Sensitivity] = ()
    ablation_spread: str = "standard deviation over seeds"
    radius: RadiusStudy | None = None
    radius_findings: Sequence[str] | None = None  # whole sentences
    worst_queries: Sequence[WorstQuery] | None = None


def write_page(path: Path, page: Page) -> None:
    """Write the report beside, then rename."""
    beside = path.with_name(f"{path.name}.tmp")
    with beside.open("w", encoding="utf-8") as file:
        file.write(html(page))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def html(page: Page) -> str:
    """The whole page; all data in it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        title=page.title,
        conditions={name: str(value) for name, value in page.conditions.items() if value is not None},
        sections=sections(page),
        retrieved_shown=RETRIEVED_SHOWN,
    )


def sections(page: Page) -> list[Section]:
    """The parts that have something to show, in the order of the page."""
    shown: list[Section] = []
    if page.evaluation is not None and page.evaluation.systems:
        shown.append(page_sections.headline(page.evaluation))
    if histories := {name: history for name, history in (page.histories or {}).items() if history}:
        shown.append(page_sections.training(histories))
    if page.attention is not None and len(page.attention.lengths):
        shown.append(page_sections.attention_by_length(page.attention))
    if page.importance:
        shown.append(page_sections.channel_importance(page.importance, measure=page.importance_measure))
    if page.ablation and any(row.metrics for row in page.ablation):
        shown.append(page_sections.ablation(page.ablation, spread=page.ablation_spread))
    if page.sensitivities:
        shown.append(page_sections.sensitivities(page.sensitivities, spread=page.ablation_spread))
    study = page.radius if page.radius is not None and len(page.radius.minimum_cosine) else None
    if study is not None or page.radius_findings:
        shown.append(page_sections.radius(study, page.radius_findings or []))
    if page.evaluation is not None and any(system.slices for system in page.evaluation.systems):
        shown.append(page_sections.slices(page.evaluation))
    if page.worst_queries:
        shown.append(page_sections.worst_queries(page.worst_queries))
    return shown
