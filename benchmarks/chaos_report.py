"""What a run of kills says: by kind of process, and whether what must hold does."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from benchmarks.chaos_server import Victim
from benchmarks.overload_report import Verdict
from benchmarks.report import BenchResult, Row

KILLS_ASKED = 200


class Killed(NamedTuple):
    """A kill with writes in flight, and what followed."""

    victim: Victim
    moment: str  # writing, compacting, or the state of the change of release
    in_flight: int  # requests
    acknowledged: int  # writes, of its round
    verified: int  # products compared after it, once by each worker
    back_s: float  # until all processes ran and every worker found a new write


class ChaosResult(BenchResult):
    """The same, with a picture of its own."""

    def picture(self) -> Figure:
        """Seconds until all was back: median and longest by kind of process."""
        rows = self.rows[-2::-1]  # without the last, their sum
        names = [str(row["name"]) for row in rows]
        middle, longest = ([float(row[name] or 0) for row in rows] for name in ("back_p50_s", "back_max_s"))
        figure = Figure(figsize=(8, 1.2 + 0.35 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.hlines(names, 0, longest, color="tab:gray")
        axes.plot(middle, names, "o", color="tab:blue", label="p50")
        axes.plot(longest, names, "|", color="tab:gray", markersize=12, label="longest")
        axes.set(title=self.title, xlabel="seconds until all was back", xlim=(0, None))
        axes.grid(axis="x", alpha=0.3)
        axes.margins(y=0.4)
        axes.legend()
        return figure


def told(kills: Sequence[Killed], *, checks: int, left: Sequence[str], conditions: Mapping[str, Any]) -> ChaosResult:
    """A row for each kind of process and moment. A run that lost anything has no result: it ended there.

    Args:
        kills: all of them.
        checks: how often the whole catalogue was checked.
        left: temporary files that were there after the server had stopped.
        conditions: of the run.
    """
    kinds = sorted({(kill.victim, kill.moment) for kill in kills})
    rows = [_row(f"{victim}, {moment}", [k for k in kills if k[:2] == (victim, moment)]) for victim, moment in kinds]
    enough = Verdict(len(kills) >= KILLS_ASKED, f"{len(kills)} kills with writes in flight (asked: {KILLS_ASKED})")
    clean = Verdict(not left, f"temporary files left behind: {', '.join(left) or 'none'}")
    return ChaosResult(
        bench="chaos",
        title="kill -9 with writes in flight, by process and moment",
        rows=[*rows, _row("all", kills)],
        conditions={**conditions, "checks": checks, "holds": enough.holds and clean.holds},
        notes=[
            f"{enough}; after each, every worker found all acknowledged writes, nothing deleted, and no product twice;",
            f"the whole catalogue was checked {checks} times, and clean;",
            f"{clean};",
            "back: all processes run, and every worker finds a new write; what is killed often is started ever later",
        ],
    )


def _row(name: str, kills: Sequence[Killed]) -> Row:
    return {
        "name": name,
        "kills": len(kills),
        "in_flight": sum(kill.in_flight for kill in kills),
        "acknowledged": sum(kill.acknowledged for kill in kills),
        "verified": sum(kill.verified for kill in kills),
        "back_p50_s": median(kill.back_s for kill in kills),
        "back_max_s": max(kill.back_s for kill in kills),
    }
