"""The Prometheus metrics of DESIGN.md 8, and their text over all workers.

With several workers each writes its values into files of the directory PROMETHEUS_MULTIPROC_DIR, which the
supervisor makes fresh before it starts them; whichever worker is scraped sums the files.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"  # the client library's own variable, read when it is imported
BUCKETS = (  # seconds, 50 us to 50 ms, finest around the budget of 1.5 ms
    50e-6, 100e-6, 150e-6, 200e-6, 300e-6, 400e-6, 500e-6, 650e-6, 800e-6,
    1e-3, 1.25e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 7.5e-3, 10e-3, 15e-3, 25e-3, 50e-3,
)  # fmt: skip
VECTOR = "vector"  # the mode of every search so far


class Metrics:
    """What one worker counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._request_seconds = Histogram(
            "q2s_request_seconds",
            "Time of an answered search, from pick-up to the answer's bytes",
            ["page", "effort", "mode"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._stage_seconds = Histogram(
            "q2s_stage_seconds", "Time of one stage of a search", ["stage"], buckets=BUCKETS, registry=self._registry
        )
        self._effort = Counter(
            "q2s_effort", "Answered searches by effort", ["effort", "degraded"], registry=self._registry
        )
        self._release = Gauge(
            "q2s_release_info",
            "The release and generation that answer, as labels; the value is 1",
            ["release", "generation", "engine"],
            multiprocess_mode="livemax",
            registry=self._registry,
        )

    def searched(self, *, first_page: bool, effort: str, degraded: bool, stages_ns: dict[str, int]) -> None:
        """Count one answered search. `stages_ns` holds `total` and each stage."""
        for stage, ns in stages_ns.items():
            if stage == "total":
                page = "first" if first_page else "later"
                self._request_seconds.labels(page, effort, VECTOR).observe(ns / 1e9)
            else:
                self._stage_seconds.labels(stage).observe(ns / 1e9)
        self._effort.labels(effort, "true" if degraded else "false").inc()

    def serving(self, *, release: str, generation: int, engine: str) -> None:
        self._release.labels(release, str(generation), engine).set(1)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format, summed over the workers."""
        if MULTIPROCESS_DIR not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # it ships no types
        return generate_latest(together)

    def close(self) -> None:
        """Take this worker's gauges out of the sum; its counts stay."""
        if MULTIPROCESS_DIR in os.environ:
            mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]  # it ships no types
