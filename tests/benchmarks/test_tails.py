from contextlib import closing
from pathlib import Path

import numpy as np
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from benchmarks.histograms import encoded
from benchmarks.tails import TailResult, curve_of
from benchmarks.waterfall import SearchResult


def test_a_histogram_survives_its_text() -> None:
    """A hundred calls of 1 to 100 us: the median is 50, the largest 100."""
    decoded = HdrHistogram.decode(encoded(np.arange(1.0, 101.0)))

    assert (100, 50, 100) == (
        decoded.total_count,
        decoded.get_value_at_percentile(50),
        decoded.get_value_at_percentile(100),
    )


def test_a_curve_ends_where_there_are_no_calls_beyond() -> None:
    """Ten calls tell nothing beyond the 90th percentile."""
    curve = curve_of(HdrHistogram.decode(encoded(np.arange(1.0, 11.0))))

    assert (0.0, 1) == curve[0]
    assert 88 < curve[-1][0] <= 90


def test_each_row_has_its_files(tmp_path: Path) -> None:
    """HdrHistogram's own reader finds the calls of a log again; percentiles are in milliseconds."""
    result = TailResult(
        bench="x",
        title="t",
        rows=[{"name": "first page, 50 %", "p50_us": 2000.0, "p99_us": 2000.0}],
        conditions={},
        histograms={"first page, 50 %": encoded(np.full(3, 2000.0))},
    )

    names = {path.name for path in result.save(tmp_path)}

    files = {f"x-first-page-50.{ending}" for ending in ("hgrm", "hlog")}
    assert {"x.json", "x.md", "x.png", "x-percentiles.png", *files} == names
    with closing(HistogramLogReader(str(tmp_path / "x-first-page-50.hlog"), HdrHistogram(1, 10_000_000, 4))) as log:
        assert 3 == log.get_next_interval_histogram().total_count
    assert "2.0000" in (tmp_path / "x-first-page-50.hgrm").read_text()


def test_the_waterfall_stacks_the_stages_in_their_order() -> None:
    """20 us, then 180, then 100 of the rest; a row without a rest is no page."""
    page = {"name": "first page", "featurise_us": 20.0, "query_tower_us": 180.0, "rest_us": 100.0}
    rows = [page, {"name": "featuriser alone"}]
    result = SearchResult(bench="search", title="t", rows=rows, conditions={}, histograms={})

    axes = result.waterfall().axes[0]

    assert ["first page"] == [label.get_text() for label in axes.get_yticklabels()]
    assert [(0, 20), (20, 180), (200, 100)] == [(bar.get_x(), bar.get_width()) for bar in axes.patches]
    assert ["featurise", "query_tower", "rest"] == [text.get_text() for text in axes.get_legend().get_texts()]
