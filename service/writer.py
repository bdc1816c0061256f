"""Writes that reach the disk before they are acknowledged: off the event loop, many in one transaction."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

from index.catalogue import Catalogue
from index.errors import CatalogueError, RequestConflictError
from index.writes import INVALID, NOT_FOUND, Delete, Put, RequestProgress, Write, WriteProblem
from service.errors import (
    ConflictError,
    InvalidFieldError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    ProblemError,
)

GROUP = 256  # changes in one transaction; other writers wait for it
GATHER_S = 0.01  # for others to join the first of a group: a transaction costs much whatever it holds
LOADS_SHARE = 0.9  # of the backlog: single writes have room beside loads
STUCK_S = 10.0  # a load that waits for room is refused when the backlog has not shrunk meanwhile
LOOK_EVERY_S = 0.05  # for room


class _Waiting(NamedTuple):
    change: Put | Delete
    written: asyncio.Future[Write | WriteProblem]


class Writer:
    """Commits what arrives within a moment, or while the last commit reaches the disk, as one transaction.

    Args:
        catalogue: opened for writing.
        max_backlog: products that may wait for the indexer before further ones are refused; loads wait before that.
        stuck_s: how long a load waits for a backlog that does not shrink.
    """

    def __init__(self, catalogue: Catalogue, *, max_backlog: int, stuck_s: float = STUCK_S) -> None:
        self._catalogue = catalogue
        self._max_backlog = max_backlog
        self._stuck_s = stuck_s
        self._waiting: deque[_Waiting] = deque()
        self._committing: asyncio.Task[None] | None = None

    async def write(self, change: Put | Delete) -> Write:
        """Commit one change, in a group with others.

        Raises:
            ProblemError: it cannot be made, too many products wait to be embedded, or the disk fails; says which.
        """
        self._check_backlog()
        written: asyncio.Future[Write | WriteProblem] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(change, written))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_groups())
        outcome = await written
        if isinstance(outcome, WriteProblem):
            raise problem_of(outcome)
        return outcome

    async def write_lines(
        self, changes: Sequence[Put | Delete], *, request: RequestProgress | None
    ) -> list[Write | WriteProblem]:
        """Commit a group of one request, with how far that got, as soon as there is room for it.

        What it puts is embedded after all single writes: nobody waits for a load.

        Raises:
            ProblemError: as `write`, of the whole group; where there is no room, once the indexer does not move.
        """
        await self._room_for_loads()
        return await self._off_the_loop(lambda: self._catalogue.write(changes, request=request, after_others=True))

    def _check_backlog(self) -> None:
        """Raises OverloadedError where the indexer is too far behind."""
        waiting = self._catalogue.backlog_count
        if waiting >= self._max_backlog:
            raise _overloaded(waiting, self._max_backlog)

    async def _room_for_loads(self) -> None:
        """Raises OverloadedError where the indexer is too far behind and does not come nearer."""
        limit = max(1, int(self._max_backlog * LOADS_SHARE))
        least, give_up = math.inf, math.inf
        while (waiting := self._catalogue.backlog_count) >= limit:
            if waiting < least:
                least, give_up = waiting, monotonic() + self._stuck_s
            elif monotonic() > give_up:
                raise _overloaded(waiting, limit)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _commit_groups(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER_S)
            group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
            changes = [waiting.change for waiting in group]
            try:
                outcomes = await self._off_the_loop(lambda changes=changes: self._catalogue.write(changes))  # type: ignore[misc]
            except ProblemError as problem:
                for waiting in group:
                    if not waiting.written.cancelled():
                        waiting.written.set_exception(problem)
                continue
            for waiting, outcome in zip(group, outcomes, strict=True):
                if not waiting.written.cancelled():  # its client left; the write stands
                    waiting.written.set_result(outcome)

    @staticmethod
    async def _off_the_loop(
        commit: Callable[[], list[Write | WriteProblem]],
    ) -> list[Write | WriteProblem]:
        try:
            return await asyncio.to_thread(commit)
        except RequestConflictError as exc:
            raise ConflictError(str(exc)) from exc
        except CatalogueError as exc:
            raise NotReadyError(f"nothing was written: {exc}") from exc


def _overloaded(waiting: int, limit: int) -> OverloadedError:
    return OverloadedError(f"{waiting:,} products wait to be embedded, limit {limit:,}; write more slowly")


def problem_of(problem: WriteProblem) -> ProblemError:
    """What the client is told of a change that was refused."""
    if problem.kind == NOT_FOUND:
        return NotFoundError(problem.message)
    if problem.kind == INVALID:
        return InvalidFieldError("product", None, problem.message)
    return ConflictError(problem.message)
