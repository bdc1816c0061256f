import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from benchmarks.open_loop import Outcome, ask, outcome_of
from benchmarks.open_loop_client import BROKEN, Client, Load, Replies, Reply
from service.client import ClientError
from tests.benchmarks.fake_service import FakeService, running


def load(port: int, **changes: Any) -> Load:
    """Twenty requests in equal gaps of 20 ms, from a client that sleeps: it shares its core with the server."""
    usual = {"host": "127.0.0.1", "port": port, "targets": ["/search?q=lamp"], "rate": 50.0, "seconds": 0.4}
    return Load(**{**usual, "arrivals": "constant", "spin": False, **changes})


def asked_here(what: Load) -> Outcome:
    """The same in this process."""
    return outcome_of(what, Client(what).run())


def reply(*, due: float, ready: float, sent: float, done: float, status: int = 200) -> Reply:
    return Reply(due=due, ready=ready, sent=sent, done=done, status=status, server_us=None, degraded=False)


def test_latency_counts_from_the_due_time() -> None:
    """Due at 1 s, a connection free at 1.5 s, sent 1 ms later, answered at 2 s: 1 s, of which 1 ms is the client's."""
    outcome = outcome_of(load(1), Replies(replies=[reply(due=1.0, ready=1.5, sent=1.501, done=2.0)], unanswered=0))

    assert [1_000_000] == outcome.from_due_us.round().tolist()
    assert [499_000] == outcome.from_send_us.round().tolist()
    assert [1_000] == outcome.late_us.round().tolist()


def test_only_successes_within_the_load_are_answered() -> None:
    """Of four requests in two seconds: one success in time, one too late, one refusal, one never answered."""
    replies = [
        reply(due=0.0, ready=0.0, sent=0.0, done=0.1),
        reply(due=1.9, ready=1.9, sent=1.9, done=2.1),
        reply(due=1.0, ready=1.0, sent=1.0, done=1.1, status=429),
    ]

    outcome = outcome_of(load(1, seconds=2.0), Replies(replies=replies, unanswered=1))

    assert 4 == outcome.asked
    assert 0.5 == outcome.answered_per_s
    assert [True, True, False] == outcome.succeeded.tolist()
    assert 0.25 == outcome.share(429)


def test_no_answer_at_all_is_an_outcome_too() -> None:
    """Columns without entries, and a request that was never answered."""
    outcome = outcome_of(load(1), Replies(replies=[], unanswered=1))

    assert (1, 0.0, 0.0) == (outcome.asked, outcome.answered_per_s, outcome.share(200))


def test_every_due_request_is_asked_from_a_process_of_its_own() -> None:
    """50 a second for 0.4 s, in equal gaps: twenty, each with the time that the server says."""
    with running(FakeService()) as service:
        outcome = ask(load(service.port))

    assert (20, 0, 20) == (outcome.asked, outcome.unanswered, service.searches)
    assert np.allclose(np.arange(20) / 50, np.sort(outcome.due_s))
    assert {250.0} == set(outcome.server_us.tolist())
    assert outcome.succeeded.all()


def test_a_stall_is_charged_to_every_request_that_was_due_meanwhile() -> None:
    """The first of twenty takes 0.3 s, alone on the only connection: what was due at 0.1 s has waited 0.2 s."""
    with running(FakeService(stall_at=1, stall_s=0.3)) as service:
        outcome = asked_here(load(service.port, connections=1))

    waited_us = outcome.from_due_us[np.argsort(outcome.due_s)]
    assert all(waited_us[at] >= 300_000 - 20_000 * at for at in range(15))


def test_targets_are_asked_in_turn_from_the_first() -> None:
    """Three targets, from number 4 on: the second one begins."""
    seen: list[str] = []

    def remember(answer: dict[str, Any]) -> dict[str, Any]:
        seen.append(answer["query"])
        return answer

    with running(FakeService(change=remember)) as service:
        asked_here(load(service.port, targets=[f"/search?q={query}" for query in "abc"], rate=10.0, first=4))

    assert list("bcab") == seen


@contextmanager
def hanging_up() -> Iterator[int]:
    """A server that closes every connection as soon as something is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                connection, _ = listening.accept()
                with connection:
                    if connection.recv(4096) == b"stop":
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        yield port
        with socket.create_connection(("127.0.0.1", port)) as last:
            last.sendall(b"stop")
            thread.join()


def test_a_server_that_hangs_up_is_asked_again_over_a_new_connection() -> None:
    """None of the four is answered, and all are counted."""
    with hanging_up() as port:
        outcome = asked_here(load(port, rate=10.0, connections=1))

    assert [BROKEN] * 4 == outcome.status.tolist()
    assert 0.0 == outcome.answered_per_s


def test_nobody_there_is_said() -> None:
    """With the address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

    with pytest.raises(ClientError, match=f"127.0.0.1:{port} failed"):
        ask(load(port))
