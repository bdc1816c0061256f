"""GET and POST /search: the hot route, a plain ASGI application from raw bytes to raw bytes."""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.admission import Admission, Admitted
from service.clock import Clock
from service.errors import BodyTooLargeError, DeadlineError, InvalidFieldError
from service.metrics import Metrics
from service.middleware import context_of
from service.pipeline import Answer
from service.rendering import render
from service.schemas import SearchRequest, from_json, from_query_string
from service.serving import Serving

JSON = (b"content-type", b"application/json")


class SearchEndpoint:
    """Admits, checks, searches inline on the event loop, and answers."""

    def __init__(
        self, *, serving: Serving, admission: Admission, metrics: Metrics, max_body_bytes: int, body_timeout_s: float
    ) -> None:
        self._serving = serving
        self._admission = admission
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        clock = context_of(scope).clock
        admitted = self._admission.enter()
        try:
            request = await self._request(scope, receive)
            answer, body = self._answer(request, clock, admitted)
        except ClientDisconnect:
            return
        finally:
            self._admission.leave()
        headers = [JSON, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._metrics.searched(
            first_page=answer.page == 1,
            effort=answer.point.effort,
            degraded=answer.degraded,
            stages_ns=clock.stages_ns,
        )

    def _answer(self, request: SearchRequest, clock: Clock, admitted: Admitted) -> tuple[Answer, bytes]:
        pipeline = self._serving.require()
        budget = pipeline.budget(request, clock=clock, admitted=admitted)
        answer = pipeline.search(request, clock=clock, budget=budget)
        return answer, render(answer, clock)

    async def _request(self, scope: Scope, receive: Receive) -> SearchRequest:
        self._serving.require()  # nothing else matters before there is something to search
        query_string: bytes = scope["query_string"]
        if scope["method"] != "POST":
            return from_query_string(query_string, SearchRequest)
        if query_string:
            raise InvalidFieldError("query string", query_string.decode("latin-1"), "a POST has its fields in its body")
        try:
            async with asyncio.timeout(self._body_timeout_s):
                body = await read_body(receive, limit=self._max_body_bytes)
        except TimeoutError as exc:
            raise DeadlineError(f"the body did not arrive within {self._body_timeout_s:g} s") from exc
        return from_json(body, SearchRequest)


async def read_body(receive: Receive, *, limit: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLargeError: it has more than `limit` bytes; the rest is not read.
        ClientDisconnect: nobody waits for an answer any more.
    """
    chunks: list[bytes] = []
    length = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        length += len(chunks[-1])
        if length > limit:
            raise BodyTooLargeError(f"the body has more than {limit} bytes")
        more = message.get("more_body", False)
    return b"".join(chunks)
