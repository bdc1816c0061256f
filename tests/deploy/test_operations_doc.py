"""docs/operations.md tells what is so: every setting with its default, every metric, every runbook."""

import re
from pathlib import Path

import yaml

from service.metrics import Metrics
from service.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text()
HOMES = {"release", "catalogue"}  # whose default the command line gives


def test_every_setting_is_told_with_its_default() -> None:
    """The table's rows are the fields of `Settings`, no more and no fewer."""
    told = dict(re.findall(rf"^\| `{PREFIX}(\w+)` \| `([^`]*)` \|", TEXT, flags=re.MULTILINE))
    fields = {name.upper(): field.default for name, field in Settings.model_fields.items()}

    assert fields.keys() == told.keys()
    assert {name: str(default) for name, default in fields.items() if name.lower() not in HOMES} == {
        name: default for name, default in told.items() if name.lower() not in HOMES
    }


def test_every_metric_is_told() -> None:
    families = set(re.findall(r"^# TYPE (q2s_\w+) ", Metrics().text().decode(), flags=re.MULTILINE))

    assert {name for name in families if not name.endswith("_created")} == set(
        re.findall(r"^\| `(q2s_\w+)` \|", TEXT, flags=re.MULTILINE)
    )


def test_every_alert_has_its_runbook() -> None:
    """An alert names a heading that is there."""
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    headings = [rule["annotations"]["runbook"].split('"')[1] for rule in rules if "alert" in rule]

    assert 4 == len(headings)
    for heading in headings:
        assert f"\n## {heading}\n" in TEXT


def test_every_variable_of_the_stack_is_told() -> None:
    used = set(re.findall(r"\$\{(\w+):-", (ROOT / "docker-compose.yml").read_text()))
    table = TEXT.partition("### The stack")[2].partition("\n## ")[0]

    assert used == {
        name for row in re.findall(r"^\| (`.*?`) \|", table, flags=re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
