"""What the rounds of an overload say: rows, and whether what must hold does."""

import math
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import numpy as np

from benchmarks.client import SUCCESS
from benchmarks.disturbance import STEAL_LIMIT
from benchmarks.open_loop import Outcome
from benchmarks.report import BenchResult, Row

REFUSED = int(HTTPStatus.TOO_MANY_REQUESTS)
P99_LIMIT = 3.0  # times the uncontended one, for those let in
REFUSAL_LIMIT = 0.1  # of a search's CPU time
CONNECTING_S = 0.5  # of a phase, which the server spends on hundreds of new connections at once
FROM_DUE, FROM_SEND = "from_due_us", "from_send_us"  # of an outcome
GROWTH_LIMIT = 4 << 20  # bytes: what the interpreter's own memory comes and goes by


class Phase(NamedTuple):
    """One load, and the CPU seconds of the server meanwhile."""

    outcome: Outcome
    server_s: float


class Round(NamedTuple):
    """The phases that are compared with each other."""

    capacity: Phase
    uncontended: Phase
    overloaded: Phase
    refused: Phase  # by a server that refuses nearly all
    steal: float


class Footprint(NamedTuple):
    """What a server's process holds."""

    private_bytes: int
    files: int  # connections among them
    threads: int


class Verdict(NamedTuple):
    """Something that must hold."""

    holds: bool
    says: str

    def __str__(self) -> str:
        return self.says if self.holds else f"DOES NOT HOLD: {self.says}"


def judged(
    rounds: Sequence[Round], *, before: Footprint, after: Footprint, conditions: Mapping[str, Any]
) -> BenchResult:
    """Medians over the quiet rounds, or over all where none was; the notes say what holds and what does not."""
    quiet = [one for one in rounds if one.steal <= STEAL_LIMIT]
    counted = quiet or rounds
    search_us = float(np.median([search_cpu_us(one.capacity) for one in counted]))
    refusal_us = float(np.median([refusal_cpu_us(one.refused, search_us) for one in counted]))
    tail = float(np.median([p99_us(one.overloaded) / p99_us(one.uncontended) for one in counted]))
    verdicts = [tails(tail), refusals(refusal_us / search_us), growth(before, after), answers(rounds)]
    return BenchResult(
        bench="overload",
        title="Above and below capacity: one worker on one core, an open loop from another",
        rows=_rows(counted, search_us=search_us, refusal_us=refusal_us),
        conditions={
            **conditions,
            "rounds": len(quiet),
            "rounds_set_aside": len(rounds) - len(quiet),
            "p99_over_uncontended": round(tail, 3),
            "refusal_over_search_cpu": round(refusal_us / search_us, 4),
            "holds": all(verdict.holds for verdict in verdicts),
        },
        notes=[
            *map(str, verdicts),
            "latencies are those of the row's own answers, from the due time; as fast as it can: from sending",
            "a refusal's CPU time: of a server that may let next to nothing wait, less the searches that it did answer",
        ],
    )


def tails(ratio: float) -> Verdict:
    """Of the P99 of those let in, over the uncontended one."""
    says = f"P99 of those let in is {ratio:.2f} times the uncontended one (limit {P99_LIMIT:g})"
    return Verdict(ratio <= P99_LIMIT, says)


def refusals(ratio: float) -> Verdict:
    """Of the server's CPU time for a refusal, over a search's."""
    return Verdict(ratio <= REFUSAL_LIMIT, f"a refusal costs {ratio:.3f} of a search's CPU (limit {REFUSAL_LIMIT:g})")


def growth(before: Footprint, after: Footprint) -> Verdict:
    """Memory may come and go a little; files and threads must be what they were."""
    grown = after.private_bytes - before.private_bytes
    holds = grown <= GROWTH_LIMIT and after.files <= before.files and after.threads <= before.threads
    memory = f"private memory {before.private_bytes / 1e6:.1f} MB before and {after.private_bytes / 1e6:.1f} MB after"
    return Verdict(
        holds, f"{memory}; open files {before.files} and {after.files}, threads {before.threads} and {after.threads}"
    )


def answers(rounds: Iterable[Round]) -> Verdict:
    """Let in or refused: every request of the two loads is answered, so none is left in flight."""
    left = sum(phase.outcome.unanswered for one in rounds for phase in (one.uncontended, one.overloaded))
    return Verdict(left == 0, f"{left} requests of the loads were never answered")


def p99_us(phase: Phase) -> float:
    """From the due time, of those let in."""
    return _quantile(phase.outcome.from_due_us[_answers(phase.outcome, SUCCESS)], 0.99)


def search_cpu_us(phase: Phase) -> float:
    """Of the server, a search; of a phase in which hardly any is refused."""
    return phase.server_s * 1e6 / int(phase.outcome.succeeded.sum())


def refusal_cpu_us(phase: Phase, search_us: float) -> float:
    """Of the server, a refusal: what the phase took beyond its searches."""
    refused = int((phase.outcome.status == REFUSED).sum())
    searched = int(phase.outcome.succeeded.sum())
    return (phase.server_s * 1e6 - searched * search_us) / refused if refused else math.nan


def _rows(rounds: Sequence[Round], *, search_us: float, refusal_us: float) -> list[Row]:
    busy, calm = [one.capacity for one in rounds], [one.uncontended for one in rounds]
    over, flooded = [one.overloaded for one in rounds], [one.refused for one in rounds]
    return [
        _row("as fast as it can: searches", busy, status=SUCCESS, cpu_us=search_us, since=FROM_SEND),
        _row("uncontended: searches", calm, status=SUCCESS),
        _row("overloaded: searches", over, status=SUCCESS),
        _row("overloaded: refusals", over, status=REFUSED),
        _row("nearly all refused: refusals", flooded, status=REFUSED, cpu_us=refusal_us),
    ]


def _row(name: str, phases: Sequence[Phase], *, status: int, cpu_us: float | None = None, since: str = FROM_DUE) -> Row:
    """Medians over the phases, of the answers with that status; the latencies are those since due or sent."""
    outcomes = [phase.outcome for phase in phases]
    these = [_answers(outcome, status) for outcome in outcomes]

    def median(figures: Iterable[float]) -> float | None:
        known = [figure for figure in figures if not math.isnan(figure)]
        return float(np.median(known)) if known else None

    def quantile(which: float, column: str) -> float | None:
        pairs = zip(outcomes, these, strict=True)
        return median(_quantile(getattr(outcome, column)[chosen], which) for outcome, chosen in pairs)

    return {
        "name": name,
        "offered_per_s": median(outcome.load.rate for outcome in outcomes),
        "answered_per_s": median(outcome.answered_per_s for outcome in outcomes),
        "refused": median(outcome.share(REFUSED) for outcome in outcomes),
        "degraded": median(_share(outcome.degraded, outcome.succeeded) for outcome in outcomes),
        "p50_us": quantile(0.5, since),
        "p99_us": quantile(0.99, since),
        "p99_from_send_us": quantile(0.99, FROM_SEND),
        "server_p99_us": quantile(0.99, "server_us"),
        "client_late_p99_us": quantile(0.99, "late_us"),
        "server_cpu_us": cpu_us,
    }


def _answers(outcome: Outcome, status: int) -> np.ndarray:
    """(n,) bool: those with that status whose request was due after all connections had been accepted."""
    answers: np.ndarray = (outcome.status == status) & (outcome.due_s >= CONNECTING_S)
    return answers


def _share(what: np.ndarray, of: np.ndarray) -> float:
    return float(what[of].mean()) if of.any() else math.nan


def _quantile(values: np.ndarray, which: float) -> float:
    """nan where there are none, or where they were never told."""
    return float(np.quantile(values, which)) if len(values) else math.nan
