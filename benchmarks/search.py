"""A whole search without HTTP: query text in, JSON out, the first page and later ones, stage by stage."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from benchmarks.blocks import Arm, Block, Progress, interleave, timed
from benchmarks.conditions import conditions, pinned, searched
from benchmarks.report import BenchResult, Row
from models.runtime import Engine
from service.clock import STAGES, Clock
from service.pipeline import Answer, Pipeline
from service.rendering import render
from service.schemas import MAX_QUERY, SearchRequest
from service.serving import UNHURRIED, load_pipeline
from service.settings import load_settings

DEEP_PAGES = (10, 50)  # beside pages 1 and 2: what a page costs must not depend on its number
DEEP_WALKS = 50  # queries that are followed so far


def run(
    release: Path,
    catalogue: Path,
    *,
    engine: Engine = "onnx",
    blocks: int = 20,
    calls: int = 100,
    progress: Progress | None = None,
) -> BenchResult:
    """Answer golden queries one at a time on one thread with the default efforts: `low`, then `high`.

    Raises:
        NotReadyError: the release or the catalogue cannot be opened, or they do not belong together.
    """
    overrides = {"release": release, "catalogue": catalogue, "engine": engine}
    pipeline = load_pipeline(load_settings({}, overrides=overrides))
    firsts = golden_requests(pipeline)
    pages = {"first page": firsts, "later page": list(following(pipeline, firsts))}
    pages |= {f"page {page}": deep_page(pipeline, firsts[:DEEP_WALKS], page) for page in DEEP_PAGES}
    arms = {name: partial(timed_answers, pipeline, requests, calls) for name, requests in pages.items() if requests}
    with pinned() as core:
        measured = interleave(arms, blocks=blocks, progress=progress)
    effective = {name: answer(pipeline, pages[name][0], Clock()) for name in arms}
    manifest = pipeline.generation.manifest
    result = BenchResult(
        bench="search",
        title=f"Search of {manifest.count:,} products in-process, one thread",
        rows=[_row(name, effective[name], arm) for name, arm in measured.arms.items()],
        conditions=conditions(
            threads=1,
            core=core,
            engine=engine,
            **searched(manifest),
            golden_queries=len(firsts),
            hits_per_page=firsts[0].size,
            query_vector_cache="none",
            calls_per_block=calls,
            **measured.conditions(),
        ),
        notes=[
            "stages are medians; the whole also checks the walk, renders the answer and keeps time",
            *measured.notes(),
        ],
    )
    pipeline.close()
    return result


def golden_requests(pipeline: Pipeline) -> list[SearchRequest]:
    """Page 1 of every golden query."""
    golden = pipeline.release.golden_queries()
    return [SearchRequest(q=query.query[:MAX_QUERY], country=query.country) for query in golden]


def next_page(pipeline: Pipeline, request: SearchRequest) -> SearchRequest | None:
    """The request that follows by cursor; None where the first page shows all there is."""
    cursor = answer(pipeline, request, Clock()).cursor
    return None if cursor is None else replace(request, cursor=cursor)


def following(pipeline: Pipeline, requests: Iterable[SearchRequest]) -> Iterable[SearchRequest]:
    """The next pages, where there are any."""
    return (following for request in requests if (following := next_page(pipeline, request)) is not None)


def deep_page(pipeline: Pipeline, firsts: Iterable[SearchRequest], page: int) -> list[SearchRequest]:
    """Page `page` of searches that reach so far, each by the cursor of the page before."""
    for _ in range(page - 1):
        firsts = following(pipeline, firsts)
    return list(firsts)


def answer(pipeline: Pipeline, request: SearchRequest, clock: Clock) -> Answer:
    """Search and render, with all the time in the world: nothing is degraded."""
    found = pipeline.search(request, clock=clock, budget=UNHURRIED)
    render(found, clock)
    return found


def timed_answers(pipeline: Pipeline, requests: list[SearchRequest], calls: int, block: int) -> Block:
    """A block of answers to the requests in turn, with the medians of their stages."""
    clocks: list[Clock] = []

    def call(at: int) -> None:
        clocks.append(Clock())
        answer(pipeline, requests[at % len(requests)], clocks[-1])

    ran = timed(call, calls=calls, first=block * calls)
    stages = {stage: float(np.median([clock.stages_ns.get(stage, 0) for clock in clocks])) / 1e3 for stage in STAGES}
    return Block(latencies_us=ran.latencies_us, cpu_us=ran.cpu_us, stages_us=stages)


def _row(name: str, found: Answer, arm: Arm) -> Row:
    return {
        "name": name,
        "effort": found.point.effort,
        "nprobe": found.point.nprobe,
        "candidates": found.point.candidates,
        "p50_us": arm.p50_us,
        "p99_us": arm.p99_us,
        "cpu_us": arm.cpu_us,
        **{f"{stage}_us": microseconds for stage, microseconds in arm.stages_us.items()},
    }
