"""Around every request: id, clock, the headers that tell both, a line in the log, failures counted. Pure ASGI."""

import itertools
import os
import re
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from service.clock import Clock
from service.errors import MEDIA_TYPE, problem_body
from service.metrics import Metrics

SANE_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
CONTEXT: Final = "q2s"  # where the scope holds the request's context
SEARCH: Final = "/search"  # whose failures are counted, as its answers are
METHODS: Final = ("GET", "POST")  # of it


class RequestContext:
    """What belongs to one request: its id and its clock."""

    __slots__ = ("clock", "id")

    def __init__(self, request_id: str) -> None:
        self.id = request_id
        self.clock = Clock()


def context_of(scope: Scope) -> RequestContext:
    context: RequestContext = scope[CONTEXT]
    return context


class RequestContextMiddleware:
    """Gives each request its context; answers and logs what nobody below caught.

    Args:
        app: everything below.
        log: where requests are logged.
        log_every: one in so many; 0: failures alone.
        metrics: counts the failed searches.
    """

    def __init__(self, app: ASGIApp, *, log: FilteringBoundLogger, log_every: int, metrics: Metrics) -> None:
        self._app = app
        self._log = log
        self._metrics = metrics
        self._log_every = log_every
        self._prefix = os.urandom(6).hex()  # no other worker's ids; a counter is cheaper than a UUID each
        self._count = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        number = next(self._count)
        context = scope[CONTEXT] = RequestContext(_given_id(scope) or f"{self._prefix}-{number:x}")
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_headers(context)]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            return  # in the middle of its body: nobody to answer
        except Exception:
            self._log.exception("unexpected error", request_id=context.id, path=scope["path"])
            if status:
                raise  # half an answer is out: only closing the connection tells the client
            await _send_internal_error(send_with_headers, context.id)
        if status >= 400 and scope["path"] == SEARCH:
            self._metrics.problem(status)
        if status >= 500 or (self._log_every and number % self._log_every == 0):
            self._log_line(scope, context, status)

    def _log_line(self, scope: Scope, context: RequestContext, status: int) -> None:
        write = self._log.warning if status >= 500 else self._log.info
        write(
            "request",
            request_id=context.id,
            method=scope["method"],
            path=scope["path"],
            status=status,
            duration_us=round(context.clock.elapsed_us()),
            timings_us=context.clock.microseconds(),
        )


def _given_id(scope: Scope) -> str | None:
    """The client's X-Request-Id where it is harmless to repeat in a header and a log."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SANE_ID.fullmatch(value):
            return str(value, "ascii")
    return None


def _headers(context: RequestContext) -> list[tuple[bytes, bytes]]:
    headers = [(b"x-request-id", context.id.encode())]
    if context.clock.stages_ns:
        headers.append((b"server-timing", context.clock.server_timing().encode()))
    return headers


async def _send_internal_error(send: Send, request_id: str) -> None:
    detail = "an error of the server, not of the request; its log has it under this request_id"
    body = problem_body(500, detail, members={}, request_id=request_id)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
