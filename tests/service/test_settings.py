"""Settings: read from Q2S_ variables, typed, and refused when unknown."""

from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from index.operating_points import EFFORTS
from service.errors import SettingsError
from service.schemas import EffortName
from service.settings import Settings, as_environment, load_settings


def test_variables_become_typed_fields() -> None:
    """Paths, numbers and names arrive as what they are; the rest keeps its default."""
    settings = load_settings(
        {"Q2S_RELEASE": "releases/a", "Q2S_PORT": "8123", "Q2S_MAX_EFFORT": "high", "PATH": "/bin"}
    )

    assert (Path("releases/a"), 8123, "high", "onnx") == (
        settings.release,
        settings.port,
        settings.max_effort,
        settings.engine,
    )


def test_an_unknown_variable_is_refused_by_name() -> None:
    """A misspelt setting must not be lost silently; those of the command line and the tests pass."""
    load_settings({"Q2S_HOME": "var", "Q2S_TEST_DATA": "data"})

    with pytest.raises(SettingsError, match=r"unknown settings Q2S_PROT; known: .*Q2S_PORT"):
        load_settings({"Q2S_PROT": "8000"})


@pytest.mark.parametrize(("name", "value"), [("PORT", "http"), ("ENGINE", "tensorrt"), ("WORKERS", "0")])
def test_an_impossible_value_is_refused_by_name(name: str, value: str) -> None:
    """The message holds the variable and its value."""
    with pytest.raises(SettingsError, match=f"Q2S_{name}='{value}'"):
        load_settings({f"Q2S_{name}": value})


def test_the_command_line_wins_over_the_environment() -> None:
    """Options are laid over the variables, by field name, and checked the same way."""
    assert 9001 == load_settings({"Q2S_PORT": "8000"}, overrides={"port": 9001}).port
    with pytest.raises(SettingsError, match="Q2S_PORT=70000"):
        load_settings({}, overrides={"port": 70_000})


def test_settings_travel_to_workers_unchanged() -> None:
    """What the supervisor read, its workers read again from the environment."""
    settings = Settings(release=Path("a"), catalogue=None, timeout_ms=12.5, engine="torchscript")

    assert settings == load_settings(as_environment(settings))


def test_settings_are_frozen() -> None:
    """Nobody changes them while the server runs."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_the_service_knows_every_effort() -> None:
    """The names that a request may use are the names that the index has points for."""
    assert EFFORTS == get_args(EffortName)
