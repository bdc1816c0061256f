"""Memory over the workers: private pages add up, shared ones count once."""

import os
from pathlib import Path

import pytest

from service.memory import MULTIPROCESS_DIR, MemoryCollector

KILO = 1024


def proc(folder: Path, sizes: dict[int, tuple[int, int, int]]) -> Path:
    """A /proc of processes with the given kB of anonymous, file and shared memory pages."""
    for process, (anonymous, file, shared) in sizes.items():
        status = folder / str(process) / "status"
        status.parent.mkdir(parents=True)
        status.write_text(f"Name:\tpython\nRssAnon:\t{anonymous} kB\nRssFile:\t{file} kB\nRssShmem:\t{shared} kB\n")
    return folder


def values(collector: MemoryCollector) -> dict[str, float]:
    return {sample.labels["kind"]: sample.value for metric in collector.collect() for sample in metric.samples}


def test_private_memory_is_summed_and_mapped_memory_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers map the same index: 100 + 120 + 1 kB of their own, and 900 kB of files between them."""
    counts = tmp_path / "counts"
    counts.mkdir()
    for name in ("counter_11.db", "histogram_11.db", "counter_12.db", "gauge_livemax_12.db", "counter_13.db"):
        (counts / name).touch()
    monkeypatch.setenv(MULTIPROCESS_DIR, str(counts))
    collector = MemoryCollector(proc=proc(tmp_path / "proc", {11: (100, 900, 0), 12: (120, 850, 1), 99: (7, 7, 7)}))

    assert {"private": 221 * KILO, "mapped": 900 * KILO} == values(collector)


def test_one_process_counts_itself(tmp_path: Path) -> None:
    """Without workers there is no directory to look into."""
    collector = MemoryCollector(proc=proc(tmp_path, {os.getpid(): (5, 3, 0)}))

    assert {"private": 5 * KILO, "mapped": 3 * KILO} == values(collector)


def test_without_proc_there_are_no_values(tmp_path: Path) -> None:
    """As on macOS."""
    assert {} == values(MemoryCollector(proc=tmp_path))
