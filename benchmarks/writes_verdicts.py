"""What must hold while a catalogue is written to."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from benchmarks.blocks import Arm
from benchmarks.overload_report import Verdict
from benchmarks.writes_load import Written, done_per_s

P50_LIMIT: Final = 1.3  # times what it is without
CPU_LIMIT: Final = 1.3
P99_LIMIT: Final = 1.5
SEARCHABLE_P99_S: Final = 1.0


def within(what: str, figure: float, base: float, limit: float) -> Verdict:
    """A figure of searches, in microseconds, beside the one without."""
    ratio = figure / base
    return Verdict(ratio <= limit, f"{what} {figure:,.0f} us is {ratio:.2f} times {base:,.0f} us (limit {limit:g})")


def searches(arm: Arm, base: Arm, *, tail: bool) -> list[Verdict]:
    """p50 and CPU time of a search beside those without, and with `tail` the P99."""
    verdicts = [within("p50", arm.p50_us, base.p50_us, P50_LIMIT)]
    if arm.cpu_us is not None and base.cpu_us is not None:
        verdicts.append(within("CPU", arm.cpu_us, base.cpu_us, CPU_LIMIT))
    if tail:
        verdicts.append(within("P99", arm.p99_us, base.p99_us, P99_LIMIT))
    return verdicts


def fresh(until_searchable_us: np.ndarray) -> Verdict:
    """Of (n,) writes that waited until searches found them."""
    p99_s = float(np.quantile(until_searchable_us, 0.99)) / 1e6
    says = f"99 of 100 writes are searchable {p99_s:.3f} s after they were due (limit {SEARCHABLE_P99_S:g} s)"
    return Verdict(p99_s <= SEARCHABLE_P99_S, says)


def sustained(outcomes: Sequence[Written]) -> Verdict:
    """Every write is done."""
    asked, done = sum(each.asked for each in outcomes), sum(each.done for each in outcomes)
    failed = sum((each.failures for each in outcomes), Counter())
    by_status = f"; failed by status: {dict(failed)}" if failed else ""
    return Verdict(
        done == asked, f"{done:,} of {asked:,} writes were done, {done_per_s(outcomes):.1f} a second{by_status}"
    )


def ratios(arm: Arm, base: Arm) -> dict[str, float]:
    """For a result's conditions."""
    told = {"p50_ratio": arm.p50_us / base.p50_us, "p99_ratio": arm.p99_us / base.p99_us}
    if arm.cpu_us is not None and base.cpu_us is not None:
        told["cpu_ratio"] = arm.cpu_us / base.cpu_us
    return {name: round(ratio, 3) for name, ratio in told.items()}
