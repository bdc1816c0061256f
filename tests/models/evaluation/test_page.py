import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from models.evaluation.bootstrap import Estimate
from models.evaluation.page import Page, html, sections, write_page
from models.evaluation.page_sections import Retrieved, WorstQuery
from models.evaluation.plots import AblationRow, Attention, ChannelImportance, RadiusStudy, Spread
from models.evaluation.report import Evaluation, Gain
from models.evaluation.retrieval import METRICS, SliceResult, SystemResult
from models.training import checkpoint

HOSTILE = "<script>alert(1)</script>"
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Outline(HTMLParser):
    """What a browser would see: elements with their attributes, and which stayed open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()


def system(name: str, value: float) -> SystemResult:
    part = SliceResult(
        family="length", label="1-4", pairs=1234, judged_queries=7, metrics=dict.fromkeys(METRICS, value)
    )
    metrics: dict[str, Estimate | None] = dict.fromkeys(METRICS, Estimate(value, value - 0.01, value + 0.02))
    return SystemResult(name=name, metrics=metrics, slices=[part], languages={})


def evaluation(name: str = "full model") -> Evaluation:
    gains: dict[str, Estimate | None] = dict.fromkeys(METRICS, Estimate(0.1, 0.05, 0.15))
    gains["roc_auc"] = Estimate(0.1, -0.05, 0.25)
    return Evaluation(
        systems=[system(name, 0.8), system("BM25", 0.7)],
        gains=[Gain(name=name, over="BM25", metrics=gains)],
        counts={"queries": 1000},
        conditions={"batch": 256, "rounds": 100},
    )


def history() -> list[checkpoint.Evaluation]:
    return [
        checkpoint.Evaluation(stage=stage, step=step, epoch=1, loss=1, roc_auc=auc, seconds=90)
        for stage, step, auc in ((1, 10, 0.7), (1, 20, 0.8), (2, 30, 0.9), (2, 50, 0.85))
    ]


def full_page(name: str = "text") -> Page:
    """A page with every part, in which `name` stands wherever data can."""
    found = Estimate(0.1, 0.05, 0.15)
    return Page(
        title=name,
        conditions={"run": name, "seed": 0, "commit": None},
        evaluation=evaluation(name),
        histories={name: history(), "other": history()},
        attention=Attention(np.array([1, 2]), [name, "country"], np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([1, 3])),
        importance=[ChannelImportance(name, name, found, found)],
        importance_measure=name,
        ablation=[AblationRow(name, {name: Spread(0.8, 0.01)}, name)],
        radius=RadiusStudy(*(np.array([value]) for value in (0.5, 12.5, 0.25, 0.75, 0.6, np.nan))),
        radius_findings=[name, "Another."],
        worst_queries=[
            WorstQuery(
                query=name,
                country=name,
                metric=name,
                value=0,
                wanted=[name],
                retrieved=[Retrieved(f"{name} {place}", 0.5, relevant) for place, relevant in enumerate([True] * 6)],
            )
        ],
    )


def row(text: str, name: str) -> str:
    """The first table row of that name, its markup removed."""
    found = re.search(rf'<th scope="row">{re.escape(name)}</th>(.*?)</tr>', text, re.DOTALL)
    assert found
    return " ".join(re.sub("<[^>]*>", " ", found[1]).split())


def test_a_page_without_data_is_its_title_and_conditions() -> None:
    """Every section is optional, and so is each condition."""
    text = html(Page(title="A run", conditions={"run": "runs/a", "commit": None}))

    assert "<h1>A run</h1>" in text
    assert "<dt>run</dt><dd>runs/a</dd>" in text
    assert "commit" not in text
    assert "<h2" not in text


def test_the_sections_come_in_their_order() -> None:
    """From the result to its reasons to what went wrong."""
    expected = ["results", "training", "attention", "importance", "ablation", "radius", "slices", "worst-queries"]

    assert expected == [section.name for section in sections(full_page())]


@pytest.mark.parametrize(
    "page",
    [
        Page(title="", histories={"stopped": []}),
        Page(title="", attention=Attention(np.array([]), ["text"], np.zeros((0, 1)), np.array([]))),
        Page(title="", radius=RadiusStudy(*(np.array([]) for _ in range(6))), ablation=[AblationRow("a", {})]),
        Page(title="", importance=[], ablation=[], radius_findings=[], worst_queries=[]),
        Page(title="", evaluation=Evaluation(systems=[], gains=[], counts={})),
    ],
)
def test_empty_data_are_no_data(page: Page) -> None:
    """A heading above nothing helps nobody."""
    assert [] == sections(page)


def test_the_page_needs_nothing_but_itself() -> None:
    """No script, no address, nothing that is fetched; it says so to the browser too."""
    text = html(full_page())
    elements = Outline(text).elements
    links = [value for _, attrs in elements for key, value in attrs.items() if key in ("href", "src", "xlink:href")]

    assert not {tag for tag, _ in elements} & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    assert not [key for _, attrs in elements for key in attrs if key.startswith("on")]
    assert links
    assert all((link or "").startswith("#") for link in links)
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert {"#"} == set(re.findall(r"url\((.)", text))
    assert "default-src 'none'" in text


def test_whatever_stands_in_the_data_is_text() -> None:
    """A title that is a script is shown, never run, wherever it comes."""
    text = html(full_page(HOSTILE))
    outline = Outline(text)

    assert "script" not in {tag for tag, _ in outline.elements}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert HOSTILE not in text


def test_an_attribute_cannot_be_left() -> None:
    """A quotation mark ends no label."""
    elements = Outline(html(full_page('" onclick="alert(1)'))).elements

    assert not [attrs for _, attrs in elements if "onclick" in attrs]


def test_every_element_is_closed_and_every_id_is_there_once() -> None:
    """Well-formed, links within the page included."""
    outline = Outline(html(full_page()))
    ids = [attrs["id"] for _, attrs in outline.elements if "id" in attrs]
    links = {(attrs["href"] or "")[1:] for _, attrs in outline.elements if "href" in attrs}

    assert [] == outline.open
    assert len(ids) == len(set(ids))
    assert links <= set(ids)


def test_a_screen_reader_is_told_what_is_shown() -> None:
    """A language, headings that skip no level, a label at each figure, scopes at headings of tables."""
    elements = Outline(html(full_page())).elements
    levels = [int(tag[1]) for tag, _ in elements if tag in ("h1", "h2", "h3")]
    pictures = [attrs for _, attrs in elements if attrs.get("role") == "img"]

    assert "en" == elements[0][1]["lang"]
    assert 1 == levels[0] == levels.count(1)
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert 5 == len(pictures) == len([tag for tag, _ in elements if tag == "svg"])
    assert all(picture["aria-label"] for picture in pictures)
    assert all("scope" in attrs for tag, attrs in elements if tag == "th")


def test_the_headline_has_intervals_and_the_best_in_bold() -> None:
    """0.8 beats 0.7; the gain's interval holds 0 for ROC AUC only."""
    text = html(Page(title="", evaluation=evaluation()))

    assert "0.800 [0.790, 0.820] 0.700 [0.690, 0.720]" == row(text, "ROC AUC")
    assert "<strong>0.800</strong>" in text
    assert "<strong>0.700</strong>" not in text
    assert len(METRICS) - 1 == text.count("<strong>+0.100</strong>")
    assert "1,000 queries, batches of 256, 100 rounds of resampling" in text


def test_the_training_table_says_how_long_each_stage_took() -> None:
    """50 steps, 20 of them in stage 1; the best evaluation, 0.9, was at step 30; 90 seconds are 1.5 minutes."""
    text = html(Page(title="", histories={"run": history()}))

    assert "50 20 30 0.9000 30 1.5" == row(text, "run")


def test_attention_is_averaged_over_queries() -> None:
    """One query at 0.5 and three at 0.9 are 0.8."""
    assert "Here over all 4 queries: text 0.80, country 0.20." in html(full_page())


def test_slices_stand_by_metric_and_system() -> None:
    """Pairs, rated queries, and four metrics of two systems."""
    text = html(Page(title="", evaluation=evaluation()))

    assert f"1,234 7{' 0.800 0.700' * 4}" == row(text, "1-4")
    assert '<th scope="colgroup" colspan="2">ROC AUC</th>' in text


def test_a_worst_query_shows_five_results_and_their_ratings() -> None:
    """The sixth is left out; an unrated product is neither right nor wrong."""
    worst = WorstQuery(
        query="chair",
        country=None,
        metric="nDCG@10",
        value=0.125,
        wanted=["Oak chair"],
        retrieved=[Retrieved(f"Table {at}", 0.9, relevant) for at, relevant in enumerate([True, False, *[None] * 4])],
    )
    text = html(Page(title="", worst_queries=[worst]))

    assert "nDCG@10 0.125" in text
    assert "Oak chair" in text
    assert [1, 1, 3] == [text.count(f">{rating}</td>") for rating in ("✓ relevant", "✗ not relevant", "not rated")]
    assert "Table 5" not in text


def test_sentences_alone_make_a_radius_section() -> None:
    """Findings may come without the curve."""
    text = html(Page(title="", radius_findings=["Nothing lies above 0.9."]))

    assert "<p>Nothing lies above 0.9.</p>" in text
    assert "<svg" not in text


def test_the_page_is_written_whole_and_again_the_same(tmp_path: Path) -> None:
    """In place of the one before, with nothing left beside it."""
    path = tmp_path / "report.html"
    path.write_text("the one before")

    write_page(path, full_page())
    first = path.read_bytes()
    write_page(path, full_page())

    assert first == path.read_bytes()
    assert first.startswith(b"<!doctype html>")
    assert [path] == list(tmp_path.iterdir())
