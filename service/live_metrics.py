"""How far writes have come, as metrics read when somebody asks: by the worker that answers, of its own view."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from index.errors import SearchIndexError

if TYPE_CHECKING:
    from service.pipeline import Pipeline  # whose counts these are


class LiveCollector(Collector):
    """Gauges of what waits, what failed, and what the worker carries along; without a pipeline they have no values.

    Args:
        served: what the worker serves; None: nothing.
    """

    def __init__(self, served: Callable[[], "Pipeline | None"]) -> None:
        self._served = served

    def collect(self) -> Iterable[Metric]:
        pipeline = self._served()
        values = {} if pipeline is None else dict(_values(pipeline))
        for name, told in _TOLD.items():
            family = GaugeMetricFamily(name, told)
            if name in values:
                family.add_metric([], values[name])
            yield family


_TOLD = {
    "q2s_backlog_products": "Products that wait to be embedded",
    "q2s_backlog_age_seconds": "How long the first of them has waited",
    "q2s_failed_products": "Products set aside, since they cannot be embedded",
    "q2s_unapplied_changes": "Entries of the log that searches of the answering worker do not see yet",
    "q2s_delta_rows": "Products in memory beside the generation",
    "q2s_dead_rows": "Of the generation and of those, rows that were deleted or written anew",
}


def _values(pipeline: "Pipeline") -> Iterator[tuple[str, float]]:
    catalogue, load = pipeline.catalogue, pipeline.live.load
    yield "q2s_delta_rows", load.delta
    yield "q2s_dead_rows", load.superseded + load.tombstones
    try:
        backlog = catalogue.backlog
        yield "q2s_backlog_products", backlog.count
        yield "q2s_backlog_age_seconds", backlog.age_s
        yield "q2s_failed_products", catalogue.failed_count
        yield "q2s_unapplied_changes", catalogue.sequence - pipeline.live.applied
    except SearchIndexError:  # an older format that is open for reading: it has no log
        return
