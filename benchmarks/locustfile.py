"""People who search, page deeper, and leave, in an open loop; an empty route asked in between as the floor.

`que2search bench load` runs it with everything around it. By itself, from the project's root, against a running server:

    GEVENT_BACKEND=select locust -f benchmarks/locustfile.py --headless --host http://127.0.0.1:8000 \
        --users 9 --spawn-rate 9 --rate 200 --duration 60 --release var/releases/sample

One of the users asks the empty route. With `select`, timers are as fine as the kernel's; gevent's default, `epoll`,
rounds them up to milliseconds, and each request would be sent late.
"""

import logging
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

import gevent
import locust.stats
from gevent.event import AsyncResult
from locust import FastHttpUser, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import LocalRunner
from rich.console import Console

from benchmarks.load_queries import read_golden_queries
from benchmarks.load_report import FLOOR, LoadResult
from benchmarks.load_run import Load
from benchmarks.load_schedule import Arrivals, Schedule
from benchmarks.load_walk import CheckError, Walk, check_status
from models.errors import ReleaseError

EMPTY_ROUTE = "/livez"  # touches no release

# Stock Locust rounds to whole milliseconds.
locust.stats.bucket_response_time = lambda milliseconds: round(milliseconds, 2)  # type: ignore[assignment, return-value]


class LoadUser(FastHttpUser):
    """Takes due times from a schedule until none is left; the waiting is part of the task, since it is for one time."""

    abstract = True
    load: Load  # of the present run
    wait_time = constant(0)
    network_timeout = 10.0
    connection_timeout = 5.0

    def on_start(self) -> None:
        self.load.wait_for_begin()

    def next_due(self, schedule: Schedule) -> float:
        """The next due time; without one the user stops."""
        due = schedule.take()
        if due is None:
            self.load.leave()
            raise StopUser
        return due

    def ask(self, row: str, target: str, *, due: float, check: Callable[[int, bytes], None]) -> None:
        """Send a request when it is due, at once where that has passed; check and record the answer."""
        free = perf_counter()
        gevent.sleep(max(0.0, due - free))
        sent = perf_counter()
        with self.client.get(target, name=row, catch_response=True) as response:
            now = perf_counter()
            response.request_meta["response_time"] = (now - due) * 1e3  # Locust's own figures count from the due time
            timing = (response.headers or {}).get("server-timing") or ""
            self.load.answered(row, due=due, free=free, sent=sent, now=now, timing=timing)
            try:
                check(response.status_code, response.content or str(getattr(response, "error", "")).encode())
            except CheckError as failure:
                self.load.recorder.fail(row, failure.reason, failure.detail)
                response.failure(failure)


class Searcher(LoadUser):
    """Asks for a first page, perhaps for more, and then for something else."""

    def on_start(self) -> None:
        super().on_start()
        self.walk = Walk(self.load.queries.draw())

    @task
    def next_page(self) -> None:
        due = self.next_due(self.load.searches)
        self.ask(self.walk.row, self.walk.target, due=due, check=self.accept)
        if not self.walk.goes_on(self.load.draw):
            self.walk = Walk(self.load.queries.draw())

    def accept(self, status: int, body: bytes) -> None:
        self.load.recorder.degraded += self.walk.accept(status, body).search.degraded


class FloorAsker(LoadUser):
    """Asks the empty route at random moments of the same run, and waits behind searches as they do."""

    fixed_count = 1

    @task
    def ask_for_nothing(self) -> None:
        self.ask(FLOOR, EMPTY_ROUTE, due=self.next_due(self.load.floor), check=check_status)


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Options beside Locust's own; its --run-time would cut off what is due and unanswered."""
    group = parser.add_argument_group("que2search")
    group.add_argument("--rate", type=float, default=200.0, help="searches a second, pages of all kinds")
    group.add_argument("--duration", type=float, default=60.0, help="seconds measured, after one of warm-up")
    group.add_argument("--arrivals", choices=get_args(Arrivals), default="poisson", help="how due times follow")
    group.add_argument("--seed", type=int, default=0, help="of due times and queries")
    group.add_argument("--p99-budget-ms", type=float, default=1.5, help="for the first page, in the server")
    group.add_argument("--release", default="var/releases/sample", help="directory whose golden queries are asked")
    group.add_argument("--server", default="", help="what answers, for the result's conditions")
    group.add_argument("--out", default="", help="folder for load.json, load.md and load.png")


@events.init.add_listener
def refuse_what_cannot_work(environment: Environment, runner: object, **_: Any) -> None:
    """Before anything is asked: one process has the one schedule, and the queries must be there."""
    logging.getLogger("locust.stats_logger").setLevel(logging.ERROR)  # the table is ours
    if not isinstance(runner, LocalRunner):
        raise SystemExit("this load runs in one process: leave out --master, --worker and --processes")
    options = options_of(environment)
    if options.headless and (options.num_users or 1) < 2:
        raise SystemExit("this load needs --users of at least 2: one of them asks the empty route")
    try:
        read_golden_queries(Path(options.release))
    except ReleaseError as exc:
        raise SystemExit(f"error: {exc}") from exc


@events.test_start.add_listener
def start(environment: Environment, **_: Any) -> None:
    """Users wait until all of them are there."""
    users = AsyncResult()

    def all_there(user_count: int) -> None:
        users.set(user_count)

    environment.events.spawning_complete.add_listener(all_there)
    LoadUser.load = Load(options_of(environment), host=environment.host or "")
    gevent.spawn(conduct, environment, LoadUser.load, users)


def conduct(environment: Environment, load: Load, users: AsyncResult) -> None:
    """Run to the end, report, and stop; without a web page, end the process with the verdict as its exit code."""
    try:
        result = load.run(users.get())
        report(result, options_of(environment).out)
        environment.process_exit_code = 0 if result.passed else 1
    finally:  # whatever happens, nobody waits for an end that does not come
        if environment.runner is not None:
            environment.runner.stop() if environment.web_ui else environment.runner.quit()


def report(result: LoadResult, out: str) -> None:
    """The table, the files where a folder is named, the verdict."""
    console = Console(highlight=False)
    console.print(result.table())
    for path in result.save(Path(out)) if out else []:
        console.print(f"[green]wrote[/green] {path}")
    console.print(result.verdict, style="green" if result.passed else "red", markup=False, soft_wrap=True)


@events.quitting.add_listener
def no_verdict_is_no_success(environment: Environment, **_: Any) -> None:
    """Stopped from outside before its end, a load has proved nothing."""
    if environment.process_exit_code is None:
        environment.process_exit_code = 1


def options_of(environment: Environment) -> Namespace:
    """As the command `locust` parsed them."""
    return environment.parsed_options or Namespace()
