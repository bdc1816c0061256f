"""POST /search/batch: many searches at once, for throughput: one run of the query tower for all, an answer for each."""

import asyncio
from collections.abc import Iterator, Mapping

from fastapi import APIRouter, Request, Response

from service.admission import Admission, Admitted
from service.body import BodyReader
from service.clock import Clock
from service.errors import ProblemError
from service.keys import Guard
from service.metrics import Metrics
from service.middleware import context_of
from service.openapi import BATCH
from service.pipeline import Pipeline
from service.query_vectors import Embedded
from service.rendering import render
from service.schemas import BatchRequest, SearchRequest, checked, from_json
from service.serving import Serving


def router(*, serving: Serving, admission: Admission, bodies: BodyReader, metrics: Metrics, guard: Guard) -> APIRouter:
    routes = APIRouter()

    @routes.post("/search/batch", summary="Many searches at once", openapi_extra=BATCH)
    async def search_batch(request: Request) -> Response:
        guard.check(request.headers.raw, "read")
        admitted = admission.enter()
        try:
            pipeline = serving.require()
            batch = from_json(await bodies.read(request.receive), BatchRequest)
            searches = [_checked(fields) for fields in batch.searches]
            embedded = await _embedded(searches, pipeline)
            request_id = context_of(request.scope).id
            answers = []
            for search in searches:
                answers.append(_answer(search, embedded, pipeline, admitted, metrics, request_id=request_id))
                await asyncio.sleep(0)  # single searches come in between
        finally:
            admission.leave()
        return Response(b'{"answers":[%b]}' % b",".join(answers), media_type="application/json")

    return routes


def _checked(fields: Mapping[str, object]) -> SearchRequest | ProblemError:
    """One of the batch; what is wrong with it spoils none of the others."""
    try:
        return checked(fields, SearchRequest, strict=True)
    except ProblemError as problem:
        return problem


async def _embedded(searches: list[SearchRequest | ProblemError], pipeline: Pipeline) -> Iterator[Embedded]:
    """The vectors of those that are right, in order. The tower runs beside the event loop, which searches meanwhile."""
    requests = [search for search in searches if isinstance(search, SearchRequest)]
    return iter(await asyncio.to_thread(pipeline.embed, requests))


def _answer(
    search: SearchRequest | ProblemError,
    embedded: Iterator[Embedded],
    pipeline: Pipeline,
    admitted: Admitted,
    metrics: Metrics,
    *,
    request_id: str,
) -> bytes:
    """The JSON of one answer, or of the problem that stands in its place; counted as a search of its own."""
    try:
        if isinstance(search, ProblemError):
            raise search
        clock, vector = Clock(), next(embedded)
        budget = pipeline.budget(search, clock=clock, admitted=admitted)
        answer = pipeline.search(search, clock=clock, budget=budget, embedded=vector)
        body = render(answer, clock)
    except ProblemError as problem:
        metrics.problem(problem.status)
        return problem.body(request_id)
    metrics.searched(answer, stages_ns=clock.stages_ns)
    return body
