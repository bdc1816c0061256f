"""The compose file: confined, bounded, on this machine only, without passwords, in the right order."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STACK: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


@each_service
def test_a_service_is_confined(service: dict[str, Any]) -> None:
    """It cannot write to its root, has no capabilities, and gains none."""
    assert service["read_only"] is True
    assert ["ALL"] == service["cap_drop"]
    assert ["no-new-privileges:true"] == service["security_opt"]
    assert not service.get("privileged")
    assert "user" not in service, "the images bring a user that is not root"


@each_service
def test_a_service_is_bounded_and_says_when_it_restarts(service: dict[str, Any]) -> None:
    limits = service["deploy"]["resources"]["limits"]

    assert {"cpus", "memory", "pids"} == limits.keys()
    assert service["restart"] in {"no", "unless-stopped"}


@each_service
def test_a_service_is_published_on_this_machine_only(service: dict[str, Any]) -> None:
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


@each_service
def test_an_image_is_pinned_or_made_here(service: dict[str, Any]) -> None:
    """Never `latest`, which is another image tomorrow."""
    _, _, tag = service["image"].partition(":")

    assert tag not in {"", "latest"}
    assert ("build" in service) == (tag == "local")


def test_there_is_no_password() -> None:
    """Grafana has no account and no login form; anybody on this machine may look, and change nothing."""
    text = (ROOT / "docker-compose.yml").read_text().upper()
    grafana = SERVICES["grafana"]["environment"]

    assert not [word for word in ("PASSWORD:", "PASSWD", "SECRET", "API_KEY", "TOKEN") if word in text]
    assert ("true", "true", "false", "Viewer") == (
        grafana["GF_AUTH_DISABLE_LOGIN_FORM"],
        grafana["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"],
        grafana["GF_AUTH_BASIC_ENABLED"],
        grafana["GF_AUTH_ANONYMOUS_ORG_ROLE"],
    )


def test_the_stack_by_default_is_the_service_and_prometheus() -> None:
    """The rest is asked for by profile."""
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}

    assert {"seed": [], "search": [], "prometheus": [], "grafana": ["dashboards"], "load": ["load"]} == profiles


def test_the_service_starts_on_a_filled_volume_and_is_healthy_when_ready() -> None:
    search = SERVICES["search"]

    assert {"seed": {"condition": "service_completed_successfully"}} == search["depends_on"]
    assert "/readyz" in search["healthcheck"]["test"]
    assert search["volumes"] == SERVICES["seed"]["volumes"]
    assert any(mount.startswith("/tmp:") for mount in search["tmpfs"])  # noqa: S108 - the container's


def test_the_grace_period_outlasts_the_drain() -> None:
    """Otherwise requests in flight would be killed."""
    from service.settings import Settings

    assert int(SERVICES["search"]["stop_grace_period"].removesuffix("s")) > Settings().drain_timeout_s


def test_every_mounted_file_is_there() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", []) if mount.startswith("./")]

    assert mounts
    for mount in mounts:
        source, _, mode = mount.split(":")
        assert (ROOT / source).exists()
        assert "ro" == mode
