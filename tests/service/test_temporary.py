"""Temporary folders: gone with the server that made them, or with the next one."""

import subprocess
import sys
from pathlib import Path

from service.temporary import temporary_folder

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from pathlib import Path
from service.temporary import temporary_folder
with temporary_folder("test", within=Path(sys.argv[1])) as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    input()
"""


def holder(place: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_it_is_there_while_the_block_runs(tmp_path: Path) -> None:
    """With whatever was put in."""
    with temporary_folder("test", within=tmp_path) as folder:
        (folder / "file").touch()
        assert folder.parent == tmp_path
    assert [] == list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """By the next one for the same use; not what a living one uses, and not what serves another use."""
    other = tmp_path / "q2s-other-1"
    other.mkdir()
    with holder(tmp_path) as killed, holder(tmp_path) as living:
        left, used = (Path(process.stdout.readline().strip()) for process in (killed, living))
        killed.kill()
        killed.wait()
        assert left.exists()
        with temporary_folder("test", within=tmp_path) as folder:
            assert {folder, used, other} == set(tmp_path.iterdir())
            assert (used / "file").exists()
        living.communicate("\n")

    assert {other} == set(tmp_path.iterdir())
