"""Writes in an open loop, beside whatever else is measured: most are acknowledged, some wait until they are found."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Final, NamedTuple

import httpx
import msgspec
import numpy as np

from benchmarks.load_schedule import Arrivals, due_times
from benchmarks.open_loop import Outcome, ask
from benchmarks.open_loop_client import BROKEN, Load
from benchmarks.report import Row
from benchmarks.server import Server
from benchmarks.writes_material import Change, Material
from service.client import ClientError

FOUND, ACKNOWLEDGED = 200, 202  # what a write is answered with that waits, and one that does not
_POST_S: Final = 600.0  # that a request of many lines may take


class Written(NamedTuple):
    """What became of the writes of one load."""

    acknowledged: Outcome  # of those that did not wait
    searchable: Outcome  # of those that did: their latency ends when searches find what was written

    @property
    def asked(self) -> int:
        return self.acknowledged.asked + self.searchable.asked

    @property
    def done(self) -> int:
        """Those that were answered as they should be."""
        acknowledged, found = self.acknowledged.status == ACKNOWLEDGED, self.searchable.status == FOUND
        return int(acknowledged.sum()) + int(found.sum())

    @property
    def failures(self) -> Counter[int]:
        """By status, those that were answered otherwise; 0: not at all."""
        kinds = (self.acknowledged, ACKNOWLEDGED), (self.searchable, FOUND)
        failed = Counter(int(status) for each, right in kinds for status in each.status if status != right)
        return failed + Counter({BROKEN: sum(each.unanswered for each, _ in kinds)})

    @property
    def seconds(self) -> float:
        return self.acknowledged.load.seconds


@dataclass(frozen=True, kw_only=True)
class WriteLoad:
    """Writes that a server gets, whether or not it keeps up.

    Both kinds come from a client process of their own, so that neither waits for the other's connections.
    """

    server: Server
    material: Material
    rate: float  # writes a second
    waiting: float  # share of them that wait until they are searchable
    arrivals: Arrivals
    seed: int

    @contextmanager
    def going(self, seconds: float, outcomes: list[Written], *, number: int = 0) -> Iterator[None]:
        """Write for so long while the block runs, and add to `outcomes` what became of it; it may outlast the block.

        The clients take a moment to start. `number` makes arrivals of their own.

        Raises:
            ClientError: the server cannot be reached.
        """
        loads = [self._load(seconds, number, wait=wait) for wait in (False, True)]
        with ThreadPoolExecutor(len(loads)) as pool:
            asked = [pool.submit(ask, load) for load in loads]
            yield
            outcomes.append(Written(*(each.result() for each in asked)))

    def _load(self, seconds: float, number: int, *, wait: bool) -> Load:
        rate = self.rate * (self.waiting if wait else 1 - self.waiting)
        seed = self.seed + 2 * number + wait
        due = due_times(rate=rate, seconds=seconds, arrivals=self.arrivals, seed=seed)
        changes = self.material.take(sum(1 for _ in due))
        return Load(
            host=self.server.host,
            port=self.server.port,
            targets=[change.upload(wait=wait) for change in changes],
            rate=rate,
            seconds=seconds,
            arrivals=self.arrivals,
            seed=seed,
            connections=16,
            spin=False,
        )


def done_per_s(outcomes: Sequence[Written]) -> float:
    """Writes that were done, a second of load."""
    return sum(each.done for each in outcomes) / sum(each.seconds for each in outcomes)


def until_acknowledged_us(outcomes: Sequence[Written]) -> np.ndarray:
    """(n,) from when each was due."""
    return _latencies([each.acknowledged for each in outcomes], ACKNOWLEDGED)


def until_searchable_us(outcomes: Sequence[Written]) -> np.ndarray:
    """(n,) from when each was due. Its acknowledgement lies between, so from there it is less."""
    return _latencies([each.searchable for each in outcomes], FOUND)


def latency_row(name: str, latencies_us: np.ndarray) -> Row:
    """Of (n,) latencies."""
    p50, p99 = np.quantile(latencies_us, [0.5, 0.99]).tolist()
    return {"name": name, "count": len(latencies_us), "p50_us": p50, "p99_us": p99, "max_us": float(latencies_us.max())}


def _latencies(outcomes: Sequence[Outcome], status: int) -> np.ndarray:
    return np.concatenate([each.from_due_us[each.status == status] for each in outcomes])


class Posted(NamedTuple):
    """What became of lines."""

    lines: int
    done: int  # lines that were acknowledged
    seconds: float


def post(server: Server, changes: Sequence[Change]) -> Posted:
    """All of them as the lines of one `POST /products`.

    Raises:
        ClientError: the request as a whole failed.
    """
    url = f"http://{server.host}:{server.port}/products"
    started = perf_counter()
    try:
        answer = httpx.post(url, content=b"".join(change.line() for change in changes), timeout=_POST_S)
    except httpx.HTTPError as exc:
        raise ClientError(f"POST {url} broke off: {exc}") from exc
    if answer.is_error:
        raise ClientError(f"POST {url} answered {answer.status_code}: {answer.text[:200]}")
    done = sum(msgspec.json.decode(line)["status"] == ACKNOWLEDGED for line in answer.content.splitlines())
    return Posted(len(changes), done, perf_counter() - started)
