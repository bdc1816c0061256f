"""Efforts: the cheapest cell of the grid that reaches each one's target, and what it would take where none does."""

from collections.abc import Sequence
from typing import NamedTuple

from index.errors import TuneError
from index.operating_points import MAX_DEPTH
from index.sweep import FLAT_GAIN, Measured, cheapest

MINIMAL_TARGET = 0.80
BALANCED_TARGET = 0.97


class Targets(NamedTuple):
    """The ann_recall@10 that each effort has to reach."""

    minimal: float
    low: float
    balanced: float
    high: float

    @classmethod
    def of(
        cls, *, minimal: float | None = None, low: float = 0.95, balanced: float | None = None, high: float = 0.99
    ) -> "Targets":
        """Checked targets; the two that may be left out make room for the others.

        `minimal` is 0.80, or `low` where that is less; `balanced` 0.97, or halfway where that does not lie between.

        Raises:
            TuneError: they are no shares in ascending order.
        """
        if minimal is None:
            minimal = min(MINIMAL_TARGET, low)
        if balanced is None:
            balanced = BALANCED_TARGET if low < BALANCED_TARGET < high else (low + high) / 2
        if not 0 < minimal <= low <= balanced <= high <= 1:
            raise TuneError(
                "targets must satisfy 0 < minimal <= low <= balanced <= high <= 1, "
                f"got minimal={minimal}, low={low}, balanced={balanced}, high={high}"
            )
        return cls(minimal, low, balanced, high)


def choose(grid: Sequence[Measured], targets: Targets) -> tuple[dict[str, Measured], list[str]]:
    """A cell for every effort but `exact`, and notes on what could not be had. See `tune`."""
    notes: list[str] = []
    deep = [cell for cell in grid if cell.candidates >= MAX_DEPTH]
    low = _cheapest(grid, targets.low, "low", notes)
    high = _cheapest(deep, targets.high, "high", notes)
    if notes:
        notes.append(_diagnosis(grid, targets.high))
    if low.nprobe is not None and high.nprobe is not None:
        low, high = _set_apart(grid, deep, low, high, notes)
    between = [cell for cell in grid if _lists(low) <= _lists(cell) <= _lists(high)]
    below = [cell for cell in grid if _lists(cell) <= _lists(low)]
    chosen = {
        "minimal": min(_reaching(below, targets.minimal), key=_cost, default=low),
        "low": low,
        "balanced": min(_reaching(between, targets.balanced), key=_cost, default=high),
        "high": high,
    }
    return chosen, notes


def _diagnosis(grid: Sequence[Measured], target: float) -> str:
    """What it would take to reach a target that is out of reach; the grid then ends with all lists, see `sweep`.

    There only the codes can hide a product. What more candidates gained tells how.
    """
    most = max(_lists(cell) for cell in grid)
    cells = sorted((cell for cell in grid if _lists(cell) == most), key=lambda cell: cell.candidates)
    first, before, last = cells[0], cells[-2], cells[-1]
    gained = last.ann_recall_at_10 - first.ann_recall_at_10
    gained_last = last.ann_recall_at_10 - before.ann_recall_at_10
    lists = "" if last.nprobe is None else f"{most} lists with "
    if gained < FLAT_GAIN:
        cause = "the order that the codes give is final: build with exact re-scoring (RFlat), or with finer codes"
    elif gained_last < FLAT_GAIN:
        cause = "what is re-scored is no longer too little, but inexact: keep exact vectors (RFlat)"
    else:
        cause = "what is missing still lies behind the last candidate: build with finer codes"
    return (
        f"{lists}{last.candidates:,} candidates, the most that can be spent, find {last.ann_recall_at_10:.3f}, "
        f"{gained_last:.3f} more than {before.candidates:,} and {gained:.3f} more than {first.candidates:,}; {cause}; "
        f"`que2search build --goal-recall {target:g}` measures which"
    )


def _set_apart(
    grid: Sequence[Measured], deep: Sequence[Measured], low: Measured, high: Measured, notes: list[str]
) -> tuple[Measured, Measured]:
    """Make `low` probe strictly fewer lists than `high`.

    `high` is raised rather than `low` lowered: each target still holds, and only later pages, which may cost more, do.
    Where the grid ends at `low`, that one is lowered.
    """
    if _lists(low) < _lists(high):
        return low, high
    above = [cell for cell in deep if _lists(cell) > _lists(low)]
    if above:
        return low, min(above, key=_cost)
    below = [cell for cell in grid if _lists(cell) < _lists(high)]
    if not below:
        notes.append(f"low and high both probe {_lists(high)} list, the only choice there is")
        return low, high
    lowered = max(below, key=lambda cell: (cell.ann_recall_at_10, -cell.cost))
    notes.append(
        f"low was lowered to nprobe {lowered.nprobe} (ann_recall@10 {lowered.ann_recall_at_10:.3f}) "
        f"to stay below high's {high.nprobe}"
    )
    return lowered, high


def _cheapest(cells: Sequence[Measured], target: float, effort: str, notes: list[str]) -> Measured:
    """The cheapest cell that reaches the target; else the best there is, and a note."""
    chosen = cheapest(cells, target)
    if chosen.ann_recall_at_10 < target:
        notes.append(f"{effort} cannot reach ann_recall@10 {target:g}: the best is {chosen.ann_recall_at_10:.3f}")
    return chosen


def _reaching(cells: Sequence[Measured], target: float) -> list[Measured]:
    return [cell for cell in cells if cell.ann_recall_at_10 >= target]


def _cost(cell: Measured) -> float:
    return cell.cost


def _lists(cell: Measured) -> int:
    return cell.nprobe or 0
