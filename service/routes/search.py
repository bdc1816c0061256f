"""GET and POST /search: the hot route, a plain ASGI application from raw bytes to raw bytes."""

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.admission import Admission
from service.body import BodyReader
from service.connection import client_gone, free_since
from service.errors import InvalidFieldError, ProblemError
from service.keys import Guard
from service.metrics import Metrics
from service.middleware import context_of
from service.rendering import render
from service.responses import problem_response
from service.schemas import SearchRequest, from_json, from_query_string
from service.serving import Serving

JSON = (b"content-type", b"application/json")


class SearchEndpoint:
    """Admits, checks, searches inline on the event loop, and answers."""

    def __init__(
        self, *, serving: Serving, admission: Admission, bodies: BodyReader, metrics: Metrics, guard: Guard
    ) -> None:
        self._serving = serving
        self._admission = admission
        self._bodies = bodies
        self._metrics = metrics
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        except ProblemError as problem:
            await problem_response(problem, scope)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        clock = context_of(scope).clock
        self._guard.check(scope["headers"], "read")
        admitted = self._admission.enter(not_before_ns=free_since(scope))
        try:
            if client_gone(scope):
                self._metrics.dropped()
                raise ClientDisconnect
            pipeline = self._serving.require()
            request = await self._request(scope, receive)
            budget = pipeline.budget(request, clock=clock, admitted=admitted)
            answer = pipeline.search(request, clock=clock, budget=budget)
            body = render(answer, clock)
        finally:
            self._admission.leave()
        headers = [JSON, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._metrics.searched(answer, stages_ns=clock.stages_ns)

    async def _request(self, scope: Scope, receive: Receive) -> SearchRequest:
        query_string: bytes = scope["query_string"]
        if scope["method"] != "POST":
            return from_query_string(query_string, SearchRequest)
        if query_string:
            raise InvalidFieldError("query string", query_string.decode("latin-1"), "a POST has its fields in its body")
        return from_json(await self._bodies.read(receive), SearchRequest)
