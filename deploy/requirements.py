"""Print the project's dependencies as pip requirements, without installing the project.

requirements.py [EXTRA ...]          what serves, and the extras
requirements.py --only EXTRA[:NAME]  an extra alone, or one package of it

An image installs from it before any code is copied, so that a change of code reuses the layer.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def requirements(arguments: list[str]) -> list[str]:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    only = "--only" in arguments
    chosen: list[str] = [] if only else list(project["dependencies"])
    for argument in arguments:
        if argument == "--only":
            continue
        extra, _, name = argument.partition(":")
        chosen += [line for line in project["optional-dependencies"][extra] if not name or package(line) == name]
    return chosen


def package(requirement: str) -> str:
    """The package of `uvicorn[standard]>=0.5`: `uvicorn`."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(sys.argv[1:])) + "\n")
