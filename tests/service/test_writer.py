"""Who may write while many products wait to be embedded: single writes up to the limit, loads as room is made."""

import asyncio
from collections.abc import Sequence

import pytest

from index.writes import Change, Put, RequestProgress, Write, prepare
from service.commits import InThread
from service.errors import OverloadedError
from service.writer import Writer


class Waiting:
    """A catalogue where so many products wait each time that somebody looks; the last of the numbers stays."""

    def __init__(self, *counts: int) -> None:
        self._counts = list(counts)
        self.written: list[tuple[RequestProgress | None, bool]] = []  # a group's request, and whether others come first

    @property
    def backlog_count(self) -> int:
        return self._counts.pop(0) if len(self._counts) > 1 else self._counts[0]

    def write(
        self, changes: Sequence[Change], *, request: RequestProgress | None = None, after_others: bool = False
    ) -> list[Write]:
        self.written.append((request, after_others))
        return [Write(0, 1, changed=True) for _ in changes]


class Broken(Waiting):
    """One whose every write is a defect."""

    def write(self, *_: object, **__: object) -> list[Write]:
        raise ZeroDivisionError


LAMP = Put({"product_id": "lamp"})


def writer_of(catalogue: Waiting) -> Writer:
    commits = InThread(catalogue)  # type: ignore[arg-type]
    return Writer(catalogue, commits, max_backlog=10, stuck_s=0.2)  # type: ignore[arg-type]


def write(catalogue: Waiting) -> Write:
    return asyncio.run(writer_of(catalogue).write(LAMP))


def load(catalogue: Waiting) -> object:
    return asyncio.run(writer_of(catalogue).write_lines([prepare(LAMP)] * 2, request=None))


def test_single_writes_are_refused_at_the_limit_alone() -> None:
    """Of ten."""
    assert Write(0, 1, changed=True) == write(Waiting(9))
    with pytest.raises(OverloadedError, match="10 products wait to be embedded, limit 10"):
        write(Waiting(10))


def test_a_load_waits_until_nine_tenths_are_free_for_it() -> None:
    """And then comes after what is written singly."""
    catalogue = Waiting(12, 10, 9, 8)

    assert [Write(0, 1, changed=True)] * 2 == load(catalogue)
    assert [(None, True)] == catalogue.written


def test_a_load_is_refused_where_nothing_moves() -> None:
    """It waited a while; nothing of the group is written."""
    catalogue = Waiting(9)

    with pytest.raises(OverloadedError, match="9 products wait to be embedded, limit 9"):
        load(catalogue)
    assert [] == catalogue.written


def test_a_load_is_patient_with_an_indexer_that_moves_slowly() -> None:
    """Ten looks in half a second, and the backlog shrinks by one each time; it waits 0.2 s for one that stands."""
    catalogue = Waiting(*range(19, 8, -1), 8)

    assert [Write(0, 1, changed=True)] * 2 == load(catalogue)


def test_a_defect_is_told_to_whoever_waits() -> None:
    """Nobody hangs."""
    with pytest.raises(ZeroDivisionError):
        write(Broken(0))
