"""A process beside the server: started, started again with back-off when it ends, and stopped with the server."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Final

from structlog.typing import FilteringBoundLogger

FIRST_WAIT_S: Final = 1.0  # before it is started again; doubled each time that it ends early
LONGEST_WAIT_S: Final = 60.0
STOP_S: Final = 10.0
_ROOT: Final = Path(__file__).parents[1]


def _nothing() -> None:
    pass


@contextmanager
def kept(
    module: str,
    arguments: Sequence[str],
    *,
    log: FilteringBoundLogger,
    lost: str,
    ended: Callable[[], None] = _nothing,
) -> Iterator[None]:
    """Run one of our modules as a process while the block runs.

    Args:
        module: its name; it has to end when its standard input closes, which tells that the server is gone.
        arguments: its command line.
        log: where it is told that the process ended.
        lost: what that means, in words.
        ended: called after each end.
    """
    keeper = _Keeper([sys.executable, "-m", module, *arguments], log=log, lost=lost, ended=ended)
    try:
        yield
    finally:
        keeper.stop()


class _Keeper:
    """A thread that waits for the process to end, which it should not, and starts it again."""

    def __init__(self, command: list[str], *, log: FilteringBoundLogger, lost: str, ended: Callable[[], None]) -> None:
        self._command = command
        self._log = log
        self._lost = lost
        self._ended = ended
        self._lock = threading.Lock()  # no process is started once stopping has begun
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name=command[2], daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the process and wait until it is gone."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()
        self._thread.join(STOP_S)

    def _keep(self) -> None:
        wait_s = FIRST_WAIT_S
        while (process := self._start()) is not None:
            started = monotonic()
            code = process.wait()
            if process.stdin is not None:
                process.stdin.close()
            self._ended()
            if self._stopping.is_set():
                return
            if monotonic() - started > LONGEST_WAIT_S:
                wait_s = FIRST_WAIT_S
            self._log.warning(self._lost, exit_code=code, again_in_s=wait_s)
            self._stopping.wait(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _start(self) -> "subprocess.Popen[bytes] | None":
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        with self._lock:
            if self._stopping.is_set():
                return None
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                self._command,
                env=environment,
                stdin=subprocess.PIPE,  # nothing is written: that it closes tells that the server is gone
                process_group=0,  # the terminal's Ctrl-C is for the server, which then ends its process
            )
            return self._process
