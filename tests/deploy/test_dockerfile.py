"""The Dockerfile: slim and unprivileged by default, buildable without BuildKit."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
LINES = [line for line in TEXT.splitlines() if line and not line.startswith("#")]
STAGES = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", TEXT, flags=re.MULTILINE)


def stage(name: str) -> str:
    """The instructions of a stage."""
    return re.split(r"^FROM ", TEXT.partition(f" AS {name}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def test_the_default_target_is_the_serving_stage() -> None:
    assert ("serving", "") == STAGES[-1]
    assert {"release", "serving", "torchscript", "load"} <= {name for _, name in STAGES}


def test_the_serving_stage_takes_nothing_from_where_torch_is() -> None:
    """Only the sealed sample comes from the training side."""
    copied = re.findall(r"^COPY --from=(\S+) .*?(\S+) (\S+)$", stage("serving"), flags=re.MULTILINE)

    assert {"dependencies", "release", "source"} == {source for source, _, _ in copied}
    assert [("release", "/opt/que2search", "/opt/que2search")] == [row for row in copied if row[0] == "release"]


def test_the_serving_stage_runs_as_a_user_by_number() -> None:
    """So that an orchestrator can see that it is not root."""
    assert re.search(r"^USER 1\d+:1\d+$", stage("serving"), flags=re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in stage("serving")
    assert "/livez" in stage("serving").partition("HEALTHCHECK")[2]


def test_nothing_needs_buildkit() -> None:
    """Heredocs, linked copies, mounts of a RUN, and the interval of a start."""
    assert not [word for word in ("<<", "--link", "--mount", "--start-interval") if word in "\n".join(LINES)]


def test_the_context_is_what_is_asked_for() -> None:
    """Everything is left out but what a COPY names: no data, history, environments, tests or documents."""
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}

    assert "*" == ignored[0]
    assert not allowed & {"var", ".git", ".venv", "tests", "docs"}
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", TEXT, flags=re.MULTILINE):
        assert {source.split("/")[0] for source in sources.split()} <= allowed
