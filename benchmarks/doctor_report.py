"""What the doctor says: findings, and how they are shown."""

from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fact; what it slows down and what to do, where that is anything; what it costs, where it was measured."""

    subject: str
    found: str
    costs: str | None = None  # as measured here; None: not measured
    slow: str | None = None  # None: all is well
    remedy: str | None = None  # goes with `slow`


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All findings."""

    findings: list[Finding]

    @property
    def healthy(self) -> bool:
        return all(finding.slow is None for finding in self.findings)

    def table(self) -> Table:
        table = Table("", "found", "costs here", "what is slow, and what to do")
        for finding in self.findings:
            advice = f"{finding.slow}: {finding.remedy}" if finding.slow else ""
            style = "yellow" if finding.slow else None
            table.add_row(finding.subject, finding.found, finding.costs or "", advice, style=style)
        return table
