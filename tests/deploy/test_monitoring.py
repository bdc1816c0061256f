"""Alerts and dashboard ask for metrics that the service has, with labels that it gives."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from index.operating_points import EFFORTS, OperatingPoint
from service.metrics import Metrics
from service.pipeline import Answer
from service.recall_window import Recall
from service.watch_report import WatchReport

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboards" / "que2search.json").read_text())
RULES: list[dict[str, str]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]
ADDED = {"job", "instance"}  # to every series, by Prometheus


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def watch_report() -> WatchReport:
    """What a sampler tells when there is something of everything."""
    return WatchReport(
        recall={"low": Recall(samples=1, mean=1.0, low=0.2, high=1.0)},
        offline={"low": 0.96},
        target={"low": 0.95},
        read={"compared": 1},
        quantisation_error={"training": 0.1, "new": 0.1},
        list_imbalance=1.2,
        empty_lists=0,
    )


def known_series() -> dict[str, dict[str, set[str]]]:
    """Series name -> label -> values, as a worker tells them once it serves and is watched."""
    with tempfile.TemporaryDirectory() as folder:
        watch_report().save(Path(folder))
        return series_of(Metrics(watch=Path(folder)))


def series_of(metrics: Metrics) -> dict[str, dict[str, set[str]]]:
    metrics.serving(release="r", generation=1, engine="onnx")
    answer = Answer(
        query="lamp",
        page=1,
        hits=[],
        cursor=None,
        mode="vector",
        point=OperatingPoint(effort=EFFORTS[0], nprobe=1, candidates=100),
        filter=None,
        per_seller=None,
        degraded=False,
        release="r",
        generation=1,
        query_truncated=False,
        query_known=False,
        explanation=None,
    )
    stages = dict.fromkeys(("featurise", "query_tower", "ann", "products", "total"), 1)
    metrics.searched(answer, stages_ns=stages)
    series: dict[str, dict[str, set[str]]] = {}
    for name, labels in re.findall(r"^(q2s_\w+)(?:\{(.*)\})? ", metrics.text().decode(), flags=re.MULTILINE):
        of_series = series.setdefault(name, {})
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            of_series.setdefault(label, set()).add(value)
    return series


def selectors(query: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Each series that a query names, with its matchers: label, operator, value."""
    for name, matchers in re.findall(r"\b(q2s_\w+)(?:\{([^}]*)\})?", query):
        yield name, re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers)


@pytest.mark.parametrize("query", [*queries(), *(rule["expr"] for rule in RULES)])
def test_every_series_label_and_value_is_the_services(query: str) -> None:
    """A misspelt one would show nothing, or never wake anybody."""
    known = known_series()
    for name, matchers in selectors(query):
        assert name in known
        for label, operator, value in matchers:
            assert label in known[name].keys() | ADDED
            if operator == "=" and label not in ADDED:
                assert value in known[name][label]


def test_the_dashboard_shows_what_an_operator_asks() -> None:
    """Every family of metrics is on it, and the three percentiles of both kinds of pages."""
    text = " ".join(queries())
    families = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in known_series()}

    assert not [name for name in families if not name.endswith("_created") and name not in text]
    for quantile in ("0.5", "0.99", "0.999"):
        for page in ("first", "later"):
            assert (
                f'histogram_quantile({quantile}, sum by (le) (rate(q2s_request_seconds_bucket{{page="{page}"}}' in text
            )


def test_the_dashboard_reads_the_provisioned_source() -> None:
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    used = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())}

    assert {source["uid"] for source in sources} == used


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_prometheus_scrapes_the_service_of_the_stack_and_loads_the_alerts() -> None:
    configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())

    assert [ALERTS.name] == configuration["rule_files"]
    assert [["search:8000"]] == [
        static["targets"] for job in configuration["scrape_configs"] for static in job["static_configs"]
    ]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_rules_and_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """The alerts' own tests pass, and what the panels ask is PromQL."""
    recorded = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(queries())
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    for arguments in (
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "alerts_test.yml"],
        ["check", "rules", str(tmp_path / "panels.yml")],
    ):
        done = subprocess.run(
            ["promtool", *arguments], cwd=ALERTS.parent, capture_output=True, text=True, timeout=60, check=False
        )
        assert 0 == done.returncode, done.stdout + done.stderr
