"""One kill after the other: a client writes, something is killed, all comes back, and everything is looked at."""

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.chaos_check import check_products, check_searches, check_store, wait_until_searchable
from benchmarks.chaos_journal import Entry, JournalReader, read_journal
from benchmarks.chaos_ledger import Ledger, LossError, in_flight
from benchmarks.chaos_plan import Kill, Moment
from benchmarks.chaos_report import Killed
from benchmarks.chaos_server import PATIENCE_S, Running, wait_until
from benchmarks.conditions import ROOT
from benchmarks.server import HOST
from index.succession import next_number
from service.activation import ENDED, told
from service.client import activate_release

MOMENT_PATIENCE_S: Final = 30.0  # for a compaction to begin; where none does, the kill is one while writing
WATCH_EVERY_S: Final = 0.005  # for a moment to come
PROBES: Final = 1  # the product that is written to see whether all is back


class Rounds:
    """What has happened so far.

    Args:
        running: the server.
        folder: where the journals are kept.
        seed: of what is written.
        products: in the catalogue before the first write.
    """

    def __init__(self, running: Running, *, folder: Path, seed: int, products: int) -> None:
        self.killed: list[Killed] = []
        self.idle = 0  # kills that found nothing in flight
        self.checks = 0
        self.states: Counter[str] = Counter()  # of changes of release, at a kill
        self._running = running
        self._catalogue = running.place.catalogue
        self._folder = folder
        self._seed = seed
        self._products = products
        self._ledger = Ledger()
        self._served = 0  # of the two releases
        self._probes = 0

    def kill(self, kill: Kill) -> None:
        """A round: it ends when all is back and every acknowledged write was found.

        Raises:
            LossError: not all is as it must be.
            ClientError: the server does not start again.
        """
        with self._client(kill.number) as (client, journal):
            self._wait_for_writes(journal, kill.writes)
            moment = self._wait_for(kill)
            at = time.monotonic()
            gone = self._running.kill(kill.victim, random.Random(f"{self._seed} {kill.number}"))
            self._running.come_back(gone)
            _let_end(client)
            self._see_a_new_write()
            back_s = time.monotonic() - at
        entries = read_journal(journal)
        if moment == "swapping":
            self._wait_until_swapped()
        verified = self._verify(entries)
        busy = in_flight(entries, at=at)
        if not gone or not busy:
            self.idle += 1
            return
        acknowledged = sum(entry.event == "acknowledged" for entry in entries)
        self.killed.append(Killed(kill.victim, moment, busy, acknowledged, verified, back_s))

    def check_all(self) -> None:
        """Look through the whole catalogue.

        Raises:
            LossError: it is not clean, or a product is missing or there without having been written.
        """
        with self._running.asked() as clients:
            check_searches(clients, self._ledger, by_words=True)
            check_products(next(iter(clients.values())), self._ledger, set(self._ledger.products))
        check_store(self._catalogue, products=self._products + self._ledger.alive() + PROBES)
        self.checks += 1

    def wait_for_builder(self) -> None:
        """Until no generation is being built: one that is cut off is removed by the next builder."""
        wait_until(lambda: not self._is_compacting(), lacks="a compaction did not end")

    @contextmanager
    def _client(self, number: int) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
        """The outside client, which ends once its input is closed and the load that it began is answered."""
        journal = self._folder / f"journal-{number:04}.jsonl"
        arguments = [HOST, self._running.port, journal, self._seed, number]
        command = [sys.executable, "-m", "benchmarks.chaos_client", *map(str, arguments)]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as client:  # noqa: S603 - our own
            try:
                yield client, journal
                client.wait(PATIENCE_S)
            except subprocess.TimeoutExpired as exc:
                raise LossError(f"requests were not answered within {PATIENCE_S:.0f} s after all was back") from exc
            finally:
                client.kill()
        if client.returncode != 0:
            raise LossError(f"the client ended with {client.returncode}; its output says why")

    def _wait_for_writes(self, journal: Path, count: int) -> None:
        """Until so many were acknowledged."""
        with closing(JournalReader(journal)) as reader:
            events = Counter[str]()

            def acknowledged() -> bool:
                events.update(entry.event for entry in reader.new())
                return events["acknowledged"] >= count

            wait_until(acknowledged, lacks=f"{count} writes were not acknowledged")

    def _wait_for(self, kill: Kill) -> Moment:
        """Until the moment has come and the delay is over; which moment it is then."""
        if kill.moment == "swapping":
            self._swap(kill)
        if kill.moment == "compacting":
            give_up = time.monotonic() + MOMENT_PATIENCE_S
            while not self._is_compacting() and time.monotonic() < give_up:
                time.sleep(WATCH_EVERY_S)
        time.sleep(kill.delay_s)
        if kill.moment == "compacting" and not self._is_compacting():
            return "writing"
        return kill.moment

    def _is_compacting(self) -> bool:
        """Whether a generation is being built, or handed over to."""
        return any((self._catalogue / "generations").glob("*.tmp")) or next_number(self._catalogue) is not None

    def _swap(self, kill: Kill) -> None:
        """Ask for the other release, and wait until that has come to the state, or beyond it."""
        self._served = 1 - self._served
        name = self._running.place.releases[self._served].name
        next(activate_release(self._running.url, name, key=None))
        while (now := told(self._catalogue)) is not None and now.state not in {kill.state, *ENDED}:
            time.sleep(WATCH_EVERY_S)
        self.states["none" if now is None else now.state] += 1

    def _wait_until_swapped(self) -> None:
        """Whatever was killed, the change of release goes on to its end."""
        wait_until(
            lambda: (now := told(self._catalogue)) is not None and now.state in ENDED,
            lacks="a change of release did not end",
        )
        now = told(self._catalogue)
        if now is not None and now.state != "active":
            raise LossError(f"release {now.release} was refused: {now.error}")
        name = self._running.place.releases[self._served].name
        if now is None or now.release != name:
            raise LossError(f"{name} was to be served: {now}")
        with self._running.asked() as clients:

            def served() -> set[tuple[str, int]]:
                ready = [client.get("/readyz").json() for client in clients.values()]
                return {(one["release"], one["generation"]) for one in ready}

            found = served()
            if {release for release, _ in found} != {name}:
                raise LossError(f"{name} was to be served by all workers: {found}")
            # One after the other where a compaction hands over meanwhile.
            wait_until(lambda: len(served()) == 1, lacks="workers serve different generations")

    def _see_a_new_write(self) -> None:
        """Until every worker finds a product that is written now."""
        with self._running.asked() as clients:
            self._probes += 1
            wait_until_searchable(clients, self._probes)

    def _verify(self, entries: list[Entry]) -> int:
        """Look for all that the client was ever told; how many products were compared."""
        self._ledger.take(entries)
        self._see_a_new_write()
        with self._running.asked() as clients:
            verified = check_searches(clients, self._ledger, by_words=False)
            check_products(next(iter(clients.values())), self._ledger, {entry.product for entry in entries})
        return verified


def _let_end(client: "subprocess.Popen[bytes]") -> None:
    """It writes no more than what it has begun."""
    if client.stdin is not None:
        client.stdin.close()
