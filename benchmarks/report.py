"""A benchmark's result, and how it is written: JSON for machines, Markdown and a picture for people."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from matplotlib.figure import Figure
from rich.table import Table

from benchmarks.axes import label_logarithmic

Row = Mapping[str, str | int | float | None]


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """One table of figures with its conditions.

    Rows share their columns; `name` is the first, and latencies are `p50_us`, `p99_us`.
    """

    bench: str
    title: str
    rows: Sequence[Row]
    conditions: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(column for row in self.rows for column in row))

    def table(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title, title_justify="left", caption=" ".join(self.notes) or None)
        for column in self.columns:
            table.add_column(_heading(column), justify="left" if column == "name" else "right")
        for row in self.rows:
            table.add_row(*(_shown(row.get(column)) for column in self.columns))
        return table

    def markdown(self) -> str:
        """Title, table, notes and conditions."""
        lines = [f"# {self.title}", "", _line([_heading(column) for column in self.columns])]
        lines.append(_line(["---" if column == "name" else "---:" for column in self.columns]))
        lines += [_line([_shown(row.get(column)) for column in self.columns]) for row in self.rows]
        lines += ["", *(f"- {note}" for note in self.notes), "", "Conditions:", ""]
        lines += [f"- {_heading(name)}: {value}" for name, value in self.conditions.items()]
        return "\n".join(lines) + "\n"

    def picture(self) -> Figure:
        """A line per row from its p50 to its p99; no bars, since a logarithmic scale has no zero to start from."""
        rows = [row for row in self.rows if row.get("p50_us") is not None][::-1]
        names = [str(row["name"]) for row in rows]
        p50, p99 = ([_number(row, column) for row in rows] for column in ("p50_us", "p99_us"))
        figure = Figure(figsize=(8, 1.2 + 0.35 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.hlines(names, p50, p99, color="tab:gray")
        axes.plot(p50, names, "o", color="tab:blue", label="p50")
        axes.plot(p99, names, "|", color="tab:gray", markersize=12, label="p99")
        axes.set(title=self.title, xlabel="microseconds", xscale="log")
        label_logarithmic(axes.xaxis)
        axes.grid(axis="x", alpha=0.3)
        axes.margins(y=0.4)
        axes.legend()
        return figure

    def pictures(self) -> dict[str, Figure]:
        """By the name of their file; a result with more to show than `picture` adds to them."""
        return {self.bench: self.picture()}

    def save(self, folder: Path) -> list[Path]:
        """Write BENCH.json, BENCH.md, BENCH.png and what else there is into `folder`; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        json, markdown = folder / f"{self.bench}.json", folder / f"{self.bench}.md"
        _beside(json).write_bytes(msgspec.json.format(msgspec.json.encode(asdict(self))))
        _beside(markdown).write_text(self.markdown(), encoding="utf-8")
        paths = [json, markdown]
        for name, figure in self.pictures().items():
            paths.append(folder / f"{name}.png")
            figure.savefig(_beside(paths[-1]), format="png", dpi=120)
        for path in paths:
            _publish(path)
        return paths


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp")


def _publish(path: Path) -> None:
    with _beside(path).open("rb") as file:
        os.fsync(file.fileno())
    _beside(path).replace(path)


def _number(row: Row, column: str) -> float:
    value = row.get(column)
    return float(value) if value is not None else 0.0


def _heading(column: str) -> str:
    return column.replace("_", " ")


def _shown(value: str | float | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
