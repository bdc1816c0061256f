"""Keeps the sampler running beside the server: started, started again when it ends, and stopped with the server."""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Final

from structlog.typing import FilteringBoundLogger

from index.errors import IndexFileError
from index.generations import current_number
from service.settings import Settings
from service.watch import WATCH_DIR
from service.watch_report import REPORT_FILE

FIRST_WAIT_S: Final = 1.0  # before the sampler is started again; doubled each time that it ends early
LONGEST_WAIT_S: Final = 60.0
STOP_S: Final = 10.0
_ROOT: Final = Path(__file__).parents[1]


@contextmanager
def watched(settings: Settings, *, log: FilteringBoundLogger) -> Iterator[None]:
    """Run the sampler while the block runs. Without one, which the log then tells, the server serves all the same."""
    os.environ.pop(WATCH_DIR, None)
    generation = _current(settings)
    if settings.watch_share == 0 or generation is None:
        yield
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="q2s-watch-")
    except OSError as exc:  # a read-only root without a /tmp
        log.warning("searches are not watched: no folder for the samples", reason=str(exc))
        yield
        return
    with folder as path:
        os.environ[WATCH_DIR] = path
        command = [sys.executable, "-m", "service.sampler", path, str(settings.catalogue), str(generation)]
        keeper = _Keeper([*command, str(settings.watch_cpu)], folder=Path(path), log=log)
        try:
            yield
        finally:
            keeper.stop()
            del os.environ[WATCH_DIR]


class _Keeper:
    """A thread that waits for the sampler to end, which it should not, and starts it again."""

    def __init__(self, command: list[str], *, folder: Path, log: FilteringBoundLogger) -> None:
        self._command = command
        self._folder = folder
        self._log = log
        self._lock = threading.Lock()  # no process is started once stopping has begun
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the sampler and wait until it is gone."""
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
            (self._folder / REPORT_FILE).unlink(missing_ok=True)  # nobody keeps it true
            if self._stopping.is_set():
                return
            if monotonic() - started > LONGEST_WAIT_S:
                wait_s = FIRST_WAIT_S
            self._log.warning("the watch ended; searches go on without it", exit_code=code, again_in_s=wait_s)
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
                stdin=subprocess.PIPE,  # nothing is written: that it closes tells the sampler that the server is gone
                process_group=0,  # the terminal's Ctrl-C is for the server, which then ends its sampler
            )
            return self._process


def _current(settings: Settings) -> int | None:
    """The generation that the workers will open; None where there is none, which is theirs to tell."""
    try:
        return None if settings.catalogue is None else current_number(settings.catalogue)
    except IndexFileError:
        return None
