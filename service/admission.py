"""Who may come in: decided by how long a request waits, before any work is done for it.

The pipeline runs inline on the event loop, so the requests that wait are the ones that the loop picks up late. In one
turn the loop takes all requests that have arrived by then, one after the other; those that arrive meanwhile lie in
their sockets until the next turn. A request of a turn that follows another at once may therefore be as old as the start
of the turn before, but no older than the last answer on its connection: that bound is its waiting time.

How long one may wait depends on the queue, as at Facebook (Maurer, "Fail at Scale", ACM Queue 2015): a burst is worked
off, while a queue that has not been empty for a while is no burst, and waiting in it helps nobody. Refusing keeps a
queue short, so that it is empty now and then for as long as the overload lasts: a refusal too says that there is one,
and it is over when nobody had to be refused for a while.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter_ns
from typing import NamedTuple

from service.errors import OverloadedError

STANDING_NS = 100_000_000  # a queue that has not been empty for so long stands
CALM_NS = 1_000_000_000  # without a refusal, the overload is over: those refused come back after as long
_PAUSE_NS = 10_000_000  # longer after the last answer, a turn follows no other: the loop stood still, or was stopped
_WEIGHT = 0.1  # of the newest turn in the mean time of a search


class Admitted(NamedTuple):
    waited_us: float  # at most
    overloaded: bool  # let in, but at a lower effort


class Admission:
    """Counts requests and measures waiting; used from the event loop only, so it needs no lock.

    Args:
        max_waiting_ms: a request that waited longer is refused; past half of it, its effort is lowered.
        max_standing_ms: the same while the queue stands, or somebody was refused shortly before.
        max_in_flight: requests at once, those whose body is still arriving included.
        now_ns: the clock.
    """

    def __init__(
        self,
        *,
        max_waiting_ms: float,
        max_standing_ms: float,
        max_in_flight: int,
        now_ns: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self._now_ns = now_ns
        self._max_waiting_us = max_waiting_ms * 1000
        self._max_standing_us = max_standing_ms * 1000
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._turn = 0
        self._turn_started_ns: int | None = None
        self._turn_before_ns: int | None = None  # start of the turn that this one follows at once
        self._in_turn = 0
        self._left_ns = 0
        self._expected = 0  # let through the door, to be picked up in the next turn
        self._turned_away = False  # some were not, since the last turn began
        self._search_us = 0.0
        self._empty_ns = now_ns()  # when the queue was empty last
        self._refused_ns: int | None = None  # when somebody was refused last

    def enter(self, *, not_before_ns: int = 0) -> Admitted:
        """Let one request in; every `enter` that returns is followed by a `leave`.

        Args:
            not_before_ns: it cannot have been sent earlier: when its connection answered the request before.

        Raises:
            OverloadedError: it waited too long already, or too many are in flight.
        """
        now = self._now_ns()
        started = self._turn_started_ns
        if started is None:
            started = self._begin_turn(now)
        self._in_turn += 1
        since = started if self._turn_before_ns is None else self._turn_before_ns
        waited_us = _age_us(now, since, not_before_ns)
        limit_us = self._limit_us(now)
        if waited_us > limit_us:
            self._refused_ns = now
            raise OverloadedError(f"the request waited {waited_us / 1000:.1f} ms, limit {limit_us / 1000:g} ms")
        if self._in_flight >= self._max_in_flight:
            raise OverloadedError(f"{self._in_flight} requests in flight, limit {self._max_in_flight}")
        self._in_flight += 1
        return Admitted(waited_us, overloaded=waited_us > limit_us / 2)

    def leave(self) -> None:
        self._in_flight -= 1
        self._left_ns = self._now_ns()

    def shut(self, *, not_before_ns: int = 0) -> bool:
        """Whether a search that is arriving now would wait too long; where it would not, it is expected.

        It waits for what was let in before it, each as long as a search takes on average. See `enter`.
        """
        now = self._now_ns()
        since = self._turn_before_ns if self._turn_started_ns is None else self._turn_started_ns
        waits_us = _age_us(now, now if since is None else since, not_before_ns) + self._expected * self._search_us
        if waits_us > self._limit_us(now):
            self._turned_away, self._refused_ns = True, now
            return True
        self._expected += 1
        return False

    def _limit_us(self, now: int) -> float:
        stands = now - self._empty_ns > STANDING_NS
        calm = self._refused_ns is None or now - self._refused_ns > CALM_NS
        return self._max_waiting_us if calm and not stands else self._max_standing_us

    def _begin_turn(self, now: int) -> int:
        if now - self._left_ns > _PAUSE_NS:
            self._turn_before_ns, self._empty_ns = None, now
        self._turn += 1
        self._turn_started_ns = now
        self._expected = self._in_turn = 0
        asyncio.get_running_loop().call_soon(self._end_turn, now)
        return now

    def _end_turn(self, started: int) -> None:
        """Runs after the turn's requests; the loop has read meanwhile what the next turn will pick up."""
        if self._in_turn == 1 and not self._turned_away:
            self._empty_ns = started
        self._turned_away = False
        spent_us = (self._left_ns - started) / 1000 / self._in_turn
        self._search_us += _WEIGHT * (max(spent_us, 0.0) - self._search_us)
        self._turn_before_ns, self._turn_started_ns = started, None
        loop = asyncio.get_running_loop()
        # The requests of a turn that follows at once are picked up within two rounds of the loop.
        loop.call_soon(loop.call_soon, self._rest, self._turn)

    def _rest(self, turn: int) -> None:
        """No other turn has followed that one: whoever comes next has not waited."""
        if turn == self._turn:
            self._turn_before_ns = None
            if not self._turned_away:
                self._empty_ns = self._now_ns()


def _age_us(now: int, since: int, not_before_ns: int) -> float:
    return max(0, now - max(since, not_before_ns)) / 1000
