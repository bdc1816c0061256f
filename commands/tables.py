"""The tables of `build` and `tune`: candidate indexes, operating points, strata, radius."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from index.choose import Choice
    from index.intervals import Interval
    from index.operating_points import OperatingPoints
    from index.radius import Radius, RadiusRow
    from index.strata import StratumRecall


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


def figure(value: float | None) -> str:
    """Four digits; a dash where nothing was measured."""
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def with_span(value: float | None, interval: "Interval | None") -> str:
    """A share or a difference of shares, and where 95 % of the resampled ones lie."""
    if value is None or interval is None:
        return figure(value)
    return f"{value:.3f} ({interval.low:.3f}-{interval.high:.3f})"
