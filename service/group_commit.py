"""Many writes, one transaction: it costs a dozen pages and a wait for the disk, however little it holds."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from index.catalogue import Catalogue
from index.errors import CatalogueError
from index.writes import Prepared, RequestProgress, Write, WriteProblem

GATHER_S: Final = 0.01  # for others to join
GROUP: Final = 256  # changes in one transaction; other writers wait for it


class Group(NamedTuple):
    """What `Catalogue.write` takes."""

    changes: Sequence[Prepared | WriteProblem]
    request: RequestProgress | None = None
    after_others: bool = False


Outcomes = list[Write | WriteProblem] | CatalogueError  # of a group: of each change, or why nothing of it is stored


def commit(catalogue: Catalogue, groups: Sequence[Group]) -> list[Outcomes]:
    """Commit groups in order, those that ask for nothing of their own together; what became of each."""
    outcomes: list[Outcomes] = []
    for together in _joined(groups):
        changes = [change for group in together for change in group.changes]
        first = together[0]
        try:
            written = iter(catalogue.write(changes, request=first.request, after_others=first.after_others))
        except CatalogueError as exc:
            outcomes += [exc] * len(together)
        else:
            outcomes += [[next(written) for _ in group.changes] for group in together]
    return outcomes


def _joined(groups: Sequence[Group]) -> Iterator[list[Group]]:
    """What goes into one transaction each."""
    together: list[Group] = []
    for group in groups:
        if together and not _fits(group, together):
            yield together
            together = []
        together.append(group)
    if together:
        yield together


def _fits(group: Group, together: Sequence[Group]) -> bool:
    size = sum(len(one.changes) for one in together) + len(group.changes)
    return size <= GROUP and all(one.request is None and not one.after_others for one in (group, *together))
