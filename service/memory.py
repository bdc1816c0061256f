"""The memory of the worker processes, read from Linux' /proc when somebody asks; elsewhere there are no values."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

MULTIPROCESS_DIR: Final = "PROMETHEUS_MULTIPROC_DIR"  # the client library's own variable, read when it is imported
_LINE: Final = re.compile(r"^(RssAnon|RssShmem|RssFile):\s+(\d+) kB$", re.MULTILINE)


class Memory(NamedTuple):
    """Resident bytes of one process."""

    private: int
    mapped: int  # files, above all the index and the catalogue: pages that workers share


class MemoryCollector(Collector):
    """`q2s_memory_bytes{kind}` over all workers: `private` is their sum; of `mapped`, which they share, the largest."""

    def __init__(self, *, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("q2s_memory_bytes", "Resident memory of the workers", labels=["kind"])
        if found := list(self._read(worker_ids())):
            family.add_metric(["private"], sum(memory.private for memory in found))
            family.add_metric(["mapped"], max(memory.mapped for memory in found))
        yield family

    def _read(self, processes: Iterable[int]) -> Iterator[Memory]:
        for process in processes:
            try:
                status = (self._proc / str(process) / "status").read_text()
            except OSError:
                continue  # a worker that is gone, or no Linux
            kilobytes = {name: int(value) for name, value in _LINE.findall(status)}
            if kilobytes:
                private = kilobytes["RssAnon"] + kilobytes["RssShmem"]
                yield Memory(private=1024 * private, mapped=1024 * kilobytes["RssFile"])


def worker_ids() -> list[int]:
    """The processes that count into the shared directory (its files end in `_PID.db`), or this one alone."""
    folder = os.environ.get(MULTIPROCESS_DIR)
    if folder is None:
        return [os.getpid()]
    return sorted({int(path.stem.rpartition("_")[2]) for path in Path(folder).glob("*_*.db")})
