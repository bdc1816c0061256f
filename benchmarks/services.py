"""`que2search serve` beside other stacks over the same catalogue: latency, CPU, memory and throughput, in one run."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.blocks import Arm, Progress, timed
from benchmarks.client import KeptConnection
from benchmarks.conditions import conditions, pinned
from benchmarks.floors import EMPTY_FASTAPI, FLOOR_TARGET, started_floor
from benchmarks.report import BenchResult, Row
from benchmarks.server import HOST, PATIENT, Server, free_port, launched, started
from benchmarks.service_blocks import CONNECTIONS, Asked, MeasuredServices, ask_all, measure, memory_mb
from benchmarks.service_material import Material, material
from benchmarks.service_stacks import (
    MINILM_PRODUCTS,
    ONNX,
    TORCH,
    TXTAI,
    TXTAI_OURS,
    Places,
    Service,
    build_plain,
    cheapest_plain,
    onnx_stack,
    ours_ids,
    ours_target,
    torch_stack,
    txtai_with_minilm,
    txtai_with_ours,
)
from benchmarks.vectors import K

OURS = "ours"
# All connections busy on one core is overload; the others then wait, and ours must neither refuse nor search less.
READY = "/openapi.json"  # FastAPI answers it as soon as it has started


@dataclass(frozen=True, kw_only=True)
class ServicesResult(BenchResult):
    """Its picture is how many times ours each takes, by latency, CPU and throughput."""

    def picture(self) -> Figure:
        columns = {
            "p50_over_ours": "p50",
            "cpu_over_ours": "CPU a request",
            "answers_per_cpu_s_below_ours": "answers a CPU second, inverse",
        }
        rows = [row for row in self.rows if row["cpu_over_ours"] is not None][::-1]
        figure = Figure(figsize=(8, 1.5 + 0.45 * len(rows)), layout="constrained")
        axes = figure.subplots()
        names = [str(row["name"]) for row in rows]
        for (column, label), marker in zip(columns.items(), "ox|", strict=True):
            axes.plot([row[column] for row in rows], names, marker, label=label)  # type: ignore[arg-type]  # numbers
        axes.axvline(1, color="tab:gray", linewidth=0.8)
        axes.set(title=self.title, xlabel="times ours", xscale="log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(axis="x", which="both", alpha=0.3)
        figure.legend(loc="outside lower center", ncols=3)
        return figure


def run(
    release: Path,
    catalogue: Path,
    *,
    trained: Path,
    folder: Path,
    encoder: Path | None = None,
    minilm_products: int = MINILM_PRODUCTS,
    without: Sequence[str] = (),
    blocks: int = 16,
    calls: int = 100,
    building: Progress | None = None,
    measuring: Progress | None = None,
) -> BenchResult:
    """Set every stack up, find for the plain ones the cheapest index that finds as much as ours, and measure all.

    Latency: one closed-loop client on the servers' own core. Throughput: four, on another core.

    Args:
        release, catalogue: what ours serves, and where the others' vectors and products come from.
        trained: the release's run, whose query tower the others call.
        folder: keeps environments and indexes between runs.
        encoder: MiniLM, in Hugging Face layout; without it txtai's own row is left out.
        minilm_products: that this encoder embeds, at most.
        without: of `STACKS`, those to leave out.
        blocks, calls: rounds, and calls of a stack in each (fewer of slow ones).
        building, measuring: called with (done, total) of each part.

    Raises:
        ReleaseError, CatalogueError, DataError, RunError: something of ours cannot be opened.
        StackError: a stack cannot be set up.
        ClientError: a service does not start, or answers a problem.
    """
    places = Places(envs=folder / "envs", indexes=folder / "indexes", cache=folder / "services")
    given = material(release, catalogue, cache=places.cache)
    services, notes = _plain_services(release, catalogue, given, trained, without, places, building)
    services += _txtai_services(given, trained, encoder, minilm_products, without, places)
    with ExitStack() as stack:
        core = stack.enter_context(pinned())
        asked = [
            _floor(stack.enter_context(started_floor("fastapi"))),
            _ours(stack.enter_context(started(release, catalogue, watch_share=0.0, settings=PATIENT)), given),
            *(_started(stack, service, given) for service in services),
        ]
        measured = measure(asked, core=core, blocks=blocks, calls=calls, progress=measuring)
        rows = compared(asked, measured)
    return ServicesResult(
        bench="services",
        title=f"Search services over {given.vectors.count:,} products, one thread each",
        rows=rows,
        conditions=conditions(
            threads=1,
            core=core,
            vectors=given.vectors.products_key,
            queries=len(given.queries),
            query_vector_cache="off",
            calls_per_block=calls,
            throughput=f"{CONNECTIONS} connections from the other cores",
            **measured.latency.conditions(),
        ),
        notes=[*notes, *_left_out(encoder, without), *measured.latency.notes()],
    )


def compared(asked: Sequence[Asked], measured: MeasuredServices) -> list[Row]:
    """A row for each service, while it still runs; one of them is `OURS`."""
    return [_row(one, measured) for one in asked]


def _plain_services(
    release: Path,
    catalogue: Path,
    given: Material,
    trained: Path,
    without: Sequence[str],
    places: Places,
    building: Progress | None,
) -> tuple[list[Service], list[str]]:
    """What most people write, over the index that finds as much as ours does; and what was seen of the others."""
    stacks = {TORCH: torch_stack, ONNX: onnx_stack}
    wanted = [stack for name, stack in stacks.items() if name not in without]
    if not wanted:
        return [], []
    built = build_plain(given, cache=places.indexes, progress=building)
    with pinned():
        with started(release, catalogue, watch_share=0.0, settings=PATIENT) as server:
            target = _ours(server, given).ann_recall_at_10 or 0.0
        chosen, notes = cheapest_plain(built, given, target)
    return [stack(given, chosen, run=trained, places=places) for stack in wanted], notes


def _txtai_services(
    given: Material, trained: Path, encoder: Path | None, products: int, without: Sequence[str], places: Places
) -> Iterator[Service]:
    if TXTAI_OURS not in without:
        yield txtai_with_ours(given, run=trained, places=places)
    if encoder is not None and TXTAI not in without:
        yield txtai_with_minilm(given, encoder=encoder, products=products, places=places)


def _ours(server: Server, given: Material) -> Asked:
    targets = [ours_target(query) for query in given.queries]
    recall, p50_us = ask_all(server, targets, ours_ids, given.near_ids)
    return Asked(OURS, "effort low", given.vectors.count, server, targets, recall, p50_us)


def _floor(server: Server) -> Asked:
    with KeptConnection(server.host, server.port) as connection:
        ran = timed(lambda _at: connection.get(FLOOR_TARGET), calls=K)
    return Asked(EMPTY_FASTAPI, None, None, server, [FLOOR_TARGET], None, float(np.median(ran.latencies_us)))


def _started(stack: ExitStack, service: Service, given: Material) -> Asked:
    port = free_port()
    command = [*service.command, "--host", HOST, "--port", str(port)]
    server = stack.enter_context(launched(command, port=port, ready=READY, settings=service.settings))
    targets = [service.target(query) for query in given.queries]
    recall, p50_us = ask_all(server, targets, service.ids, service.near_ids)
    return Asked(service.name, service.searched, service.products, server, targets, recall, p50_us)


def _row(one: Asked, measured: MeasuredServices) -> Row:
    arm, ours = (measured.latency.arms[name] for name in (one.name, OURS))
    busy, ours_busy = (measured.throughput.arms[name] for name in (one.name, OURS))
    return {
        "name": one.name,
        "products": one.products,
        "index": one.searched,
        "ann_recall_at_10": one.ann_recall_at_10,
        "p50_us": arm.p50_us,
        "p99_us": arm.p99_us,
        "server_cpu_us": arm.cpu_us,
        "answers_per_s": 1e6 / busy.p50_us,
        "answers_per_cpu_s": None if busy.cpu_us is None else 1e6 / busy.cpu_us,
        "memory_mb": memory_mb(one.server),
        "p50_over_ours": arm.p50_us / ours.p50_us,
        "cpu_over_ours": _cpu_ratio(arm, ours),
        "answers_per_cpu_s_below_ours": _cpu_ratio(busy, ours_busy),
    }


def _cpu_ratio(arm: Arm, ours: Arm) -> float | None:
    return None if arm.cpu_us is None or ours.cpu_us is None else arm.cpu_us / ours.cpu_us


def _left_out(encoder: Path | None, without: Sequence[str]) -> list[str]:
    left = [f"{name} was left out" for name in without]
    if encoder is None and TXTAI not in without:
        left.append("txtai with MiniLM was left out; name the encoder with --encoder")
    return left
