"""A whole search without HTTP: query text in, JSON out, the first page and later ones, stage by stage."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from benchmarks.blocks import Arm, Block, Progress, in_turn, interleave, timed
from benchmarks.conditions import conditions, pinned, searched
from benchmarks.histograms import encoded
from benchmarks.queries import Query, choose
from benchmarks.report import Row
from benchmarks.waterfall import REST, SearchResult
from index.sweep import ann_recalls, nearest
from models.runtime import Engine
from service.clock import STAGES, Clock
from service.loading import UNHURRIED, load_pipeline
from service.pipeline import Answer, Pipeline
from service.rendering import render
from service.schemas import MAX_BATCH, SearchRequest
from service.settings import load_settings

FIRST, LATER = "first page", "later page"
FEATURISER, TOWER = "featuriser alone", "query tower alone"
BATCH = "first page, in a batch"
DEEP_PAGES = (10, 50)  # beside pages 1 and 2: what a page costs must not depend on its number
DEEP_WALKS = 50  # queries that are followed so far
RECALL_QUERIES = 200  # searched exactly, to tell what the pages' efforts find


def run(
    release: Path,
    catalogue: Path,
    *,
    data: Path | None = None,
    queries: int = 20_000,
    seed: int = 0,
    engine: Engine = "onnx",
    blocks: int = 40,
    calls: int = 500,
    progress: Progress | None = None,
) -> SearchResult:
    """Answer queries one at a time on one thread with the default efforts: `low`, then `high`.

    Args:
        release, catalogue: what is searched.
        data: a dataset whose searched queries are asked; None: the release's golden queries.
        queries, seed: how many of them are drawn, and how.
        engine: what runs the query tower.
        blocks, calls: rounds, and calls of each arm in one.
        progress: called with (done, total) rounds.

    Raises:
        NotReadyError: the release or the catalogue cannot be opened, or they do not belong together.
        DataError: the dataset cannot be opened, or has too few queries.
    """
    overrides = {"release": release, "catalogue": catalogue, "engine": engine, "query_cache": 0}
    pipeline = load_pipeline(load_settings({}, overrides=overrides))
    asked = choose(pipeline.release, data, count=queries, seed=seed)
    firsts = first_requests(asked.queries)
    pages = {FIRST: firsts, LATER: list(following(pipeline, firsts))}
    pages |= {f"page {page}": deep_page(pipeline, firsts[:DEEP_WALKS], page) for page in DEEP_PAGES}
    pages = {name: requests for name, requests in pages.items() if requests}
    arms = parts(pipeline, asked.queries, calls=calls) | {BATCH: partial(timed_batches, pipeline, firsts, calls)}
    arms |= {name: partial(timed_answers, pipeline, requests, calls) for name, requests in pages.items()}
    with pinned() as core:
        measured = interleave(arms, blocks=blocks, progress=progress)
    effective = {name: answer(pipeline, requests[0], Clock()) for name, requests in pages.items()}
    recalls = ann_recall_at_10(pipeline, effective, asked.queries[:RECALL_QUERIES])
    manifest = pipeline.generation.manifest
    result = SearchResult(
        bench="search",
        title=f"Search of {manifest.count:,} products in-process, one thread",
        rows=[
            *(_row(name, effective[name], measured.arms[name], recalls[name]) for name in pages),
            *({"name": name, **_times(measured.arms[name])} for name in (BATCH, FEATURISER, TOWER)),
        ],
        conditions=conditions(
            threads=1,
            core=core,
            engine=engine,
            **searched(manifest),
            **asked.conditions(),
            recall_queries=len(asked.queries[:RECALL_QUERIES]),
            hits_per_page=firsts[0].size,
            query_vector_cache="none",
            calls_per_block=calls,
            **measured.conditions(),
        ),
        notes=[
            "stages are medians, and 99th percentiles behind them; p99.9 is of all calls together;",
            "rest: what a call takes beside its stages: checking the walk, rendering the answer and keeping time;",
            _per_core(measured.arms),
            *measured.notes(),
        ],
        histograms={name: encoded(arm.latencies_us) for name, arm in measured.arms.items() if name in pages},
    )
    pipeline.close()
    return result


def parts(pipeline: Pipeline, queries: list[Query], *, calls: int) -> dict[str, Callable[[int], Block]]:
    """The featuriser and the query tower, called by themselves with the same queries."""
    release = pipeline.release
    features = [release.featurizer.query(*query) for query in queries]
    return {
        FEATURISER: in_turn(lambda query: release.featurizer.query(*query), queries, calls=calls),
        TOWER: in_turn(release.query_tower.embed, features, calls=calls),
    }


def first_requests(queries: Iterable[Query]) -> list[SearchRequest]:
    """Page 1 of every query."""
    return [SearchRequest(q=query.text, country=query.country) for query in queries]


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
    """A block of answers to the requests in turn, with the medians and the 99th percentiles of their stages."""
    clocks: list[Clock] = []

    def call(at: int) -> None:
        clocks.append(Clock())
        answer(pipeline, requests[at % len(requests)], clocks[-1])

    ran = timed(call, calls=calls, first=block * calls)
    stages = {stage: np.array([clock.stages_ns.get(stage, 0) for clock in clocks]) / 1e3 for stage in STAGES}
    stages[REST] = ran.latencies_us - sum(stages.values())
    return Block(
        latencies_us=ran.latencies_us,
        cpu_us=ran.cpu_us,
        stages_us={stage: float(np.median(times)) for stage, times in stages.items()},
        stages_p99_us={stage: float(np.quantile(times, 0.99)) for stage, times in stages.items()},
    )


def timed_batches(pipeline: Pipeline, requests: list[SearchRequest], calls: int, block: int) -> Block:
    """A block of batches as large as they may be, about `calls` searches in all; times are those of one search."""
    size = min(MAX_BATCH, len(requests))
    batches = max(1, calls // size)

    def call(at: int) -> None:
        batch = [requests[(at * size + place) % len(requests)] for place in range(size)]
        for request, embedded in zip(batch, pipeline.embed(batch), strict=True):
            clock = Clock()
            render(pipeline.search(request, clock=clock, budget=UNHURRIED, embedded=embedded), clock)

    ran = timed(call, calls=batches, first=block * batches)
    return Block(latencies_us=ran.latencies_us / size, cpu_us=None if ran.cpu_us is None else ran.cpu_us / size)


def ann_recall_at_10(pipeline: Pipeline, pages: Mapping[str, Answer], queries: list[Query]) -> dict[str, float]:
    """By page: the mean share of the exact ten nearest that its operating point finds."""
    vectors = np.stack([pipeline.release.embed_query(*query) for query in queries])  # (q, d)
    generation = pipeline.generation
    relevant = nearest(generation.exact, vectors)
    return {
        name: float(ann_recalls(generation.search(vectors, found.point).numbers, relevant, k=10).mean())
        for name, found in pages.items()
    }


def _row(name: str, found: Answer, arm: Arm, recall: float) -> Row:
    stages = [stage for stage in (*STAGES, REST) if arm.stages_us[stage] > 0]
    return {
        "name": name,
        "effort": found.point.effort,
        "nprobe": found.point.nprobe,
        "candidates": found.point.candidates,
        "ann_recall_at_10": recall,
        **_times(arm),
        **{f"{stage}_us": arm.stages_us[stage] for stage in stages},
        **{f"{stage}_p99_us": arm.stages_p99_us[stage] for stage in stages},
    }


def _per_core(arms: Mapping[str, Arm]) -> str:
    together, alone = (1e6 / arms[name].p50_us for name in (BATCH, FIRST))
    return (
        f"a batch of {MAX_BATCH} runs the tower once, and its time is that of one search in it: "
        f"a core answers {together:,.0f} a second so, {alone:,.0f} one by one."
    )


def _times(arm: Arm) -> Row:
    return {"p50_us": arm.p50_us, "p99_us": arm.p99_us, "p99.9_us": arm.p999_us, "cpu_us": arm.cpu_us}
