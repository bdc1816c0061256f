"""Who commits a worker's writes: the committer, a process beside the workers; where there is none, a thread."""

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Final, Protocol, cast

from index.catalogue import Catalogue
from index.errors import CatalogueError
from index.writes import Write, WriteProblem
from service.commit_wire import COMMITS_DIR, Frames, address_in, group_frame, read_outcomes
from service.errors import UnconfirmedError
from service.group_commit import GATHER_S, Group, Outcomes, commit

_Waiting = asyncio.Future[list[Write | WriteProblem]]

PATIENCE_S: Final = 5.0  # with a committer that is started again
LOOK_EVERY_S: Final = 0.05


class Commits(Protocol):
    """Commits what arrives within a moment as one transaction, off the event loop."""

    async def write(self, group: Group) -> list[Write | WriteProblem]:
        """What became of each change, once it is on disk.

        Raises:
            CatalogueError: nothing is stored.
            UnconfirmedError: nobody knows whether it is.
        """
        ...

    def close(self) -> None:
        """Nothing is written any more."""
        ...


class InThread:
    """Commits by itself."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._waiting: list[tuple[Group, _Waiting]] = []
        self._committing: asyncio.Task[None] | None = None

    async def write(self, group: Group) -> list[Write | WriteProblem]:
        """See `Commits.write`."""
        waiting: _Waiting = asyncio.get_running_loop().create_future()
        self._waiting.append((group, waiting))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit())
        return await waiting

    def close(self) -> None:
        """See `Commits.close`."""

    async def _commit(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER_S)
            gathered, self._waiting = self._waiting, []
            groups = [group for group, _ in gathered]
            told: Sequence[Outcomes | Exception]
            try:
                told = await asyncio.to_thread(commit, self._catalogue, groups)
            except Exception as exc:  # noqa: BLE001 - a defect, which each request tells as its own
                told = [exc] * len(groups)
            for (_, waiting), outcomes in zip(gathered, told, strict=True):
                _tell(waiting, outcomes)


class ByCommitter:
    """Asks the committer: then neither its transactions nor the disk are in the way of searches.

    Args:
        folder: in which it listens, or will.
        patience_s: how long a write waits for one that is being started.
    """

    def __init__(self, folder: Path, *, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._folder = folder
        self._connecting = asyncio.Lock()
        self._connection: _Connection | None = None

    async def write(self, group: Group) -> list[Write | WriteProblem]:
        """See `Commits.write`."""
        connection = self._connection
        if connection is None or connection.is_lost:
            connection = await self._connected()
        return await connection.ask(group)

    def close(self) -> None:
        """See `Commits.close`."""
        if self._connection is not None:
            self._connection.close()

    async def _connected(self) -> "_Connection":
        """Raises CatalogueError where it is not started again in time."""
        loop, give_up = asyncio.get_running_loop(), monotonic() + self._patience_s
        async with self._connecting:
            while self._connection is None or self._connection.is_lost:
                try:
                    with address_in(self._folder) as address:
                        _, self._connection = await loop.create_unix_connection(_Connection, address)
                except OSError as exc:
                    if monotonic() >= give_up:
                        raise CatalogueError(f"the process that commits writes is not there: {exc}") from exc
                    await asyncio.sleep(LOOK_EVERY_S)
            return self._connection


class _Connection(asyncio.Protocol):
    """To the committer; answers come in the order of the questions."""

    def __init__(self) -> None:
        self.is_lost = False
        self._frames = Frames()
        self._asked: deque[_Waiting] = deque()

    def ask(self, group: Group) -> _Waiting:
        waiting: _Waiting = asyncio.get_running_loop().create_future()
        self._asked.append(waiting)
        self._transport.write(group_frame(group))
        return waiting

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        for body in self._frames.take(data):
            _tell(self._asked.popleft(), read_outcomes(body))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - of whatever kind
        self.is_lost = True
        for waiting in self._asked:
            _tell(waiting, UnconfirmedError())


def _tell(waiting: _Waiting, outcomes: Outcomes | Exception) -> None:
    if waiting.done():  # its client left; the write stands
        return
    if isinstance(outcomes, Exception):
        waiting.set_exception(outcomes)
    else:
        waiting.set_result(outcomes)


def commits_of(catalogue: Catalogue) -> Commits:
    """The committer where this server has one."""
    folder = os.environ.get(COMMITS_DIR)
    return InThread(catalogue) if folder is None else ByCommitter(Path(folder))
