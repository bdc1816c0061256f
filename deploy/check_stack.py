"""Prove the running stack: a search, the container's confinement and size, Prometheus and every dashboard query.

Needs nothing but Python. Prints a line for each thing seen, and exits with 1 at the first that is not so.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from math import isnan, nan
from pathlib import Path
from shutil import which
from time import monotonic, sleep
from typing import Any, NoReturn
from urllib.parse import urlencode
from urllib.request import urlopen

SERVICE = f"http://127.0.0.1:{os.environ.get('PORT', '8000')}"
PROMETHEUS = f"http://127.0.0.1:{os.environ.get('PROMETHEUS_PORT', '9090')}"
DASHBOARD = Path(__file__).parent / "grafana" / "dashboards" / "que2search.json"
SAMPLE = "/opt/que2search/sample"
SEARCHES = 200  # of which every fourth asks for page 2
PATIENCE_S = 90
SIZE_LIMIT_MB = 700  # of the image without the sample that it carries
P99 = 'histogram_quantile(0.99, sum by (le) (rate(q2s_request_seconds_bucket{page="first"}[1m])))'


def main() -> None:
    release = search_through_the_port()
    confinement_and_size(release)
    wait_for("Prometheus up == 1", lambda: [row["value"][1] for row in ask('up{job="que2search"}')] == ["1"])
    say("Prometheus: up == 1")
    for number in range(SEARCHES):
        get(f"{SERVICE}/search", q=f"red dress {number % 20}", page=1 + (number % 4 == 3))
    p99 = wait_for("P99", lambda: one_number(P99))
    say(f"P99 of q2s_request_seconds, first pages: {p99 * 1e3:.2f} ms")
    rules = [rule["name"] for group in get(f"{PROMETHEUS}/api/v1/rules")["data"]["groups"] for rule in group["rules"]]
    say(f"rules loaded: {', '.join(rules)}")
    queries = list(dashboard_queries())
    for query in queries:
        wait_for(query, partial(shows, query))
    say(f"dashboard: all {len(queries)} queries answer")


def search_through_the_port() -> str:
    """The id of the release that answers."""
    answer = get(f"{SERVICE}/search", q="red dress", country="GB")
    if len(answer["hits"]) != 10:
        fail(f"/search gave {len(answer['hits'])} hits: {answer}")
    effort, release = answer["search"]["effort"], answer["search"]["release"]
    say(f"/search through the published port: 10 hits, {effort=}, {release=}, first {answer['hits'][0]['title']!r}")
    ready = get(f"{SERVICE}/readyz")
    say(f"/readyz: {ready['status']}, generation {ready['generation']}")
    return str(release)


def confinement_and_size(release: str) -> None:
    """What only the container engine can tell."""
    engine, container = wait_for("a container of the compose service `search`, by docker or podman", find_container)
    inspect, execute = (engine, "inspect", container, "--format"), (engine, "exec", container)
    user = output(*execute, "id", "-u")
    read_only = output(*inspect, "{{.HostConfig.ReadonlyRootfs}}")
    writable = run(*execute, "touch", "/app/x").returncode == 0
    if user == "0" or read_only != "true" or writable:
        fail(f"{user=}, {read_only=}, {writable=}")
    say(f"container: user {user}, read-only root, a write to it fails")
    sample = json.loads(output(*execute, "cat", f"{SAMPLE}/releases/sample/manifest.json"))
    if sample["id"] != release:
        fail(f"{release} answers, but the image carries {sample['id']}: the volume is an older stack's")
    carried = int(output(*execute, "du", "-sk", SAMPLE).split()[0]) * 1024 / 1e6
    whole = int(output(engine, "image", "inspect", output(*inspect, "{{.Image}}"), "--format", "{{.Size}}")) / 1e6
    say(f"image: {whole:.0f} MB = {whole - carried:.0f} MB + {carried:.0f} MB of carried sample")
    if whole - carried > SIZE_LIMIT_MB:
        fail(f"the image without the sample is larger than {SIZE_LIMIT_MB} MB")


def find_container() -> tuple[str, str] | None:
    """The engine that runs the search service, and the container's id."""
    for engine in filter(which, ("docker", "podman")):
        found = run(engine, "ps", "--quiet", "--filter", "label=com.docker.compose.service=search").stdout.split()
        if found:
            return engine, found[0]
    return None


def dashboard_queries() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "1m")


def ask(query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = get(f"{PROMETHEUS}/api/v1/query", query=query)["data"]["result"]
    return rows


def shows(query: str) -> bool:
    return query.endswith("> 0") or bool(ask(query))  # no errors: nothing to show


def one_number(query: str) -> float | None:
    rows = ask(query)
    value = float(rows[0]["value"][1]) if rows else nan
    return None if isnan(value) else value  # NaN: nothing was counted yet


def get(url: str, **fields: object) -> dict[str, Any]:
    with urlopen(f"{url}?{urlencode(fields)}", timeout=10) as answer:  # noqa: S310 - our own http URLs
        document: dict[str, Any] = json.load(answer)
    return document


def wait_for(what: str, see: Callable[[], Any]) -> Any:
    give_up = monotonic() + PATIENCE_S
    while not (seen := see()):
        if monotonic() > give_up:
            fail(f"not seen within {PATIENCE_S} s: {what}")
        sleep(1)
    return seen


def output(*command: str) -> str:
    done = run(*command)
    if done.returncode:
        fail(f"{' '.join(command)}: {done.stderr}")
    return done.stdout.strip()


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def fail(line: str) -> NoReturn:
    say(f"FAILED: {line}")
    sys.exit(1)


if __name__ == "__main__":
    main()
