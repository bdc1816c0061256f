"""Who may come in: decided by how long a request has waited already, before any work is done for it.

The pipeline runs inline on the event loop, so the requests that wait are the ones that the loop picks up late.
In one turn the loop takes every request that had arrived by its start; the k-th of them waited for the k - 1
before it. The turn's age at pick-up is therefore a request's waiting time in this process, without a timer.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter_ns
from typing import NamedTuple

from service.errors import OverloadedError


class Admitted(NamedTuple):
    waited_us: float
    overloaded: bool  # let in, but at a lower effort


class Admission:
    """Counts requests and measures waiting; used from the event loop only, so it needs no lock."""

    def __init__(
        self, *, max_waiting_ms: float, max_in_flight: int, now_ns: Callable[[], int] = perf_counter_ns
    ) -> None:
        self._now_ns = now_ns
        self._max_waiting_us = max_waiting_ms * 1000
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._turn_started_ns: int | None = None

    def enter(self) -> Admitted:
        """Let one request in; every `enter` that returns is followed by a `leave`.

        Raises:
            OverloadedError: it waited too long already, or too many are in flight.
        """
        waited_us = self._waited_us()
        if waited_us > self._max_waiting_us:
            raise OverloadedError(
                f"the request waited {waited_us / 1000:.0f} ms, limit {self._max_waiting_us / 1000:.0f} ms"
            )
        if self._in_flight >= self._max_in_flight:
            raise OverloadedError(f"{self._in_flight} requests in flight, limit {self._max_in_flight}")
        self._in_flight += 1
        return Admitted(waited_us, overloaded=waited_us > self._max_waiting_us / 2)

    def leave(self) -> None:
        self._in_flight -= 1

    def _waited_us(self) -> float:
        now = self._now_ns()
        if self._turn_started_ns is None:
            self._turn_started_ns = now
            asyncio.get_running_loop().call_soon(self._end_turn)
        return (now - self._turn_started_ns) / 1000

    def _end_turn(self) -> None:
        self._turn_started_ns = None
