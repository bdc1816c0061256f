"""Writes that reach the disk before they are acknowledged, many in one transaction."""

import asyncio
import math
from collections.abc import Sequence
from time import monotonic

from index.catalogue import Catalogue
from index.errors import CatalogueError, RequestConflictError
from index.writes import (
    INVALID,
    NOT_FOUND,
    Delete,
    Prepared,
    Put,
    RequestProgress,
    Write,
    WriteProblem,
    prepare,
)
from service.commits import Commits
from service.errors import (
    ConflictError,
    InvalidFieldError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    ProblemError,
)
from service.group_commit import Group

LOADS_SHARE = 0.9  # of the backlog: single writes have room beside loads
STUCK_S = 10.0  # a load that waits for room is refused when the backlog has not shrunk meanwhile
LOOK_EVERY_S = 0.05  # for room


class Writer:
    """Has committed what there is room for.

    Args:
        catalogue: what is written.
        commits: who commits.
        max_backlog: products that may wait for the indexer before further ones are refused; loads wait before that.
        stuck_s: how long a load waits for a backlog that does not shrink.
    """

    def __init__(self, catalogue: Catalogue, commits: Commits, *, max_backlog: int, stuck_s: float = STUCK_S) -> None:
        self._catalogue = catalogue
        self._commits = commits
        self._max_backlog = max_backlog
        self._stuck_s = stuck_s

    async def write(self, change: Put | Delete) -> Write:
        """Commit one change, in a group with others.

        Raises:
            ProblemError: it cannot be made, too many products wait to be embedded, or the disk fails; says which.
        """
        self._check_backlog()
        (outcome,) = await self._committed(Group([prepare(change)]))
        if isinstance(outcome, WriteProblem):
            raise problem_of(outcome)
        return outcome

    async def write_lines(
        self, changes: Sequence[Prepared | WriteProblem], *, request: RequestProgress | None
    ) -> list[Write | WriteProblem]:
        """Commit a group of one request, with how far that got, as soon as there is room for it.

        What it puts is embedded after all single writes: nobody waits for a load.

        Raises:
            ProblemError: as `write`, of the whole group; where there is no room, once the indexer does not move.
        """
        await self._room_for_loads()
        return await self._committed(Group(changes, request, after_others=True))

    def close(self) -> None:
        """Nothing is written any more."""
        self._commits.close()

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

    async def _committed(self, group: Group) -> list[Write | WriteProblem]:
        try:
            return await self._commits.write(group)
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
