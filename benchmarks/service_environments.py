"""A peer's own virtual environment: made on first use, kept, and made again when what it asks for changes."""

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.conditions import ROOT
from service.errors import ServiceError

REQUIREMENTS = Path(__file__).parent / "service_peers"  # NAME.txt
CONSTRAINTS = ROOT / "constraints.txt"
_MARK = "installed.txt"  # a copy of the requirements, written last
_LAST_WORDS = 800  # characters of a failed installation that are shown


class StackError(ServiceError):
    """A stack to compare with cannot be set up."""


def environment(name: str, *, envs: Path, requirements: Path | None = None) -> Path:
    """The interpreter of the environment `envs`/`name`.

    Args:
        name: of the environment.
        envs: folder of all of them.
        requirements: what pip is to install; NAME.txt of `service_peers` when None.

    Raises:
        StackError: pip could not install it; tells its last words.
    """
    wanted = (requirements or REQUIREMENTS / f"{name}.txt").read_text()
    folder = envs / name
    mark, interpreter = folder / _MARK, folder / "bin" / "python"
    if mark.exists() and mark.read_text() == wanted:
        return interpreter
    shutil.rmtree(folder, ignore_errors=True)
    _run(name, [sys.executable, "-m", "venv", "--without-pip", str(folder)])  # ours serves it, and unpacks no other one
    asked = folder / "requirements.txt"
    asked.write_text(wanted)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(interpreter),
        "--disable-pip-version-check",
        "install",
        "--quiet",
    ]
    _run(name, [*pip, "--constraint", str(CONSTRAINTS), "--requirement", str(asked)])
    mark.write_text(wanted)
    return interpreter


def _run(name: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        raise StackError(
            f"the environment {name!r} cannot be made: {done.stderr.strip()[-_LAST_WORDS:]}; "
            "run it again where pip can reach its packages, or leave the stack out with --without"
        )
