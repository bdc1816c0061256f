"""The Prometheus metrics of DESIGN.md 8, and their text over all workers.

With several workers each writes its values into files of the directory PROMETHEUS_MULTIPROC_DIR, which the
supervisor makes fresh before it starts them; whichever worker is scraped sums the files.
"""

import os
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from index.operating_points import EFFORTS
from service.clock import STAGES, TOTAL
from service.memory import MULTIPROCESS_DIR, MemoryCollector

BUCKETS = (  # seconds, 50 us to 50 ms, finest around the budget of 1.5 ms
    50e-6, 100e-6, 150e-6, 200e-6, 300e-6, 400e-6, 500e-6, 650e-6, 800e-6,
    1e-3, 1.25e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 7.5e-3, 10e-3, 15e-3, 25e-3, 50e-3,
)  # fmt: skip
FIRST, LATER = "first", "later"
VECTOR = "vector"  # the mode of every search so far
PROBLEMS = (400, 405, 410, 413, 422, 429, 500, 503, 504)  # what a search is answered with instead of hits


class Metrics:
    """What one worker counts. Every series exists from the start, at zero: looking one up costs as much as counting."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        requests = Histogram(
            "q2s_request_seconds",
            "Time of an answered search, from pick-up to the answer's bytes",
            ["page", "effort", "mode"],
            buckets=BUCKETS,
            registry=registry,
        )
        stages = Histogram(
            "q2s_stage_seconds", "Time of one stage of a search", ["stage"], buckets=BUCKETS, registry=registry
        )
        efforts = Counter("q2s_effort", "Answered searches by effort", ["effort", "degraded"], registry=registry)
        self._requests = {
            (page, effort): requests.labels(page, effort, VECTOR) for page in (FIRST, LATER) for effort in EFFORTS
        }
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._efforts = {
            (effort, degraded): efforts.labels(effort, str(degraded).lower())
            for effort in EFFORTS
            for degraded in (False, True)
        }
        self._problems = Counter(
            "q2s_problems", "Searches answered with a problem document", ["status"], registry=registry
        )
        for status in PROBLEMS:
            self._problems.labels(status)
        self._release = Gauge(
            "q2s_release_info",
            "The release and generation that answer, as labels; the value is 1",
            ["release", "generation", "engine"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        registry.register(MemoryCollector())

    def searched(self, *, first_page: bool, effort: str, degraded: bool, stages_ns: Mapping[str, int]) -> None:
        """Count one answered search. `stages_ns` holds `total` and each stage."""
        self._requests[FIRST if first_page else LATER, effort].observe(stages_ns[TOTAL] / 1e9)
        for stage, histogram in self._stages.items():
            histogram.observe(stages_ns[stage] / 1e9)
        self._efforts[effort, degraded].inc()

    def problem(self, status: int) -> None:
        """Count one search that got a problem document instead of hits."""
        self._problems.labels(status).inc()

    def serving(self, *, release: str, generation: int, engine: str) -> None:
        self._release.labels(release, str(generation), engine).set(1)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format, summed over the workers."""
        if MULTIPROCESS_DIR not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # it ships no types
        together.register(MemoryCollector())
        return generate_latest(together)

    def close(self) -> None:
        """Take this worker's gauges out of the sum; its counts stay."""
        if MULTIPROCESS_DIR in os.environ:
            mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]  # it ships no types
