"""When each request of a load is due: an open loop, which asks whether or not the server keeps up."""

from collections.abc import Callable, Iterator
from itertools import takewhile
from random import Random
from time import perf_counter
from typing import Literal

Arrivals = Literal["poisson", "constant"]  # as independent people come, with bursts; or in equal gaps


def due_times(*, rate: float, seconds: float, arrivals: Arrivals, seed: int) -> Iterator[float]:
    """Seconds from the start, rising, all before `seconds`; `rate` a second on average. Equal seeds, equal times."""
    times = _poisson(rate, seed) if arrivals == "poisson" else _constant(rate)
    return takewhile(lambda due: due < seconds, times)


class Schedule:
    """Due times that users share: whoever is free takes the next one, so a slow answer holds up one user only.

    None is skipped. A time that has passed already is still handed out, and latency counts from it: a server that
    stalls is charged for every request that it should have answered meanwhile (no coordinated omission).
    """

    def __init__(self, times: Iterator[float], *, clock: Callable[[], float] = perf_counter) -> None:
        self._times = times
        self._clock = clock
        self._started = 0.0
        self.taken = 0

    def start(self) -> None:
        """Let the due times count from now."""
        self._started = self._clock()

    def take(self) -> float | None:
        """The next due time, on the clock; None when all are taken."""
        due = next(self._times, None)
        if due is None:
            return None
        self.taken += 1
        return self._started + due

    def elapsed(self, moment: float) -> float:
        """Seconds from the start to a moment on the clock."""
        return moment - self._started

    def drop_rest(self) -> int:
        """Take all that is left; how many that was."""
        return sum(1 for _ in self._times)


def _poisson(rate: float, seed: int) -> Iterator[float]:
    draw, due = Random(seed), 0.0
    while True:
        due += draw.expovariate(rate)
        yield due


def _constant(rate: float) -> Iterator[float]:
    number = 0
    while True:
        yield number / rate  # not a sum of gaps, which would drift
        number += 1
