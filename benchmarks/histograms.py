"""Latencies as HdrHistograms, in the text forms that its plotters and other tools read."""

from pathlib import Path

import numpy as np
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogWriter

from benchmarks.load_record import Histogram

_US_PER_MS = 1000.0
_STEPS = 5  # percentile rows for each halving of what is left


def encoded(latencies_us: np.ndarray) -> str:
    """(n,) microseconds, counted; HdrHistogram's compressed text."""
    histogram = Histogram()
    for latency in latencies_us.tolist():
        histogram.record(latency)
    text: bytes = histogram.hdr.encode()
    return text.decode()


def save_histogram(histogram: HdrHistogram, path: Path) -> list[Path]:
    """Write PATH.hgrm (percentiles, in milliseconds) and PATH.hlog (the compressed counts, of microseconds)."""
    percentiles, log = (path.with_name(f"{path.name}.{ending}") for ending in ("hgrm", "hlog"))
    with percentiles.open("wb") as file:
        histogram.output_percentile_distribution(file, _US_PER_MS, _STEPS)
    with log.open("w") as file:
        writer = HistogramLogWriter(file)
        writer.output_log_format_version()
        writer.output_legend()
        writer.output_interval_histogram(histogram, max_value_unit_ratio=_US_PER_MS)
    return [percentiles, log]
