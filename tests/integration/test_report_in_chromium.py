"""A run's report.html in a real browser: offline and without a complaint, with everything on it that it promises."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from models.config import load_config
from models.data.schema import Dataset
from models.evaluation.ablation import ADAPTIVE, TABLES_3_AND_4, AblationResult, RowResult, Spread, Study
from models.evaluation.evaluate import REPORT_FILE, evaluate_run
from models.evaluation.plots import SERIES
from models.evaluation.retrieval import METRICS
from models.training.run import record
from models.training.train import train
from tests.helpers import SMALL_CONFIG

playwright = pytest.importorskip("playwright.sync_api", reason="playwright, of the extra dev, is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian: apt-get install chromium)")

QUIET = (  # a root without a GPU, and nothing that a browser does for itself
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
VIEWS = {"wide": (1280, "light"), "narrow": (400, "light"), "dark": (1280, "dark")}  # width and colours
PICTURES = ("curves", "attention", "importance", "ablation", "sensitivity-margin", "sensitivity-temperature", "radius")
TWO_STAGES = (
    "curriculum = {epochs = 2, patience = 4}\n"
    + SMALL_CONFIG.replace("curriculum = false", "")
    .replace("epochs = 2", "epochs = 3", 1)
    .replace("evaluations_per_epoch = 1", "evaluations_per_epoch = 2\npatience = 5")
    .replace("least_gain = 0.0", "least_gain = 1.0")  # no gain is enough: converged at the sixth look
)

CONTRASTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const luminance = colour => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(
      value => value <= 10 ? value / 3294 : ((value / 255 + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = luminance(getComputedStyle(document.body).backgroundColor);
  const words = [...document.querySelectorAll('h1, h2, h3, p, dt, dd, th, td, small, figcaption, svg text')];
  return words.filter(word => word.textContent.trim()).map(word => {
    const style = getComputedStyle(word);
    const ink = luminance(word.closest('svg') ? style.fill : style.color);
    return {text: word.textContent, ratio: (Math.max(ink, ground) + .05) / (Math.min(ink, ground) + .05), ground};
  });
}"""  # of each text with the page's ground, as WCAG 2 defines it


class Opened(NamedTuple):
    """The report in a browser, and what the browser said of it."""

    page: Any  # playwright's
    complaints: list[str]
    requests: list[str]
    view: str

    def section(self, name: str) -> Any:
        return self.page.locator(f"section#{name}")

    def shows(self, locator: Any) -> bool:
        """Whether each of what it finds, at least one, takes up room and is not hidden."""
        found = locator.all()
        return bool(found) and all(each.is_visible() for each in found)


def result(study: Study) -> AblationResult:
    """A result with every row of the study, the figures made up."""
    rows = [
        RowResult(
            name=row.name,
            over=row.over,
            paper=row.paper,
            family=row.family,
            value=row.value,
            metrics={metric: Spread(0.6 + place / 50, 0.01, 0.59, 0.9) for metric in METRICS},
            gains={},
            verdict="no clear effect" if row.over else "",
        )
        for place, row in enumerate(study.rows)
    ]
    return AblationResult(title=study.title, conditions={}, rows=rows)


@pytest.fixture(scope="module")
def dataset(dataset_dir: Path) -> Dataset:
    return Dataset.open(dataset_dir)


@pytest.fixture(scope="module")
def report(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run of two stages, evaluated with the results of both studies at hand."""
    folder = tmp_path_factory.mktemp("report")
    config = folder / "small.toml"
    config.write_text(TWO_STAGES)
    run = train(dataset, folder / "things", load_config(path=config))
    evaluate_run(run, dataset, ablation=result(TABLES_3_AND_4), sweep=result(ADAPTIVE), commit="0" * 40)
    return run.path / REPORT_FILE


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=VIEWS)
def opened(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[Opened]:
    """The report as a file, without a network, in each of the views."""
    width, colours = VIEWS[request.param]
    context = browser.new_context(offline=True, color_scheme=colours, viewport={"width": width, "height": 900})
    page, complaints, requests = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda failed: complaints.append(f"{failed.url}: {failed.failure}"))
    page.on("request", lambda asked: requests.append(asked.url))
    page.goto(report.as_uri(), wait_until="networkidle")
    yield Opened(page, complaints, requests, request.param)
    context.close()


def test_it_opens_offline_without_a_complaint(opened: Opened, report: Path) -> None:
    """Nothing on the console, no error, and nothing but the file itself is asked for, whoever scrolls to its end."""
    opened.page.keyboard.press("End")
    opened.page.wait_for_load_state("networkidle")

    assert [] == opened.complaints
    assert report.as_uri() == opened.requests[0]
    assert all(url.startswith(("file:", "data:")) for url in opened.requests)
    assert "que2search: things" == opened.page.title()


def test_each_section_has_something_to_see(opened: Opened) -> None:
    """The links at the top lead to them in their order."""
    links = [link.get_attribute("href")[1:] for link in opened.page.locator("nav a").all()]

    assert ["results", "training", "attention", "importance", "ablation", "sensitivity"] == links[:6]
    assert ["radius", "slices", "worst-queries"] == links[6:]
    for name in links:
        assert opened.shows(opened.section(name).get_by_role("heading").first)
        assert opened.shows(opened.section(name).locator("svg, table"))


def test_the_curves_show_where_a_stage_ends(opened: Opened, report: Path) -> None:
    """Loss and ROC AUC as lines, and across both a dotted one with its name beside it, between the stages' points."""
    training = opened.section("training")
    history = record(report.parent).position.history
    curve = f'path[style*="stroke: {SERIES[0]}"]'
    losses, roc_aucs = (training.locator(f"#curves-axes_{at} {curve}:not([style*=dash])") for at in (1, 2))
    boundaries = [training.locator(f"#curves-axes_{at} {curve}[style*=dash]").bounding_box() for at in (1, 2)]
    label = training.get_by_text("stage 2", exact=True).and_(training.locator("svg text")).bounding_box()

    assert {1, 2} == {seen.stage for seen in history}
    for words in ("loss", "validation ROC AUC", "step"):
        assert opened.shows(training.locator("svg text").get_by_text(words, exact=True))
    assert opened.shows(losses)
    assert opened.shows(roc_aucs)
    before, after = (losses.nth(stage).bounding_box() for stage in (0, 1))
    points = training.locator("#curves-axes_2 use").all()  # a ring for the best is among them
    assert len(history) < len(points)
    for boundary, curves in zip(boundaries, (losses, roc_aucs), strict=True):
        assert boundary["height"] >= curves.first.bounding_box()["height"]
        assert boundary["x"] == pytest.approx(before["x"] + before["width"], abs=2)
        assert boundary["x"] < after["x"]
    assert 0 < label["x"] - boundaries[1]["x"] < 12
    assert label["width"] > 20
    assert label["height"] > 5


def test_attention_is_drawn_by_query_length(opened: Opened) -> None:
    """A line with its name for each channel of the query tower, over the counts of queries."""
    attention = opened.section("attention")

    assert opened.shows(attention.locator('#attention-axes_1 path[style*="stroke: #2f7fc1"]'))
    assert opened.shows(attention.locator('#attention-axes_1 path[style*="stroke: #d2691e"]'))
    assert opened.shows(attention.locator("#attention-axes_2 path[style*=fill]"))
    for words in ("text", "trigram", "country", "attention weight", "query length, characters", "queries"):
        assert opened.shows(attention.locator("svg text").get_by_text(words, exact=True))


def test_the_importance_of_each_towers_channels_is_drawn(opened: Opened) -> None:
    """A panel of bars and a part of the table for both towers."""
    importance = opened.section("importance")
    table = importance.get_by_role("table")

    for at, tower in enumerate(("query", "document"), 1):
        panel = importance.locator(f"#importance-axes_{at}")
        channels = [text.text_content() for text in panel.locator("g[id*=ytick] text").all()]
        assert tower in importance.locator("svg").text_content()
        assert opened.shows(table.get_by_role("rowheader", name=tower))
        assert len(channels) >= 3
        for channel in channels:
            assert opened.shows(table.get_by_role("rowheader", name=channel, exact=True))
        for colour in SERIES[:2]:
            assert len(channels) == panel.locator(f'path[style*="fill: {colour}"]').count()


def test_the_ablation_has_all_its_rows(opened: Opened) -> None:
    """By name, in the table and in the picture, with the figures that were measured."""
    ablation = opened.section("ablation")
    rows = ablation.get_by_role("table", name="Variants").locator("tbody tr").all()
    names = [row.name for row in TABLES_3_AND_4.rows]

    assert names == [row.get_by_role("rowheader").text_content() for row in rows]
    assert all(row.is_visible() for row in rows)
    assert all("± 0.010" in row.text_content() for row in rows)
    assert names == [text.text_content() for text in ablation.locator("#ablation-axes_1 g[id*=ytick] text").all()]
    assert opened.shows(ablation.locator("#ablation-axes_1 g[id*=ytick] text"))


def test_the_sweep_is_a_picture_for_each_hyper_parameter(opened: Opened) -> None:
    """The fixed values as a curve, and the adaptive variants by name."""
    sensitivity = opened.section("sensitivity")

    assert 2 == sensitivity.locator("svg").count()
    for words in ("margin", "temperature", "adaptive margin", "adaptive temperature"):
        assert opened.shows(sensitivity.locator("svg text").get_by_text(words, exact=True))


def test_the_worst_queries_stand_with_what_was_retrieved(opened: Opened, dataset: Dataset) -> None:
    """The query, what was wanted, and five titles of products with a score and a rating each."""
    titles = set(dataset.products(["title"])["title"])
    asked = set(dataset.judgements()["query"])
    articles = opened.section("worst-queries").get_by_role("article").all()

    assert 10 == len(articles)
    for article in articles:
        retrieved = article.get_by_role("rowheader").locator("bdi")
        assert article.get_by_role("heading").text_content() in asked
        assert set(article.locator("p bdi").all_text_contents()) & titles
        assert 5 == retrieved.count()
        assert set(retrieved.all_text_contents()) <= titles
        assert opened.shows(article.locator("h3, p, th, td"))
        for row in article.locator("tbody tr").all():
            assert re.search(r"\d\.\d{3}\s*(✓ relevant|✗ not relevant|not rated)", row.text_content())


def test_nothing_runs_over(opened: Opened) -> None:
    """Not the page over its width: what is wider scrolls within it. Nor a text over its picture's edge."""
    page = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    needed, there = opened.page.evaluate(page)
    outside = """pictures => pictures.flatMap(picture => {
      const edge = picture.getBoundingClientRect();
      return [...picture.querySelectorAll('text')].filter(text => {
        const box = text.getBoundingClientRect();
        return box.left < edge.left - 1 || box.right > edge.right + 1
            || box.top < edge.top - 1 || box.bottom > edge.bottom + 1;
      }).map(text => text.textContent);
    })"""

    assert needed <= there
    assert len(PICTURES) == opened.page.locator("svg").count()
    assert [] == opened.page.locator("svg").evaluate_all(outside)


def test_every_word_can_be_read(opened: Opened) -> None:
    """On a dark ground where one is preferred; 4.5 to 1 for text, 3 to 1 in pictures, whose lines have their colours."""
    words = opened.page.evaluate(CONTRASTS)
    weak = [word for word in words if word["ratio"] < 3]

    assert words
    assert [] == weak
    assert (words[0]["ground"] < 0.05) == (opened.view == "dark")
