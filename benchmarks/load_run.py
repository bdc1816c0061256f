"""One load: what its users share, its clock, its blocks of a second, and its end."""

import os
from argparse import Namespace
from pathlib import Path
from random import Random
from time import perf_counter, process_time

from gevent.event import Event
from gevent.hub import get_hub

from benchmarks.conditions import conditions
from benchmarks.disturbance import cpu_times, steal_between
from benchmarks.load_queries import UNSEEN, QueryMix, read_golden_queries
from benchmarks.load_record import CLIENT, FROM_SEND, LATE, Recorder, Sample, server_timing
from benchmarks.load_report import LoadResult, load_result
from benchmarks.load_schedule import Schedule, due_times
from benchmarks.load_walk import SIZE

FLOOR_SHARE = 0.1  # of the rate, on top of it
WARM_UP_S = 1.0  # asked and checked, not measured
DRAIN_S = 15.0  # how long answers are awaited after the last request was due
BLOCK_S = 1.0


class Load:
    """The schedules, the queries and the record of one run.

    Args:
        options: rate, duration, arrivals, seed, p99_budget_ms, release, server.
        host: the address under load.

    Raises:
        ReleaseError: the release has no golden queries.
    """

    def __init__(self, options: Namespace, *, host: str) -> None:
        golden = read_golden_queries(Path(options.release))
        seconds, rate, seed = WARM_UP_S + options.duration, options.rate, options.seed
        self.queries = QueryMix(golden, seed=seed)
        self.draw = Random(seed)
        self.recorder = Recorder()
        self.searches = Schedule(due_times(rate=rate, seconds=seconds, arrivals=options.arrivals, seed=seed))
        # At random moments whatever the searches do: in step with them, it would always meet the same one.
        random_moments = due_times(rate=rate * FLOOR_SHARE, seconds=seconds, arrivals="poisson", seed=seed + 1)
        self.floor = Schedule(random_moments)
        self._options, self._host, self._golden = options, host, golden
        self._begun, self._done = Event(), Event()
        self._users = self._users_left = 0
        self._load_average = round(os.getloadavg()[0], 2)

    def wait_for_begin(self) -> None:
        """Called by each user: returns when the clock has started."""
        self._begun.wait()

    def leave(self) -> None:
        """Called by a user that found nothing left to ask; the last one ends the run."""
        self._users_left -= 1
        if self._users_left == 0:
            self._done.set()

    def answered(self, row: str, *, due: float, free: float, sent: float, now: float, timing: str) -> None:
        """Record an answer; outside the warm-up, its latencies.

        Args:
            row: the kind of page.
            due: when its request was due, a moment of `perf_counter` like the others.
            free: when a user was free to wait for that.
            sent: when it was sent.
            now: when the answer was there.
            timing: its Server-Timing header.
        """
        self.recorder.asked[row] += 1
        if self.searches.elapsed(due) >= WARM_UP_S:
            # Late is the generator's own part: it had nothing else to do and sent too late all the same.
            seconds = {CLIENT: now - due, FROM_SEND: now - sent, LATE: sent - max(due, free)}
            client = {name: passed * 1e6 for name, passed in seconds.items()}
            self.recorder.add(Sample(row, client | server_timing(timing)))

    def run(self, users: int) -> LoadResult:
        """Start the clock for so many users, close a block a second, and wait for the last answer, not for ever.

        Raises:
            ValueError: of fewer than two users, none would search.
        """
        if users < 2:
            raise ValueError(f"users={users}: one asks the empty route, so at least 2 are needed")
        self._users = self._users_left = users
        started, cpu, before = perf_counter(), process_time(), cpu_times()
        self.searches.start()
        self.floor.start()
        self._begun.set()
        while not self._done.wait(BLOCK_S) and self.searches.elapsed(perf_counter()) < self._patience_s:
            now = cpu_times()
            self.recorder.close_block(steal_between(before, now))
            before = now
        self.recorder.close_block(steal_between(before, cpu_times()))
        seconds = perf_counter() - started
        return self._result(seconds=seconds, client_cpu=(process_time() - cpu) / seconds)

    @property
    def _patience_s(self) -> float:
        return float(WARM_UP_S + self._options.duration + DRAIN_S)

    def _result(self, *, seconds: float, client_cpu: float) -> LoadResult:
        options, steals = self._options, self.recorder.steals
        due = sum(schedule.taken + schedule.drop_rest() for schedule in (self.searches, self.floor))
        answered = self.recorder.asked.total()
        return load_result(
            self.recorder,
            title=f"{options.rate:g} searches/s ({options.arrivals}) for {options.duration:g} s at {self._host}",
            budget_ms=options.p99_budget_ms,
            unanswered=due - answered,
            conditions=conditions(
                threads=1,
                cores=os.cpu_count(),  # of the machine; the client's own are fewer
                load_average=self._load_average,  # of everything that runs here, before this load
                server=options.server or self._host,
                client_cores=sorted(os.sched_getaffinity(0)),
                client_cpu=round(client_cpu, 3),
                timers=get_hub().loop.backend,
                searches_per_second=options.rate,
                arrivals=options.arrivals,
                answered_per_second=round(answered / seconds, 1),
                empty_route_per_second=options.rate * FLOOR_SHARE,
                users=self._users,
                seconds=options.duration,
                warm_up_s=WARM_UP_S,
                seed=options.seed,
                hits_per_page=SIZE,
                golden_queries=len(self._golden),
                unseen_queries=UNSEEN,
                blocks=len(steals) - self.recorder.set_aside,
                blocks_set_aside=self.recorder.set_aside,
                steal=round(sum(steals) / len(steals), 4),
            ),
        )
