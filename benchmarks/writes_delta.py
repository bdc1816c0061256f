"""What a full delta costs a search: two servers over equal catalogues, one of which was written to, in turn."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.blocks import Measured, Progress, interleave
from benchmarks.conditions import conditions, pinned, searched
from benchmarks.http import Asked, block_of, cpu_ratio, first_target, served
from benchmarks.queries import choose
from benchmarks.report import BenchResult
from benchmarks.writes_copy import copied
from benchmarks.writes_material import Material
from benchmarks.writes_verdicts import ratios, searches
from index.catalogue import Catalogue
from index.generations import open_current
from models.runtime import Release, open_release
from service.group_commit import GROUP
from service.indexer import Indexer
from service.logs import make_logger

EMPTY, FULL = "empty delta", "full delta"


def run(
    release: Path,
    catalogue: Path,
    *,
    data: Path | None = None,
    queries: int = 20_000,
    seed: int = 0,
    share: float = 0.05,
    blocks: int = 40,
    calls: int = 500,
    writing: Progress | None = None,
    progress: Progress | None = None,
) -> BenchResult:
    """Ask for first pages from a client on the servers' core, one after the other.

    Each server has a copy of its own, of the present format, whose log it follows; neither takes writes.

    Args:
        data, queries, seed: a dataset whose searched queries are asked, how many, and how they are drawn; without one,
            the release's golden queries.
        share: rows of the full delta, of the catalogue's products.
        blocks, calls: rounds, and calls of each server in one.
        writing: called with (done, total) products of the delta.
        progress: called with (done, total) rounds.

    Raises:
        ReleaseError, DataError: the release or the dataset cannot be opened, or has too few queries.
        CatalogueError, IndexFileError: the catalogue cannot be read or copied.
        ClientError: there is no room for two copies, or a server does not start.
    """
    opened = open_release(release)
    chosen = choose(opened, data, count=queries, seed=seed)
    targets = [first_target(query) for query in chosen.queries]
    manifest = open_current(catalogue, verify=False).manifest
    with ExitStack() as stack:
        empty, full = (stack.enter_context(copied(catalogue)) for _ in (EMPTY, FULL))
        fill(empty, opened, model=catalogue, rows=0, seed=seed)
        rows = fill(full, opened, model=catalogue, rows=round(share * manifest.count), seed=seed, progress=writing)
        core = stack.enter_context(pinned())
        servers = {EMPTY: served(release, empty), FULL: served(release, full)}
        asked = {name: Asked(stack.enter_context(server), targets) for name, server in servers.items()}
        arms = {name: partial(block_of, each, core, calls) for name, each in asked.items()}
        measured = interleave(arms, blocks=blocks, progress=progress)
    return judged(
        measured,
        rows=rows,
        conditions=conditions(
            threads=1,
            core=core,
            **searched(manifest),
            **chosen.conditions(),
            delta_share=share,
            calls_per_block=calls,
            **measured.conditions(),
        ),
    )


def fill(copy: Path, release: Release, *, model: Path, rows: int, seed: int, progress: Progress | None = None) -> int:
    """Write and publish so many products and delete some, as a server would, but here and at once.

    Args:
        copy: written to, and brought to the present format; no server may run on it.
        release: embeds.
        model: the catalogue that it is a copy of, whose products the changes are made of.

    Returns:
        The rows that were written, a few more than asked for.

    Raises:
        CatalogueError: a catalogue cannot be opened.
    """
    written = 0
    with Catalogue.open(model) as models, Catalogue.open(copy, readonly=False) as catalogue:
        material = Material(models, seed=seed)
        indexer = Indexer(catalogue, lambda: [release], log=make_logger("warning"))
        while written < rows:
            changes = material.take(GROUP)
            catalogue.write([change.write() for change in changes])
            while (published := indexer.step()) > 0:
                written += published
            if progress is not None:
                progress(min(written, rows), rows)
    return written


def judged(measured: Measured, *, rows: int, conditions: Mapping[str, Any]) -> BenchResult:
    """Both servers beside each other, and whether what must hold does."""
    empty, full = (measured.arms[name] for name in (EMPTY, FULL))
    verdicts = searches(full, empty, tail=False)
    return BenchResult(
        bench="writes-delta",
        title=f"First pages beside a delta of {rows:,} products, one client on the server's core",
        rows=[
            {
                "name": name,
                "p50_us": arm.p50_us,
                "p99_us": arm.p99_us,
                "server_p50_us": arm.server_p50_us,
                "cpu_us": arm.cpu_us,
                "p50_over_empty": arm.p50_us / empty.p50_us,
                "cpu_over_empty": cpu_ratio(arm, empty),
            }
            for name, arm in measured.arms.items()
        ],
        conditions={**conditions, **ratios(full, empty), "holds": all(verdict.holds for verdict in verdicts)},
        notes=[*map(str, verdicts), *measured.notes()],
    )
