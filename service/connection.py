"""uvicorn's HTTP/1.1 connection with three things more: a door, a look whether the client is still there, and limits.

A refused search should cost next to nothing, or refusing is what the server spends its time on. Parsing a request and
making a task for it are a third of a search's cost; at the door, the bytes of a GET are answered as they are read.
uvicorn reads request lines and headers of any length for as long as they take; here they have a size and a time.
"""

import itertools
import os
import select
from asyncio import AbstractEventLoop, TimerHandle, Transport
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, Final

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.admission import Admission
from service.errors import MEDIA_TYPE, HeadTooLargeError, OverloadedError, ProblemError
from service.metrics import Metrics

DOOR: Final = "q2s.door"  # where the application's lifespan state holds it
GONE: Final = "q2s.gone"  # where the scope tells whether the client hung up
FREE: Final = "q2s.free"  # ... and since when the connection has waited for a request, on the clock of perf_counter_ns
MAX_HEAD_BYTES: Final = 65_536  # of a request line with its headers, when they come in more than one piece
_SEARCH: Final = b"GET /search?"
_END: Final = b"\r\n\r\n"


class Door:
    """Answers a search with 429 where it would wait too long, before it is parsed.

    Args:
        admission: knows how long it would wait.
        metrics: counts the refusals.
    """

    def __init__(self, admission: Admission, metrics: Metrics) -> None:
        self._admission = admission
        self._metrics = metrics
        self._prefix = f"{os.urandom(6).hex()}-d".encode()
        self._count = itertools.count(1)
        problem = OverloadedError("too many searches are waiting; come back after Retry-After seconds")
        first = self._next_id()  # all are as long, so the answers differ in nothing else
        self._between_ids = _answer(problem, first.decode()).split(first)

    def refusal(self, received: bytes, *, not_before_ns: int) -> bytes | None:
        """The whole answer to these bytes; None: let them in. Only a lone, complete GET of /search is refused here.

        Args:
            received: what was read of the connection.
            not_before_ns: see `Admission.enter`.
        """
        whole = received.startswith(_SEARCH) and received.find(_END) == len(received) - len(_END)
        if not whole or b"close" in received or not self._admission.shut(not_before_ns=not_before_ns):
            return None  # what says `Connection: close` takes the long way, which closes it
        self._metrics.problem(OverloadedError.status)
        return self._next_id().join(self._between_ids)

    def _next_id(self) -> bytes:
        return b"%b%08x" % (self._prefix, next(self._count))


class WholeAnswers:
    """A transport that sends an answer's head together with the body that follows at once.

    uvicorn writes them one after the other. Two system calls cost more than one, and the first wakes the client for
    nothing: 2.5 to 5 % of a search, where client and server share a core.
    """

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            self._transport.write(self._head + data)
            self._head = b""
        elif data.startswith(b"HTTP/1.1 ") and data.endswith(_END):
            self._head = data
            self._loop.call_soon(self._flush)  # for an answer without a body, or whose body takes its time
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""


class Connection(HttpToolsProtocol):
    """One client's connection."""

    head_timeout_s = 10.0  # for the rest of a request's line and headers to arrive
    idle_timeout_s = 75.0  # for the next request: load balancers, which wait for 60, never find theirs closed

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.timeout_keep_alive = self.idle_timeout_s  # type: ignore[assignment]  # a fraction serves as well
        self._door: Door | None = self.app_state.get(DOOR)
        self._within_message = False
        self._within_head = False
        self._head_bytes = 0  # of a head that is not whole yet
        self._head_timeout: TimerHandle | None = None
        self._free_ns = 0
        self._hung_up = select.poll()

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        self.transport = WholeAnswers(transport, self.loop)  # type: ignore[assignment]  # it is one in all that is used
        self._free_ns = perf_counter_ns()
        self._hung_up.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        self._close_when_idle()  # uvicorn would wait for a first request for ever

    def data_received(self, data: bytes) -> None:
        before: RequestResponseCycle | None = self.cycle
        idle = not self._within_message and (before is None or before.response_complete)
        refusal = self._door.refusal(data, not_before_ns=self._free_ns) if self._door is not None and idle else None
        if refusal is None:
            goes_on = self._within_head
            super().data_received(data)
            if self._within_head:
                self._wait_for_the_rest(len(data) if goes_on else 0)  # a first piece may end with other requests
            return
        self._unset_keepalive_if_required()
        self.transport.write(refusal)
        self._free_ns = perf_counter_ns()
        self._close_when_idle()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._within_message = self._within_head = True
        # Servers may add keys of their own to the scope.
        self.scope[GONE] = self._gone  # type: ignore[typeddict-unknown-key]
        self.scope[FREE] = self._free_ns  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        self._within_head = False
        self._head_bytes = 0
        self._forget_timeout()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._within_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._free_ns = perf_counter_ns()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timeout()
        super().connection_lost(exc)

    def _close_when_idle(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _wait_for_the_rest(self, size: int) -> None:
        """The head goes on in another piece: so much of it, and for so long."""
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
        elif self._head_timeout is None:
            self._head_timeout = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _refuse_head(self) -> None:
        before: RequestResponseCycle | None = self.cycle
        if before is None or before.response_complete:  # or it would stand in the middle of another answer
            problem = HeadTooLargeError(f"the request's line and headers have more than {MAX_HEAD_BYTES} bytes")
            self.transport.write(_answer(problem, os.urandom(6).hex()))
        self.transport.close()

    def _forget_timeout(self) -> None:
        if self._head_timeout is not None:
            self._head_timeout.cancel()
            self._head_timeout = None

    def _gone(self) -> bool:
        """Whether the client hung up, as the kernel knows before the event loop has read it."""
        if not self.transport.is_closing() and not self._hung_up.poll(0):
            return False
        self.cycle.disconnected = True  # so that uvicorn expects no answer
        return True


def _answer(problem: ProblemError, request_id: str) -> bytes:
    """A whole answer, head and body."""
    body = problem.body(request_id)
    head = [f"HTTP/1.1 {problem.status:d} {problem.status.phrase}", f"content-type: {MEDIA_TYPE}"]
    head += [f"{name.lower()}: {value}" for name, value in problem.headers.items()]
    head += [f"content-length: {len(body)}", f"x-request-id: {request_id}"]
    return "\r\n".join(head).encode() + _END + body


def free_since(scope: Scope) -> int:
    """Since when the connection had nothing to answer; 0 under a server that cannot tell."""
    since: int = scope.get(FREE, 0)
    return since


def client_gone(scope: Scope) -> bool:
    """Whether nobody waits for the answer any more; False under a server that cannot tell."""
    gone: Callable[[], bool] | None = scope.get(GONE)
    return gone is not None and gone()
