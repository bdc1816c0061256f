"""Where a load's latencies go: HdrHistograms of microseconds, in blocks, so that disturbed seconds can be set aside."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hdrh.histogram import HdrHistogram

from benchmarks.disturbance import STEAL_LIMIT

FIGURES = 4  # significant: 1 us apart up to 32 ms, 8 us up to 262 ms; finer than 0.01 ms wherever that matters
LONGEST_US = 120_000_000
CLIENT, FROM_SEND, LATE = "client", "from_send", "late"  # measures beside the server's stages


class Histogram:
    """Counts of latencies; bounded memory however long the run."""

    def __init__(self) -> None:
        self._hdr = HdrHistogram(1, LONGEST_US, FIGURES)

    @property
    def count(self) -> int:
        return int(self._hdr.total_count)

    @property
    def hdr(self) -> HdrHistogram:
        """To be written to a file."""
        return self._hdr

    def record(self, microseconds: float) -> None:
        """Count a latency, rounded to 1 us; what is beyond the range counts as its end."""
        self._hdr.record_value(min(max(round(microseconds), 1), LONGEST_US))

    def percentiles(self, which: Iterable[float]) -> dict[float, int]:
        """Microseconds at each of `which` (0 to 100); empty where nothing was recorded."""
        return dict(self._hdr.get_percentile_to_value_dict(list(which))) if self.count else {}


class Sample(NamedTuple):
    """The latencies of one answered request, in microseconds."""

    row: str
    measures: Mapping[str, float]  # client (from the due time), from_send, late, and the server's stages


class Recorder:
    """Collects a run's samples and failures."""

    def __init__(self) -> None:
        self.quiet: dict[tuple[str, str], Histogram] = defaultdict(Histogram)  # by row and measure
        self.disturbed: dict[tuple[str, str], Histogram] = defaultdict(Histogram)
        self.failures: Counter[str] = Counter()  # by row and reason, warm-up included
        self.examples: dict[str, str] = {}  # the first of each
        self.failed: Counter[str] = Counter()  # by row
        self.asked: Counter[str] = Counter()  # by row, warm-up included
        self.degraded = 0
        self.steals: list[float] = []  # by block
        self._block: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Keep it until its block is closed."""
        self._block.append(sample)

    def fail(self, row: str, reason: str, detail: str) -> None:
        """Count a failed check by its name."""
        name = f"{row}: {reason}"
        self.failures[name] += 1
        self.failed[row] += 1
        self.examples.setdefault(name, detail)

    def close_block(self, steal: float) -> None:
        """Count the samples since the last call, apart where the machine was taken away meanwhile."""
        histograms = self.quiet if steal <= STEAL_LIMIT else self.disturbed
        for sample in self._block:
            for measure, microseconds in sample.measures.items():
                histograms[sample.row, measure].record(microseconds)
        self.steals.append(steal)
        self._block.clear()

    @property
    def set_aside(self) -> int:
        """Blocks that do not count."""
        return sum(steal > STEAL_LIMIT for steal in self.steals)

    @property
    def counted(self) -> Mapping[tuple[str, str], Histogram]:
        """The quiet blocks' histograms; the others' where no block was quiet."""
        return self.quiet or self.disturbed


def server_timing(header: str) -> dict[str, float]:
    """Stage -> microseconds, from a Server-Timing header's milliseconds (W3C Server Timing section 3)."""
    entries = (entry.strip().partition(";dur=") for entry in header.split(","))
    return {name: float(duration) * 1000 for name, _, duration in entries if duration}
