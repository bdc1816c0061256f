"""The Prometheus metrics of DESIGN.md 8, and their text over all workers.

With several workers each writes its values into files of the directory PROMETHEUS_MULTIPROC_DIR, which the
supervisor makes fresh before it starts them; whichever worker is scraped sums the files.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from index.operating_points import EFFORTS
from service.clock import STAGES, TOTAL
from service.live_metrics import LiveCollector
from service.memory import MULTIPROCESS_DIR, MemoryCollector
from service.recall_sample import EXACT
from service.schemas import MODES
from service.watch_metrics import WatchCollector

if TYPE_CHECKING:
    from service.pipeline import Answer, Pipeline  # whose parts count into these metrics

BUCKETS = (  # seconds, 50 us to 50 ms, finest around the budget of 1.5 ms
    50e-6, 100e-6, 150e-6, 200e-6, 300e-6, 400e-6, 500e-6, 650e-6, 800e-6,
    1e-3, 1.25e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 7.5e-3, 10e-3, 15e-3, 25e-3, 50e-3,
)  # fmt: skip
FIRST, LATER = "first", "later"
SENT, DROPPED = "sent", "dropped"
REFUSED, SLOWED = "refused", "slowed"
HIT, MISS = "hit", "miss"
PROBLEMS = (400, 405, 410, 413, 422, 429, 500, 503, 504)  # what a search is answered with instead of hits


class Metrics:
    """What one worker counts. Every series exists from the start, at zero: looking one up costs as much as counting.

    Args:
        watch: the folder where the sampler tells what it found; None where there is no sampler.
        served: what this worker serves when it is scraped; None: nothing.
    """

    def __init__(self, *, watch: Path | None = None, served: Callable[[], "Pipeline | None"] = lambda: None) -> None:
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
            (page, effort, mode): requests.labels(page, effort, mode)
            for page in (FIRST, LATER)
            for effort in EFFORTS
            for mode in MODES
        }
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._efforts = {
            (effort, degraded): efforts.labels(effort, str(degraded).lower())
            for effort in EFFORTS
            for degraded in (False, True)
        }
        query_vectors = Counter(
            "q2s_query_vectors", "Searches by whether the query's vector was kept", ["outcome"], registry=registry
        )
        self._query_vectors = {known: query_vectors.labels(HIT if known else MISS) for known in (False, True)}
        self._dropped = Counter(
            "q2s_dropped", "Searches that were not begun, since their clients had hung up", registry=registry
        )
        self._problems = Counter(
            "q2s_problems", "Searches answered with a problem document", ["status"], registry=registry
        )
        for status in PROBLEMS:
            self._problems.labels(status)
        limited = Counter(
            "q2s_limited_writes", "Writes that came faster than their key may write", ["outcome"], registry=registry
        )
        self._limited = {outcome: limited.labels(outcome) for outcome in (REFUSED, SLOWED)}
        samples = Counter(
            "q2s_watch_samples", "Searches picked for the sampler", ["effort", "outcome"], registry=registry
        )
        self._samples = {
            (effort, sent): samples.labels(effort, SENT if sent else DROPPED)
            for effort in EFFORTS
            if effort != EXACT
            for sent in (False, True)
        }
        self._release = Gauge(
            "q2s_release_info",
            "The release and generation that answer, as labels; the value is 1",
            ["release", "generation", "engine"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._serving: tuple[str, ...] | None = None
        self._collectors = (MemoryCollector(), WatchCollector(watch), LiveCollector(served))
        for collector in self._collectors:
            registry.register(collector)

    def searched(self, answer: "Answer", *, stages_ns: Mapping[str, int]) -> None:
        """Count one answered search. `stages_ns` holds `total` and each stage that it went through."""
        effort = answer.point.effort
        self._requests[FIRST if answer.page == 1 else LATER, effort, answer.mode].observe(stages_ns[TOTAL] / 1e9)
        for stage, ns in stages_ns.items():
            if stage != TOTAL:
                self._stages[stage].observe(ns / 1e9)
        self._efforts[effort, answer.degraded].inc()
        if answer.query_known is not None:
            self._query_vectors[answer.query_known].inc()

    def dropped(self) -> None:
        """Count one search that was not begun, since its client had hung up."""
        self._dropped.inc()

    def problem(self, status: int) -> None:
        """Count one search that got a problem document instead of hits."""
        self._problems.labels(status).inc()

    def write_refused(self) -> None:
        """Count one write that was refused, since its key writes too fast."""
        self._limited[REFUSED].inc()

    def lines_slowed(self, count: int) -> None:
        """Count lines of a bulk load that had to wait, since its key writes too fast."""
        self._limited[SLOWED].inc(count)

    def sampled(self, *, effort: str, sent: bool) -> None:
        """Count one search that was picked for the sampler: sent, or dropped since it did not take it at once."""
        self._samples[effort, sent].inc()

    def serving(self, *, release: str, generation: int, engine: str) -> None:
        """This worker serves them from now on, and what it served before no more."""
        if self._serving is not None:
            self._release.labels(*self._serving).set(0)
        self._serving = (release, str(generation), engine)
        self._release.labels(*self._serving).set(1)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format, summed over the workers."""
        if MULTIPROCESS_DIR not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # it ships no types
        for collector in self._collectors:
            together.register(collector)
        return generate_latest(together)

    def close(self) -> None:
        """Take this worker's gauges out of the sum; its counts stay."""
        if MULTIPROCESS_DIR in os.environ:
            mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]  # it ships no types
