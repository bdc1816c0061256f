"""The committer: a process beside the workers that commits what they take, so that no search waits for a disk.

While there are writes it looks for more of them every 10 ms, and sleeps in between without being woken: to wake a
process on another core is what would cost a worker most of a write. It ends when the server that started it is gone,
after the workers, which may still have writes under way.

    python -m service.committer FOLDER CATALOGUE
"""

import selectors
import socket
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from index.catalogue import Catalogue
from service.commit_wire import SOCKET_FILE, Frames, address_in, outcomes_frame, read_group
from service.group_commit import GATHER_S, Group, commit

AWAKE_S: Final = 0.2  # after the last write
READ_BYTES: Final = 1 << 18
STUCK_S: Final = 5.0  # a worker that reads no answer for so long is left


class _Worker:
    """A connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.frames = Frames()
        self.groups: list[Group] = []  # not committed yet


class Committer:
    """Serves all workers in one thread.

    Args:
        folder: in which it listens.
        catalogue: opened for writing.
        server: readable once the server is gone: the end of the pipe that it holds.
    """

    def __init__(self, folder: Path, catalogue: Catalogue, *, server: int) -> None:
        self._catalogue = catalogue
        (folder / SOCKET_FILE).unlink(missing_ok=True)  # of one that was killed
        self._listening = socket.socket(socket.AF_UNIX)
        with address_in(folder) as address:
            self._listening.bind(address)
        self._listening.listen()
        self._server = server
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()  # each with what is to be done when it can be read
        self._selector.register(self._listening, selectors.EVENT_READ, self._meet)
        self._selector.register(server, selectors.EVENT_READ, self._end)
        self._is_ending = False
        self._written_at = -AWAKE_S

    def run(self) -> None:
        """Until the server is gone, and after it the workers."""
        while self._workers or not self._is_ending:
            self._wait()
            for key, _ in self._selector.select(0):
                key.data()
            self._commit()

    def _wait(self) -> None:
        """For the first write in a while, and for others to join it; or for the rest of what has come in part."""
        if any(worker.frames.within for worker in self._workers):
            self._selector.select(GATHER_S)
            return
        if monotonic() - self._written_at >= AWAKE_S:
            self._selector.select()
        sleep(GATHER_S)

    def _meet(self) -> None:
        connection, _ = self._listening.accept()
        connection.settimeout(STUCK_S)
        worker = _Worker(connection)
        self._workers.append(worker)
        self._selector.register(connection, selectors.EVENT_READ, partial(self._hear, worker))

    def _hear(self, worker: _Worker) -> None:
        try:
            piece = worker.connection.recv(READ_BYTES)
        except OSError:
            piece = b""
        if piece:
            worker.groups += map(read_group, worker.frames.take(piece))
        else:
            self._leave(worker)

    def _commit(self) -> None:
        asked = [(worker, group) for worker in self._workers for group in worker.groups]
        if not asked:
            return
        told = commit(self._catalogue, [group for _, group in asked])
        self._written_at = monotonic()
        answers: dict[_Worker, bytes] = defaultdict(bytes)
        for (worker, _), outcomes in zip(asked, told, strict=True):
            answers[worker] += outcomes_frame(outcomes)
        for worker, answer in answers.items():
            worker.groups.clear()
            try:
                worker.connection.sendall(answer)
            except OSError:  # it is gone; what it wrote stands
                self._leave(worker)

    def _leave(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._selector.unregister(worker.connection)
        worker.connection.close()

    def _end(self) -> None:
        self._is_ending = True
        self._selector.unregister(self._server)


def run(folder: Path, catalogue_path: Path) -> None:
    """Commit until our standard input closes, which tells that the server is gone. Raises CatalogueError."""
    with Catalogue.open(catalogue_path, readonly=False) as catalogue:
        Committer(folder, catalogue, server=sys.stdin.fileno()).run()


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
