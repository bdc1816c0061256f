"""A run's report.html in a real browser: offline and without a complaint, with everything on it that it promises."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from models.config import load_config
from models.data.schema import Dataset
from models.evaluation.ablation import ADAPTIVE, TABLES_3_AND_4, AblationResult, RowResult, Spread, Study
from models.evaluation.evaluate import REPORT_FILE, evaluate_run
from models.evaluation.plots import SERIES
from models.evaluation.retrieval import METRICS
from models.sections import DOCUMENT_CHANNELS, QUERY_CHANNELS
from models.training.run import record
from models.training.train import train
from tests.helpers import SMALL_CONFIG

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright, of the extra dev, is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian: apt-get install chromium)")

QUIET = (  # a root without a GPU, and nothing that a browser does for itself
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
VIEWS = {"wide": (1280, "light"), "narrow": (400, "light"), "dark": (1280, "dark")}  # width and colours
TWO_STAGES = (
    "curriculum = {epochs = 2, patience = 4}\n"
    + SMALL_CONFIG.replace("curriculum = false", "")
    .replace("epochs = 2", "epochs = 3", 1)
    .replace("evaluations_per_epoch = 1", "evaluations_per_epoch = 2\npatience = 5")
    .replace("least_gain = 0.0", "least_gain = 1.0")  # no gain is enough: converged at the sixth look
)

SHOWN = """elements => elements.length > 0 && elements.every(element => {
  const box = element.getBoundingClientRect();
  return box.width > 0 && box.height > 0 && element.checkVisibility({opacityProperty: true, visibilityProperty: true});
})"""
OVER_THE_EDGE = """pictures => pictures.flatMap(picture => {
  const edge = picture.getBoundingClientRect();
  return [...picture.querySelectorAll('text')].filter(text => {
    const box = text.getBoundingClientRect();
    return box.left < edge.left - 1 || box.right > edge.right + 1
        || box.top < edge.top - 1 || box.bottom > edge.bottom + 1;
  }).map(text => text.textContent);
})"""
# Of each text with the page's ground, as WCAG 2 defines it. A canvas knows every way to write a colour.
CONTRASTS = """words => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const luminance = colour => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(
      value => value <= 10 ? value / 255 / 12.92 : ((value / 255 + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = luminance(getComputedStyle(document.body).backgroundColor);
  return words.filter(word => word.textContent.trim()).map(word => {
    const ink = luminance(getComputedStyle(word)[word.closest('svg') ? 'fill' : 'color']);
    return [word.textContent, (Math.max(ink, ground) + .05) / (Math.min(ink, ground) + .05)];
  });
}"""


class Opened(NamedTuple):
    """The report in a browser, and what the browser said of it."""

    page: "Page"
    complaints: list[str]
    requests: list[str]

    def section(self, name: str) -> "Locator":
        return self.page.locator(f"section#{name}")


def shows(found: "Locator") -> bool:
    """Whether there is something, and all of it takes up room and is not hidden."""
    shown: bool = found.evaluate_all(SHOWN)
    return shown


def lines(picture: "Locator", colour: str) -> "Locator":
    """The curves of a colour in a picture's axes; not the legend's, and none that is dashed or dotted."""
    return picture.locator(f'g[id*=line2d] > path[clip-path][style*="stroke: {colour}"]:not([style*=dash])')


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
def browser() -> "Iterator[Browser]":
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=VIEWS)
def opened(request: pytest.FixtureRequest, browser: "Browser", report: Path) -> Iterator[Opened]:
    """The report as a file, without a network, in each of the views."""
    width, colours = VIEWS[request.param]
    context = browser.new_context(offline=True, color_scheme=colours, viewport={"width": width, "height": 900})
    page, complaints, requests = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda failed: complaints.append(f"{failed.url}: {failed.failure}"))
    page.on("request", lambda asked: requests.append(asked.url))
    page.goto(report.as_uri(), wait_until="networkidle")
    yield Opened(page, complaints, requests)
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
        assert shows(opened.section(name).get_by_role("heading").first)
        assert shows(opened.section(name).locator("svg, table"))


def test_the_curves_show_where_a_stage_ends(opened: Opened, report: Path) -> None:
    """Loss and ROC AUC as lines, and across both a dotted one where the first stage's loss ends, with its name."""
    training = opened.section("training")
    loss, roc_auc = training.locator("#curves-axes_1"), training.locator("#curves-axes_2")
    first, second = (lines(loss, SERIES[0]).nth(stage).bounding_box() for stage in (0, 1))
    label = training.locator("svg text").get_by_text("stage 2", exact=True)

    assert {1, 2} == {seen.stage for seen in record(report.parent).position.history}
    for words in ("loss", "validation ROC AUC", "step"):
        assert shows(training.locator("svg text").get_by_text(words, exact=True))
    assert shows(lines(loss, SERIES[0]))
    assert shows(lines(roc_auc, SERIES[0]))
    assert shows(label)
    for axes in (loss, roc_auc):
        boundary = axes.locator(f'path[clip-path][style*="dasharray"][style*="stroke: {SERIES[0]}"]').bounding_box()
        assert boundary["height"] > first["height"]
        assert boundary["x"] == pytest.approx(first["x"] + first["width"], abs=5)  # boxes hold the strokes' widths
        assert boundary["x"] < second["x"]
        assert 0 < label.bounding_box()["x"] - boundary["x"] < 12


def test_attention_is_drawn_by_query_length(opened: Opened) -> None:
    """A line with its name for each channel of the query tower, over the counts of queries."""
    attention = opened.section("attention")

    for colour, channel in zip(SERIES, ("text", "trigram", "country"), strict=False):
        assert shows(lines(attention.locator("#attention-axes_1"), colour))
        assert shows(attention.locator("svg text").get_by_text(channel, exact=True))
    assert shows(attention.locator(f'#attention-axes_2 path[style*="fill: {SERIES[-1]}"]'))
    for words in ("attention weight", "query length, characters", "queries"):
        assert shows(attention.locator("svg text").get_by_text(words, exact=True))


def test_the_importance_of_each_towers_channels_is_drawn(opened: Opened) -> None:
    """A panel of bars and a part of the table for both towers."""
    importance = opened.section("importance")

    for at, (tower, known) in enumerate((("query", QUERY_CHANNELS), ("document", DOCUMENT_CHANNELS)), 1):
        panel = importance.locator(f"#importance-axes_{at}")
        assert shows(panel.get_by_text(tower, exact=True))
        assert shows(importance.get_by_role("table").get_by_text(tower, exact=True))
        for channel in known:
            assert shows(panel.get_by_text(channel, exact=True))
            assert shows(importance.get_by_role("rowheader", name=channel, exact=True))
        for colour in SERIES[:2]:
            bars = panel.locator(f'path[clip-path][style*="fill: {colour}"]')
            assert len(known) == bars.count()
            assert shows(bars)


def test_the_ablation_has_all_its_rows(opened: Opened) -> None:
    """By name, in the table and in the picture, with their figures."""
    ablation = opened.section("ablation")
    rows = ablation.get_by_role("table", name="Variants").locator("tbody tr")
    ticks = ablation.locator("#ablation-axes_1 g[id*=ytick] text")
    names = [row.name for row in TABLES_3_AND_4.rows]

    assert names == rows.get_by_role("rowheader").all_text_contents()
    assert names == ticks.all_text_contents()
    assert all("± 0.010" in text for text in rows.all_text_contents())
    assert shows(rows.locator("th, td"))
    assert shows(ticks)


def test_the_sweep_is_a_picture_for_each_hyper_parameter(opened: Opened) -> None:
    """The fixed values as a curve, and the adaptive variants by name."""
    pictures = opened.section("sensitivity").locator("svg")

    assert 2 == pictures.count()
    assert 2 == lines(pictures, SERIES[0]).count()
    assert shows(lines(pictures, SERIES[0]))
    for words in ("margin", "temperature", "adaptive margin", "adaptive temperature"):
        assert shows(pictures.locator("text").get_by_text(words, exact=True))


def test_the_worst_queries_stand_with_what_was_retrieved(opened: Opened, dataset: Dataset) -> None:
    """The query, what was wanted, and five titles of products with a score and a rating each, on a narrow page too."""
    titles = set(dataset.products(["title"])["title"])
    articles = opened.section("worst-queries").get_by_role("article")

    assert 10 == articles.count()
    assert set(articles.get_by_role("heading").all_text_contents()) <= set(dataset.judgements()["query"])
    assert shows(articles.locator("h3, p, p bdi, th, th bdi, td"))
    for article in articles.all():
        rows = article.locator("tbody tr")
        assert set(article.locator("p bdi").all_text_contents()) <= titles
        assert 5 == rows.count()
        assert set(rows.locator("bdi").all_text_contents()) <= titles
        for row in rows.all_text_contents():
            assert re.search(r"-?\d\.\d{3}(✓ relevant|✗ not relevant|not rated)$", row.strip())
    assert articles.locator(".scroll").evaluate_all("all => all.every(one => one.scrollWidth <= one.clientWidth)")


def test_nothing_runs_over(opened: Opened) -> None:
    """Not the page over its width: what is wider scrolls within it. Nor a text over its picture's edge."""
    page = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    needed, there = opened.page.evaluate(page)

    assert needed <= there
    assert 7 == opened.page.locator("svg").count()
    assert [] == opened.page.locator("svg").evaluate_all(OVER_THE_EDGE)


def test_every_word_can_be_read(opened: Opened) -> None:
    """Light on dark where that is preferred: 4.5 to 1, and 3 to 1 in pictures, where lines lend texts their colours."""
    for words, least in (("h1, h2, h3, p, li, a, dt, dd, th, td, small, caption, figcaption", 4.5), ("svg text", 3.0)):
        contrasts = opened.page.locator(words).evaluate_all(CONTRASTS)
        assert contrasts
        assert [] == [(word, contrast) for word, contrast in contrasts if contrast < least]


def test_a_dark_page_is_dark(opened: Opened) -> None:
    """The reader's preference decides."""
    dark = opened.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    ground = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert ("rgb(21, 24, 27)" if dark else "rgb(255, 255, 255)") == ground
