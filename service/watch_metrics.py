"""The sampler's report as metrics, read by whichever worker is scraped."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.watch_report import WatchReport, load_report

AT: Final = "10"  # the k of ann_recall@k
_EMPTY: Final = WatchReport(
    recall={}, offline={}, target={}, read={}, quantisation_error={}, list_imbalance=None, empty_lists=None
)


class WatchCollector(Collector):
    """The report as metrics; without one they have no values.

    Args:
        folder: where the sampler saves it; None: nobody samples.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        report = None if self._folder is None else load_report(self._folder)
        return _families(report or _EMPTY)


def _families(report: WatchReport) -> Iterable[Metric]:
    found = report.recall.items()
    recall = GaugeMetricFamily(
        "q2s_ann_recall", "Share of the exact nearest that live searches found", labels=["effort", "k"]
    )
    for effort, figures in found:
        recall.add_metric([effort, AT], figures.mean)
    yield recall
    interval = GaugeMetricFamily("q2s_ann_recall_interval", "Its 95 % interval", labels=["effort", "bound"])
    for effort, figures in found:
        interval.add_metric([effort, "low"], figures.low)
        interval.add_metric([effort, "high"], figures.high)
    yield interval
    samples = {effort: figures.samples for effort, figures in found}
    yield _gauge("q2s_ann_recall_samples", "Samples that it is the mean of", "effort", samples)
    yield _gauge("q2s_ann_recall_offline", "The same on golden queries, by tuning", "effort", report.offline)
    yield _gauge("q2s_ann_recall_target", "What tuning promised of it", "effort", report.target)
    yield _gauge(
        "q2s_quantisation_error", "Share of the vectors lost in the codes", "vectors", report.quantisation_error
    )
    imbalance = {} if report.list_imbalance is None else {"": report.list_imbalance}
    yield _gauge("q2s_list_imbalance", "Codes scanned over those of equal lists", None, imbalance)
    empty = {} if report.empty_lists is None else {"": report.empty_lists}
    yield _gauge("q2s_empty_lists", "Lists that hold nothing", None, empty)
    read = CounterMetricFamily("q2s_watch_read", "Samples that the sampler read", labels=["outcome"])
    for outcome, count in report.read.items():
        read.add_metric([outcome], count)
    yield read


def _gauge(name: str, told: str, label: str | None, values: dict[str, float] | dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, told, labels=[] if label is None else [label])
    for of, value in values.items():
        family.add_metric([] if label is None else [of], value)
    return family
