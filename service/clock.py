"""The time of one request, stage by stage: one set of names for the answer, the header and the histograms."""

from time import perf_counter_ns
from typing import Final

STAGES: Final = ("featurise", "query_tower", "filter", "ann", "lexical", "rank", "products")
TOTAL: Final = "total"


class Clock:
    """Starts when the request is picked up. `lap` gives the time since the lap before to a stage."""

    __slots__ = ("_lap_ns", "stages_ns", "started_ns")

    def __init__(self) -> None:
        self.started_ns = perf_counter_ns()
        self.stages_ns: dict[str, int] = {}
        self._lap_ns = self.started_ns

    def start_stage(self) -> None:
        """Leave out of the next stage what went before it."""
        self._lap_ns = perf_counter_ns()

    def lap(self, stage: str) -> None:
        now = perf_counter_ns()
        self.stages_ns[stage] = self.stages_ns.get(stage, 0) + now - self._lap_ns  # a page may need two lists
        self._lap_ns = now

    def stop(self) -> None:
        """Set `total`: everything since the request was picked up, validation and admission included."""
        self.stages_ns[TOTAL] = perf_counter_ns() - self.started_ns

    def elapsed_us(self) -> float:
        return (perf_counter_ns() - self.started_ns) / 1000

    def microseconds(self) -> dict[str, int]:
        return {stage: round(ns / 1000) for stage, ns in self.stages_ns.items()}

    def server_timing(self) -> str:
        """The Server-Timing header's value: milliseconds (W3C Server Timing section 3)."""
        return ", ".join(f"{stage};dur={ns / 1e6:.3f}" for stage, ns in self.stages_ns.items())
