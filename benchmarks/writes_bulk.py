"""What a catalogue's size costs: bulk loads, disk, start-up and compaction, each once and by itself."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter, sleep
from typing import Final

from matplotlib.figure import Figure

from benchmarks.axes import label_logarithmic
from benchmarks.blocks import Progress
from benchmarks.conditions import conditions, searched
from benchmarks.disturbance import cpu_times, steal_between
from benchmarks.report import BenchResult, Row
from benchmarks.server import started
from benchmarks.writes_copy import copied, folder_bytes
from benchmarks.writes_load import post
from benchmarks.writes_material import Change, Material
from benchmarks.writes_samples import gauge
from index.catalogue import STORE_FILE, Catalogue
from index.files import sync_file
from index.generations import current_number, generation_path, open_current
from service.client import ClientError
from service.group_commit import GROUP

LINES: Final = 10_000  # of one request
FIGURES: Final = 9
LOOK_EVERY_S: Final = 0.2
PATIENCE_S: Final = 7_200.0  # for a compaction, or for what was loaded to become searchable
LOADING: Final = {"Q2S_WRITES": "true", "Q2S_COMPACT_AT": "0", "Q2S_MAX_BACKLOG": "10000000"}
COMPACTING: Final = {"Q2S_WRITES": "true", "Q2S_COMPACT_AT": "0.0000001", "Q2S_COMPACT_FROM": "1"}


class BulkResult(BenchResult):
    """A table of things that were done once."""

    def picture(self) -> Figure:
        """How many seconds each took."""
        took = {str(row["name"]): float(s) for row in reversed(self.rows) if (s := row.get("seconds")) is not None}
        figure = Figure(figsize=(8, 1.2 + 0.35 * len(took)), layout="constrained")
        axes = figure.subplots()
        axes.plot([*took.values()], [*took], "o")
        axes.set(title=self.title, xlabel="seconds", xscale="log")
        label_logarithmic(axes.xaxis, "{x:g}")
        axes.grid(axis="x", alpha=0.3)
        axes.margins(y=0.4)
        return figure


def run(
    release: Path, catalogue: Path, *, seed: int = 0, products: int = 20_000, progress: Progress | None = None
) -> BulkResult:
    """Load so many new products into a copy, and time what an operator waits for.

    Args:
        seed: which of the catalogue's products the new ones are made of.
        products: to load; a compaction then takes them into a new generation of all.
        progress: called with (done, total) figures.

    Raises:
        CatalogueError, IndexFileError: the catalogue cannot be read or copied.
        ClientError: there is no room for a copy, the server does not start, refuses a line, or takes too long.
    """
    manifest = open_current(catalogue, verify=False).manifest
    before = cpu_times()
    rows: list[Row] = []
    with copied(catalogue) as copy, Catalogue.open(catalogue) as models:
        changes = Material(models, seed=seed).take(products, {"new": 1.0})
        for row in figures(release, copy, changes, count=manifest.count):
            rows.append(row)
            if progress is not None:
                progress(len(rows), FIGURES)
    return BulkResult(
        bench="writes-bulk",
        title=f"Bulk loads, start, compaction and disk at {manifest.count:,} products",
        rows=rows,
        conditions=conditions(
            threads=1,
            **searched(manifest),
            loaded=products,
            lines_per_request=LINES,
            steal=round(steal_between(before, cpu_times()), 4),
        ),
        notes=[
            "each once; a start is from the command to the first answer that it is ready, to a tenth of a second;",
            "not in memory: pages that other processes map stay, so measure where nothing else uses the catalogue;",
            "until searchable: the indexer embeds while further lines are taken;",
            "a compaction runs at the lowest priority with one thread, and ends when the worker is to serve it.",
        ],
    )


def figures(release: Path, copy: Path, changes: Sequence[Change], *, count: int) -> Iterator[Row]:
    """`FIGURES` rows, one when each is there. Raises ClientError.

    Args:
        copy: loaded into.
        changes: the new products.
        count: products of its generation.
    """
    yield _disk("store", (copy / STORE_FILE).stat().st_size, count)
    yield _disk("generation", folder_bytes(generation_path(copy, current_number(copy))), count)
    evict(release, copy)
    yield _once("start, files not in memory", count, start_s(release, copy))
    yield _once("start, files in memory", count, start_s(release, copy))
    yield _rate("import into a new catalogue, not embedded", len(changes), import_s(changes, copy.parent / "imported"))
    with started(release, copy, watch_share=0.0, settings=LOADING) as server:
        begun = perf_counter()
        for first in range(0, len(changes), LINES):
            posted = post(server, changes[first : first + LINES])
            if posted.done < posted.lines:
                raise ClientError(f"the server took {posted.done:,} of {posted.lines:,} lines; its log says why")
        yield _rate("POST /products, until acknowledged", len(changes), perf_counter() - begun)
        wait_until(lambda: gauge(server, "q2s_backlog_products") + gauge(server, "q2s_unapplied_changes") == 0)
        yield _rate("POST /products, until searchable", len(changes), perf_counter() - begun)
    yield _once("start, the load in the log", count + len(changes), start_s(release, copy))
    before = current_number(copy)
    with started(release, copy, watch_share=0.0, settings=COMPACTING):
        begun = perf_counter()
        wait_until(lambda: current_number(copy) > before)
        yield _rate("compaction", count + len(changes), perf_counter() - begun)


def evict(*folders: Path) -> None:
    """Let the system forget what it keeps of their files in memory, but for pages that some process maps."""
    for folder in folders:
        for file in (each for each in folder.rglob("*") if each.is_file()):
            sync_file(file)  # what is not written yet is not forgotten
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def start_s(release: Path, catalogue: Path) -> float:
    """Seconds that a server takes to be ready. Raises ClientError."""
    begun = perf_counter()
    with started(release, catalogue, watch_share=0.0, settings=LOADING):
        return perf_counter() - begun


def import_s(changes: Sequence[Change], path: Path) -> float:
    """Seconds that it takes to store the products past the log, as `catalogue import` does."""
    begun = perf_counter()
    with Catalogue.create(path) as catalogue:
        for first in range(0, len(changes), GROUP):
            catalogue.put_products(change.product for change in changes[first : first + GROUP] if change.product)
    return perf_counter() - begun


def wait_until(done: Callable[[], bool]) -> None:
    """Raises ClientError when it takes too long."""
    give_up = perf_counter() + PATIENCE_S
    while not done():
        if perf_counter() > give_up:
            raise ClientError(f"the server did not come to an end within {PATIENCE_S:,.0f} s; its log says why")
        sleep(LOOK_EVERY_S)


def _once(name: str, products: int, seconds: float) -> Row:
    return {"name": name, "products": products, "seconds": seconds}


def _rate(name: str, products: int, seconds: float) -> Row:
    return {**_once(name, products, seconds), "products_per_s": products / seconds}


def _disk(name: str, size: int, products: int) -> Row:
    return {"name": name, "products": products, "bytes": size, "bytes_per_product": size / products}
