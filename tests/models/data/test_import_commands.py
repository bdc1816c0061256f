"""`que2search data import`: each source explains itself and says what was taken in and left out."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from que2search import app

WIDE = {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}


def data_import(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["data", "import", *map(str, arguments)], env=WIDE, catch_exceptions=False)

    assert 0 == result.exit_code, result.output
    return result.output


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("esci", ["shopping_queries_dataset_{products,examples}.parquet", "--locale", "--small", "--split", "rated 3"]),
        ("wands", ["product.csv, query.csv and label.csv", "Partial 1"]),
        ("chorus", ["products.jsonl(.gz) and judgements*.csv"]),
        ("table", ["CSV, JSON lines or Parquet", "--map", "docs/data.md"]),
    ],
)
def test_every_source_explains_itself(source: str, says: list[str]) -> None:
    """The files it wants, its options and its ratings; and a line in the list of sources."""
    text, overview = data_import(source, "--help"), data_import("--help")

    assert all(words in text for words in [*says, "--out"])
    assert source in overview


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    """Counts and bad rows on the screen, the same for machines."""
    rows = [f"{n},sofa [{n}]" for n in range(40)]
    (tmp_path / "p.csv").write_text("\n".join(["product_id,title", *rows, "41,"]))

    text = data_import("table", tmp_path / "p.csv", "--out", tmp_path / "d", "--json", tmp_path / "r.json")

    assert "left out: p.csv row 41: title is empty" in text
    assert "40 products; 1 bad rows left out, 0 passed over" in text
    assert 1 == json.loads((tmp_path / "r.json").read_text())["bad_count"]
