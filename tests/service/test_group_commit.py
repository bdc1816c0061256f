"""What of many writes goes into one transaction, and how they travel to whoever commits."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.errors import CatalogueError, RequestConflictError
from index.writes import INVALID, Prepared, RequestProgress, Write, WriteProblem
from service.commit_wire import Frames, group_frame, outcomes_frame, read_group, read_outcomes
from service.group_commit import GROUP, Group, commit

LOAD = RequestProgress("key", 0, 1)

prepared = st.builds(
    Prepared,
    st.binary(min_size=1, max_size=8),
    st.none() | st.binary(max_size=8),
    st.none() | st.integers(-1, 2**40),
)
problems = st.builds(WriteProblem, st.sampled_from([INVALID]), st.text(max_size=8))
groups = st.builds(
    Group,
    st.lists(prepared | problems, max_size=5),
    st.none() | st.builds(RequestProgress, st.text(max_size=5), st.integers(0, 9), st.integers(0, 9)),
    st.booleans(),
)


class Transactions:
    """A catalogue that notes what comes in one call; the first id `full` finds the disk full."""

    def __init__(self) -> None:
        self.changes: list[list[bytes]] = []
        self._sequence = 0

    def write(self, changes: Sequence[Prepared], *, request: RequestProgress | None, after_others: bool) -> list[Write]:
        assert (request is None) == (not after_others)
        self.changes.append([change.product_id for change in changes])
        if changes and changes[0].product_id == b"full":
            raise CatalogueError("the disk is full")
        first = self._sequence + 1
        self._sequence += len(changes)
        return [Write(0, first + at, changed=True) for at in range(len(changes))]


def puts(*ids: str, load: bool = False) -> Group:
    changes = [Prepared(product_id.encode(), b"", None) for product_id in ids]
    return Group(changes, LOAD if load else None, after_others=load)


def test_what_asks_for_nothing_of_its_own_is_committed_together() -> None:
    """In the order in which it came; a load's groups are transactions of their own."""
    catalogue = Transactions()

    told = commit(catalogue, [puts("a"), puts("b", "c"), puts("d", load=True), puts("e")])  # type: ignore[arg-type]

    assert [[b"a", b"b", b"c"], [b"d"], [b"e"]] == catalogue.changes
    assert [[1], [2, 3], [4], [5]] == [[one.sequence for one in outcomes] for outcomes in told]  # type: ignore[union-attr]


def test_a_transaction_holds_so_many() -> None:
    """256 of 300 single writes; other writers come in between."""
    catalogue = Transactions()

    commit(catalogue, [puts(str(at)) for at in range(300)])  # type: ignore[arg-type]

    assert [GROUP, 300 - GROUP] == [256, 44] == [len(changes) for changes in catalogue.changes]


def test_what_fails_together_is_told_to_each() -> None:
    """And to no other."""
    catalogue = Transactions()

    told = commit(catalogue, [puts("full"), puts("a"), puts("b", load=True)])  # type: ignore[arg-type]

    assert ["the disk is full", "the disk is full"] == [str(outcomes) for outcomes in told[:2]]
    assert [Write(0, 1, changed=True)] == told[2]


@given(st.lists(groups, max_size=4), st.integers(1, 50))
def test_groups_arrive_as_they_were_sent(sent: list[Group], size: int) -> None:
    """In pieces of any size."""
    stream = b"".join(map(group_frame, sent))
    frames = Frames()
    came = [body for at in range(0, len(stream), size) for body in frames.take(stream[at : at + size])]

    assert sent == [read_group(body) for body in came]
    assert not frames.within


@given(
    st.lists(st.builds(Write, st.integers(0, 2**32 - 1), st.integers(0, 2**62), st.booleans()) | problems, max_size=5)
)
def test_outcomes_arrive_as_they_were_sent(outcomes: list[Write | WriteProblem]) -> None:
    """In the order of the changes."""
    (body,) = Frames().take(outcomes_frame(outcomes))

    assert outcomes == read_outcomes(body)


@pytest.mark.parametrize("kind", [CatalogueError, RequestConflictError])
def test_an_error_arrives_as_its_kind(kind: type[CatalogueError]) -> None:
    """With its text."""
    (body,) = Frames().take(outcomes_frame(kind("the disk is full")))
    arrived = read_outcomes(body)

    assert type(arrived) is kind
    assert "the disk is full" == str(arrived)
