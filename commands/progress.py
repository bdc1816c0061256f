"""How far a command is: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from commands.output import console

PLAIN_EVERY_S = 5.0  # between progress lines where the output is not a terminal

ProgressCallback = Callable[[int, int], None]  # done, total


@contextmanager
def progress_bar(unit: str) -> Iterator[ProgressCallback]:
    """A bar on a terminal; elsewhere a plain line every few seconds."""
    with progress_bars(unit) as (progress,):
        yield progress


@contextmanager
def progress_bars(*units: str) -> Iterator[tuple[ProgressCallback, ...]]:
    """The same for work that comes in several parts; a part is shown from its first step on."""
    if console.quiet:
        yield tuple(lambda _done, _total: None for _ in units)
        return
    if not console.is_terminal:
        yield tuple(plain_progress(unit) for unit in units)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:

        def shown(task: TaskID) -> ProgressCallback:
            return lambda done, total: bar.update(task, completed=done, total=total, visible=True)

        yield tuple(shown(bar.add_task(unit, total=None, visible=False)) for unit in units)


def plain_progress(unit: str) -> ProgressCallback:
    """Prints `unit done/total` when PLAIN_EVERY_S have passed, and once at the end."""
    printed, printed_at = -1, time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal printed, printed_at
        if done != printed and (done >= total or time.monotonic() - printed_at >= PLAIN_EVERY_S):
            printed, printed_at = done, time.monotonic()
            print(f"{unit} {done:,}/{total:,}", flush=True)

    return progress
