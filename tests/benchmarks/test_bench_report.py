import io
import json
from pathlib import Path

from rich.console import Console

from benchmarks.report import BenchResult

RESULT = BenchResult(
    bench="ann",
    title="Search of 1,000 vectors",
    rows=[
        {"name": "low", "nprobe": 8, "ann_recall_at_10": 0.9512, "p50_us": 110.25, "p99_us": 1234.5},
        {"name": "exact", "nprobe": None, "ann_recall_at_10": 1.0, "p50_us": 2000.0, "p99_us": 2500.0},
    ],
    conditions={"host": "here", "cores": 2},
    notes=["1 blocks were set aside"],
)


def test_markdown_has_table_notes_and_conditions() -> None:
    """Ready to be pasted under docs."""
    assert RESULT.markdown().splitlines() == [
        "# Search of 1,000 vectors",
        "",
        "| name | nprobe | ann recall at 10 | p50 us | p99 us |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| low | 8 | 0.9512 | 110.2 | 1,234 |",
        "| exact | - | 1 | 2,000 | 2,500 |",
        "",
        "- 1 blocks were set aside",
        "",
        "Conditions:",
        "",
        "- host: here",
        "- cores: 2",
    ]


def test_a_result_is_saved_for_machines_and_people(tmp_path: Path) -> None:
    """JSON with every digit, Markdown, and a PNG; nothing half-written stays behind."""
    paths = RESULT.save(tmp_path / "bench")

    assert ["ann.json", "ann.md", "ann.png"] == [path.name for path in paths]
    assert sorted(paths) == sorted((tmp_path / "bench").iterdir())
    assert 110.25 == json.loads(paths[0].read_text())["rows"][0]["p50_us"]
    assert b"\x89PNG" == paths[2].read_bytes()[:4]


def test_the_table_shows_absence_as_a_dash() -> None:
    """No nprobe is not zero."""
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(RESULT.table())
    lines = console.export_text().splitlines()

    assert any("exact" in line and "-" in line and "2,000" in line for line in lines)
