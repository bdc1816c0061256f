"""uvicorn's HTTP/1.1 connection with two things more: a door, and a look whether the client is still there.

A refused search should cost next to nothing, or refusing is what the server spends its time on. Parsing a request and
making a task for it are a third of a search's cost; at the door, the bytes of a GET are answered as they are read.
"""

import itertools
import os
import select
from asyncio import AbstractEventLoop, Transport
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, Final

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.admission import Admission
from service.errors import MEDIA_TYPE, OverloadedError
from service.metrics import Metrics

DOOR: Final = "q2s.door"  # where the application's lifespan state holds it
GONE: Final = "q2s.gone"  # where the scope tells whether the client hung up
FREE: Final = "q2s.free"  # ... and since when the connection has waited for a request, on the clock of perf_counter_ns
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
        self._prefix = f"{os.urandom(6).hex()}-d"
        self._count = itertools.count(1)

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
        return self._answer(f"{self._prefix}{next(self._count):x}")

    def _answer(self, request_id: str) -> bytes:
        problem = OverloadedError("too many searches are waiting; come back after Retry-After seconds")
        body = problem.body(request_id)
        head = [f"HTTP/1.1 {problem.status:d} {problem.status.phrase}", f"content-type: {MEDIA_TYPE}"]
        head += [f"{name.lower()}: {value}" for name, value in problem.headers.items()]
        head += [f"content-length: {len(body)}", f"x-request-id: {request_id}"]
        return "\r\n".join(head).encode() + _END + body


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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._door: Door | None = self.app_state.get(DOOR)
        self._within_message = False
        self._free_ns = 0
        self._hung_up = select.poll()

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        self.transport = WholeAnswers(transport, self.loop)  # type: ignore[assignment]  # it is one in all that is used
        self._free_ns = perf_counter_ns()
        self._hung_up.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)

    def data_received(self, data: bytes) -> None:
        before: RequestResponseCycle | None = self.cycle
        idle = not self._within_message and (before is None or before.response_complete)
        refusal = self._door.refusal(data, not_before_ns=self._free_ns) if self._door is not None and idle else None
        if refusal is None:
            super().data_received(data)
            return
        self._unset_keepalive_if_required()
        self.transport.write(refusal)
        self._free_ns = perf_counter_ns()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._within_message = True
        # Servers may add keys of their own to the scope.
        self.scope[GONE] = self._gone  # type: ignore[typeddict-unknown-key]
        self.scope[FREE] = self._free_ns  # type: ignore[typeddict-unknown-key]

    def on_message_complete(self) -> None:
        self._within_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._free_ns = perf_counter_ns()
        super().on_response_complete()

    def _gone(self) -> bool:
        """Whether the client hung up, as the kernel knows before the event loop has read it."""
        if not self.transport.is_closing() and not self._hung_up.poll(0):
            return False
        self.cycle.disconnected = True  # so that uvicorn expects no answer
        return True


def free_since(scope: Scope) -> int:
    """Since when the connection had nothing to answer; 0 under a server that cannot tell."""
    since: int = scope.get(FREE, 0)
    return since


def client_gone(scope: Scope) -> bool:
    """Whether nobody waits for the answer any more; False under a server that cannot tell."""
    gone: Callable[[], bool] | None = scope.get(GONE)
    return gone is not None and gone()
