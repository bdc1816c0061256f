"""Search by vectors, by words and by both, in one process and over a socket, with a filter and without."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from msgspec.structs import replace

from benchmarks.blocks import Arm, Progress, interleave
from benchmarks.client import KeptConnection
from benchmarks.conditions import conditions, pinned, searched
from benchmarks.http import EMPTY_ROUTE, FLOOR, timed_gets
from benchmarks.queries import Query, golden
from benchmarks.report import BenchResult, Row
from benchmarks.search import answer, first_requests, following, timed_answers
from benchmarks.server import started
from models.errors import DataError
from service.clock import Clock
from service.loading import load_pipeline
from service.pipeline import Pipeline
from service.schemas import MAX_QUERY, MODES, VECTOR, Mode, SearchRequest
from service.settings import load_settings

FIRST, LATER = "first page", "later page"
_SENT = ("q", "country", "mode", "filter", "cursor")
_SHOWN = ("filter", "ann", "lexical", "rank")  # stages in which modes differ


class Asked(NamedTuple):
    """Requests that are alike in everything but their queries."""

    mode: Mode
    page: str
    filtered: bool
    requests: list[SearchRequest]

    @property
    def name(self) -> str:
        return f"{self.mode}, {self.page}{', filtered' if self.filtered else ''}"

    @property
    def by_vectors(self) -> str:
        """The name of the same pages by vectors alone."""
        return self._replace(mode=VECTOR).name


def run(
    release: Path,
    catalogue: Path,
    *,
    expression: str,
    queries: Sequence[str] | None = None,
    blocks: int = 20,
    calls: int = 100,
    progress: Progress | None = None,
) -> BenchResult:
    """Answer queries one at a time on one core, first pages and the ones that follow, in each mode.

    Args:
        release, catalogue: what is searched, in this process and by a server started for this run.
        expression: the filter.
        queries: asked from no country; None: the release's golden queries.
        blocks, calls: rounds, and calls of each arm in one.
        progress: called with (done, total) rounds.

    Raises:
        NotReadyError: the release or the catalogue cannot be opened, or they do not belong together.
        InvalidFieldError: the filter makes no sense for this catalogue.
        ClientError: the server does not start, or answers a problem.
    """
    pipeline = load_pipeline(
        load_settings({}, overrides={"release": release, "catalogue": catalogue, "query_cache": 0})
    )
    chosen = golden(pipeline.release) if queries is None else [Query(text, None) for text in queries]
    firsts = first_requests(chosen)
    every = list(_every(pipeline, firsts, expression))
    with ExitStack() as stack:
        core = stack.enter_context(pinned())
        server = stack.enter_context(started(release, catalogue, watch_share=0.0))
        connection = stack.enter_context(KeptConnection(server.host, server.port))
        arms = {f"GET {FLOOR}": partial(timed_gets, connection, server, [EMPTY_ROUTE], calls)}
        for asked in every:  # in turn, or the server would close a connection that waits for too long
            arms[asked.name] = partial(timed_answers, pipeline, asked.requests, calls)
            targets = [target(request) for request in asked.requests]
            arms[f"GET {asked.name}"] = partial(timed_gets, connection, server, targets, calls)
        measured = interleave(arms, blocks=blocks, progress=progress)
    manifest = pipeline.generation.manifest
    result = BenchResult(
        bench="modes",
        title=f"Search of {manifest.count:,} products by mode, one query at a time on one core",
        rows=[_row(asked, measured.arms) for asked in every],
        conditions=conditions(
            threads=1,
            core=core,
            **searched(manifest),
            queries=len(firsts),
            filter=expression,
            allowed=_allowed(pipeline, replace(firsts[0], filter=expression)),
            fusion=pipeline.generation.operating_points.fusion.record(),
            hits_per_page=firsts[0].size,
            query_vector_cache="none",
            calls_per_block=calls,
            **measured.conditions(),
        ),
        notes=[
            "in this process, but http: one kept connection to a server on the same core, closed loop;",
            "floor: an empty route of that server; over vector: against the same page by vectors.",
            *measured.notes(),
        ],
    )
    pipeline.close()
    return result


def queries_of(path: Path) -> list[str]:
    """The queries of a UTF-8 file, one a line; what is longer than a request may say is cut.

    Raises:
        DataError: there is no such file, it is no text, or it holds no queries.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise DataError(f"{path} is no file of queries: {exc}") from exc
    queries = [line.strip()[:MAX_QUERY] for line in lines if line.strip()]
    if not queries:
        raise DataError(f"{path} holds no queries; write one a line")
    return queries


def target(request: SearchRequest) -> str:
    """A search's path and query string."""
    fields = {name: getattr(request, name) for name in _SENT}
    return "/search?" + urlencode({name: value for name, value in fields.items() if value is not None})


def _every(pipeline: Pipeline, firsts: Sequence[SearchRequest], expression: str) -> Iterator[Asked]:
    """What is timed: every mode without the filter and with it, first pages and, where there are any, the next ones."""
    for condition in (None, expression):
        for mode in MODES:
            pages = [replace(request, mode=mode, filter=condition) for request in firsts]
            for page, requests in ((FIRST, pages), (LATER, list(following(pipeline, pages)))):
                if requests:
                    yield Asked(mode, page, condition is not None, requests)


def _allowed(pipeline: Pipeline, request: SearchRequest) -> int | None:
    """Products that pass the request's filter."""
    member = answer(pipeline, request, Clock()).filter
    return None if member is None else member.allowed


def _row(asked: Asked, arms: Mapping[str, Arm]) -> Row:
    here, there = arms[asked.name], arms[f"GET {asked.name}"]
    floor, vector = arms[f"GET {FLOOR}"], arms.get(f"GET {asked.by_vectors}")
    return {
        "name": asked.name,
        "p50_us": here.p50_us,
        "p99_us": here.p99_us,
        "cpu_us": here.cpu_us,
        **{f"{stage}_us": here.stages_us[stage] for stage in _SHOWN},
        "http_p50_us": there.p50_us,
        "http_p99_us": there.p99_us,
        "http_p50_over_floor": there.p50_us / floor.p50_us,
        "http_p50_over_vector": None if vector is None else there.p50_us / vector.p50_us,
    }
