"""One holder at a time, until it lets go or is gone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from index.errors import CatalogueError
from index.lock import LOCK_FILE, exclusive

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from index.lock import exclusive
with exclusive(Path(sys.argv[1]), use="a server"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    """What for, and the process."""
    with (
        exclusive(tmp_path, use="que2search build"),
        pytest.raises(CatalogueError, match=f"in use by que2search build, process {os.getpid()}"),
        exclusive(tmp_path, use="another"),
    ):
        pass


def test_it_can_be_held_again_afterwards(tmp_path: Path) -> None:
    """The file that stays behind locks nothing."""
    for _ in range(2):
        with exclusive(tmp_path / "made", use="a test"):
            assert (tmp_path / "made" / LOCK_FILE).exists()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    """The kernel lets go for it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        holder.stdout.readline()
        with pytest.raises(CatalogueError, match=f"a server, process {holder.pid}"), exclusive(tmp_path, use="me"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()

    with exclusive(tmp_path, use="me"):
        pass


def test_a_folder_that_cannot_be_written_is_said() -> None:
    with (
        pytest.raises(CatalogueError, match="cannot write to /proc/nowhere"),
        exclusive(Path("/proc/nowhere"), use="a"),
    ):
        pass
