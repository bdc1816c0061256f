"""What a server and its catalogue hold while they are used, sampled every few seconds; and whether that grows."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import Final, NamedTuple

import psutil  # type: ignore[import-untyped]  # it ships no types
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.client import KeptConnection
from benchmarks.overload import held_by
from benchmarks.overload_report import GROWTH_LIMIT, Footprint, Verdict
from benchmarks.server import Server
from index.catalogue import STORE_FILE, Catalogue
from index.generations import current_number

ROW_BYTES: Final = 2_048  # of memory that a row of the delta may take, until a compaction
MEMORY_GROWTH, STORE_GROWTH = 0.05, 0.1  # that is allowed between the second and the last third of a run


class Sample(NamedTuple):
    """What there was at one moment."""

    at_s: float
    held: Footprint  # by all processes of the server together
    file_bytes: int  # of the store
    used_bytes: int  # of that, what rows take
    temporary_files: int
    delta_rows: int
    generation: int

    @property
    def beside_delta(self) -> int:
        """Private bytes that the delta does not explain: it grows until a compaction by design."""
        return self.held.private_bytes - ROW_BYTES * self.delta_rows


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Where to look."""

    server: Server
    catalogue: Path
    temporary: Path  # where the server puts its temporary files
    every_s: float

    def sample(self, at_s: float) -> Sample:
        """Raises ClientError where the server does not answer."""
        files = [*self.temporary.rglob("*"), *self.catalogue.rglob("*.tmp")]
        with Catalogue.open(self.catalogue) as catalogue:
            used_bytes = catalogue.used_bytes
        return Sample(
            at_s=at_s,
            held=held_together(self.server),
            file_bytes=(self.catalogue / STORE_FILE).stat().st_size,
            used_bytes=used_bytes,
            temporary_files=len(files),
            delta_rows=gauge(self.server, "q2s_delta_rows"),
            generation=current_number(self.catalogue),
        )

    @contextmanager
    def throughout(self, samples: list[Sample]) -> Iterator[None]:
        """Add samples while the block runs, one at its start and one at its end. Raises as `sample`, at the end."""
        ended, started = Event(), perf_counter()

        def look() -> None:
            last = False
            while not last:
                samples.append(self.sample(perf_counter() - started))
                last = ended.wait(self.every_s)
            samples.append(self.sample(perf_counter() - started))

        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(look)
            try:
                yield
            finally:
                ended.set()
            looking.result()


def held_together(server: Server) -> Footprint:
    """By the server's processes, those that end meanwhile left out."""
    held = []
    if server.process is not None:
        for process in (server.process, *server.process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                held.append(held_by(process))
    return Footprint(*(sum(each) for each in zip(*held, strict=True)))


def gauge(server: Server, name: str) -> int:
    """Of the worker's metrics. Raises ClientError where it does not answer."""
    with KeptConnection(server.host, server.port) as connection:
        families = text_string_to_metric_families(connection.get("/metrics").decode())
    return next(int(family.samples[0].value) for family in families if family.name == name)


def flat(samples: Sequence[Sample]) -> list[Verdict]:
    """What is held at least in the last third of a run, beside the third before; in the first one it warms up.

    At least: a compaction holds two generations for a moment, and a client's connections are files.

    Args:
        samples: three or more.
    """
    third = len(samples) // 3
    before, last = samples[third : 2 * third], samples[2 * third :]
    return [
        _flat_memory(*(min(each.beside_delta for each in part) for part in (before, last))),
        _flat("open files", *(min(each.held.files for each in part) for part in (before, last))),
        _flat("threads", *(min(each.held.threads for each in part) for part in (before, last))),
        _flat("temporary files", *(min(each.temporary_files for each in part) for part in (before, last))),
        _flat_store(*(min(each.used_bytes for each in part) for part in (before, last))),
    ]


def _flat(what: str, before: int, last: int) -> Verdict:
    return Verdict(last <= before, f"{what}: {before} in the second third, {last} in the last")


def _flat_memory(before: int, last: int) -> Verdict:
    allowed = MEMORY_GROWTH * before + GROWTH_LIMIT
    return Verdict(
        last - before <= allowed,
        f"private memory beside the delta: {before / 1e6:.1f} MB in the second third, {last / 1e6:.1f} MB in the last "
        f"(limit {(before + allowed) / 1e6:.1f} MB)",
    )


def _flat_store(before: int, last: int) -> Verdict:
    return Verdict(
        last <= (1 + STORE_GROWTH) * before,
        f"the store: {before / 1e6:.1f} MB in the second third, {last / 1e6:.1f} MB in the last "
        f"(limit {(1 + STORE_GROWTH) * before / 1e6:.1f} MB)",
    )
