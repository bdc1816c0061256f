"""The asking side of an open loop: one thread, a few kept connections, nothing imported that it does not need.

python -m benchmarks.open_loop_client < LOAD > REPLIES        msgpack in, msgpack out; see benchmarks/open_loop.py
"""

import gc
import os
import select
import socket
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import Final, NamedTuple

import msgspec

from benchmarks.answers import HEAD_ENDS, content_length, is_degraded, server_total_us, status_of
from benchmarks.load_schedule import Arrivals, Schedule, due_times

BROKEN: Final = 0  # instead of a status: the connection ended before the answer did
DRAIN_S: Final = 5.0  # what is still unanswered so long after the last due time stays unanswered
_CHUNK: Final = 1 << 16


class Upload(msgspec.Struct, frozen=True):
    """A request that is no GET."""

    method: str
    target: str
    body: bytes = b""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask, and when."""

    host: str
    port: int
    targets: Sequence[str | Upload]  # asked in turn, from number `first` on; a string is what to GET
    rate: float  # requests a second, on average
    seconds: float
    arrivals: Arrivals = "poisson"
    seed: int = 0
    connections: int = 8  # what is due while all are busy waits here, and its latency counts on
    core: int | None = None  # the client's; None: wherever it is put
    spin: bool = True  # look for answers without sleeping: right on a core of its own, wrong on the server's
    first: int = 0


class Reply(NamedTuple):
    """One request; seconds from the start of the load."""

    due: float
    ready: float  # when it was due and a connection was free
    sent: float
    done: float
    status: int  # BROKEN: there was no answer
    server_us: float | None  # the total of the Server-Timing header
    degraded: bool


class Replies(msgspec.Struct, frozen=True, kw_only=True):
    """All that was answered, in the order of the answers; and how many requests never were."""

    replies: list[Reply]
    unanswered: int


class Client:
    """Sends what is due, whether or not earlier requests are answered.

    Raises:
        OSError: the server cannot be reached.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._epoll = select.epoll()
        self._requests = [_request(load, target) for target in load.targets]
        self._free = [self._connect() for _ in range(load.connections)]
        self._busy: dict[int, _Connection] = {}
        self._replies: list[Reply] = []
        times = due_times(rate=load.rate, seconds=load.seconds, arrivals=load.arrivals, seed=load.seed)
        self._schedule = Schedule(times)

    def run(self) -> Replies:
        """Ask everything, then wait for the last answers."""
        self._schedule.start()
        due = self._schedule.take()
        while due is not None or self._busy:
            now = perf_counter()
            if due is not None and due <= now and self._free:
                self._send(self._free.pop(), due, now)
                due = self._schedule.take()
            elif self._schedule.elapsed(now) > self._load.seconds + DRAIN_S:
                break
            else:
                self._receive(self._wait_s(due, now))
        left = len(self._busy) + (due is not None) + self._schedule.drop_rest()
        self._hang_up()
        return Replies(replies=self._replies, unanswered=left)

    def _wait_s(self, due: float | None, now: float) -> float:
        """How long there is nothing to do but to listen."""
        if self._load.spin:
            return 0.0
        return due - now if due is not None and self._free else DRAIN_S

    def _send(self, connection: "_Connection", due: float, now: float) -> None:
        connection.due, connection.ready, connection.sent = due, max(due, connection.freed), now
        request = self._requests[(self._load.first + self._schedule.taken - 1) % len(self._requests)]
        self._busy[connection.socket.fileno()] = connection
        try:
            connection.socket.sendall(request)
        except OSError:
            self._broken(connection)

    def _receive(self, wait_s: float) -> None:
        """Read what has arrived; epoll itself would wait in steps of a millisecond, select does not."""
        if wait_s > 0 and not select.select([self._epoll], [], [], wait_s)[0]:
            return
        for descriptor, _ in self._epoll.poll(0):
            connection = self._busy.get(descriptor)
            if connection is None:  # closed by the server, since nothing was asked for too long
                self._replace(descriptor)
            elif not connection.read():
                self._broken(connection)
            elif connection.complete:
                self._done(connection, status_of(connection.received))

    def _done(self, connection: "_Connection", status: int) -> None:
        now, elapsed, received = perf_counter(), self._schedule.elapsed, connection.received
        self._replies.append(
            Reply(
                due=elapsed(connection.due),
                ready=elapsed(connection.ready),
                sent=elapsed(connection.sent),
                done=elapsed(now),
                status=status,
                server_us=server_total_us(received),
                degraded=is_degraded(received),
            )
        )
        del self._busy[connection.socket.fileno()]
        connection.free(now)
        self._free.append(connection)

    def _broken(self, connection: "_Connection") -> None:
        descriptor = connection.socket.fileno()
        self._done(connection, BROKEN)
        self._replace(descriptor)

    def _replace(self, descriptor: int) -> None:
        """Connect anew instead of a free connection that has ended."""
        ended = next(each for each in self._free if each.socket.fileno() == descriptor)
        self._free.remove(ended)
        ended.socket.close()
        self._free.append(self._connect())

    def _hang_up(self) -> None:
        for connection in (*self._free, *self._busy.values()):
            connection.socket.close()
        self._epoll.close()

    def _connect(self) -> "_Connection":
        connection = _Connection(self._load.host, self._load.port)
        self._epoll.register(connection.socket, select.EPOLLIN)
        return connection


class _Connection:
    """A kept connection and the request on it."""

    __slots__ = ("_end", "due", "freed", "ready", "received", "sent", "socket")

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = self.ready = self.sent = 0.0
        self.free(0.0)

    @property
    def complete(self) -> bool:
        return 0 < self._end <= len(self.received)

    def free(self, moment: float) -> None:
        """Nothing is asked any more, from `moment` on."""
        self.freed, self.received, self._end = moment, b"", 0

    def read(self) -> bool:
        """Take what has arrived; False: the connection has ended."""
        try:
            chunk = self.socket.recv(_CHUNK)
        except OSError:
            return False
        self.received += chunk
        if not self._end and HEAD_ENDS in self.received:
            head, ends, _ = self.received.partition(HEAD_ENDS)
            self._end = len(head) + len(ends) + (content_length(head) or 0)
        return bool(chunk)


def _request(load: Load, asked: str | Upload) -> bytes:
    if isinstance(asked, str):
        return f"GET {asked} HTTP/1.1\r\nHost: {load.host}:{load.port}\r\n\r\n".encode()
    first, host = f"{asked.method} {asked.target} HTTP/1.1", f"Host: {load.host}:{load.port}"
    return f"{first}\r\n{host}\r\nContent-Length: {len(asked.body)}\r\n\r\n".encode() + asked.body


def main() -> None:
    """Carry out the load on standard input."""
    load = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Load)
    if load.core is not None:
        os.sched_setaffinity(0, {load.core})
    gc.disable()  # its pauses would look like the server's
    sys.stdout.buffer.write(msgspec.msgpack.encode(Client(load).run()))


if __name__ == "__main__":
    main()
