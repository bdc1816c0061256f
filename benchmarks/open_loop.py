"""An open loop: requests leave when they are due, whether or not the server keeps up, and latency counts from then."""

import subprocess
import sys
from dataclasses import dataclass

import msgspec
import numpy as np

from benchmarks.client import SUCCESS
from benchmarks.conditions import ROOT
from benchmarks.open_loop_client import DRAIN_S, Load, Replies
from service.client import ClientError

_SPARE_S = 30.0  # for starting the client's process and handing its replies over


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a load; arrays (n,) with one entry for each answered request, in the order of the answers."""

    load: Load
    due_s: np.ndarray  # from the load's start
    done_s: np.ndarray
    from_due_us: np.ndarray  # the latency that a user has
    from_send_us: np.ndarray
    late_us: np.ndarray  # how long the client itself held it back, with a connection free: its error
    server_us: np.ndarray  # total of the Server-Timing header; nan where there was none
    status: np.ndarray  # 0: the connection ended before the answer did
    degraded: np.ndarray  # bool
    unanswered: int  # due, and without an answer `DRAIN_S` after the last one was

    @property
    def asked(self) -> int:
        return len(self.status) + self.unanswered

    @property
    def succeeded(self) -> np.ndarray:
        """(n,) bool."""
        succeeded: np.ndarray = self.status == SUCCESS
        return succeeded

    @property
    def answered_per_s(self) -> float:
        """Successes during the load; what came later is not counted."""
        return float((self.succeeded & (self.done_s <= self.load.seconds)).sum()) / self.load.seconds

    def share(self, status: int) -> float:
        """Of all requests, those answered with this status."""
        return float((self.status == status).sum()) / self.asked if self.asked else 0.0


def ask(load: Load) -> Outcome:
    """Carry out a load in a process of its own.

    Raises:
        ClientError: the server cannot be reached, or the client's process did not end in time; tells its last words.
    """
    command = [sys.executable, "-m", "benchmarks.open_loop_client"]
    try:
        ran = subprocess.run(  # noqa: S603 - our own module
            command,
            input=msgspec.msgpack.encode(load),
            capture_output=True,
            cwd=ROOT,
            timeout=load.seconds + DRAIN_S + _SPARE_S,
            check=True,
        )
    except subprocess.CalledProcessError as exc:
        raise ClientError(f"the load on {load.host}:{load.port} failed: {exc.stderr.decode()[-500:]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise ClientError(f"the load on {load.host}:{load.port} did not end {exc.timeout:g} s after its start") from exc
    return outcome_of(load, msgspec.msgpack.decode(ran.stdout, type=Replies))


def outcome_of(load: Load, answered: Replies) -> Outcome:
    """Replies as columns, in microseconds where they are latencies."""
    columns = list(zip(*answered.replies, strict=True)) or [()] * 7
    due, ready, sent, done, server = (np.array(columns[at], dtype=np.float64) for at in (0, 1, 2, 3, 5))
    return Outcome(
        load=load,
        due_s=due,
        done_s=done,
        from_due_us=(done - due) * 1e6,
        from_send_us=(done - sent) * 1e6,
        late_us=(sent - ready) * 1e6,
        server_us=server,
        status=np.array(columns[4], dtype=np.int64),
        degraded=np.array(columns[6], dtype=bool),
        unanswered=answered.unanswered,
    )
