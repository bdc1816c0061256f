"""Latencies in short interleaved blocks: every arm meets the same noise, and disturbed blocks are set aside."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter_ns, process_time_ns
from typing import NamedTuple, TypeVar

import numpy as np

from benchmarks.disturbance import STEAL_LIMIT, CpuTimes, Pauses, cpu_times, spin, steal_between

Progress = Callable[[int, int], None]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One arm's calls, made one after the other."""

    latencies_us: np.ndarray  # (calls,)
    cpu_us: float | None  # per call, of whoever did the work
    stages_us: Mapping[str, float] = field(default_factory=dict)  # medians
    stages_p99_us: Mapping[str, float] = field(default_factory=dict)
    server_us: np.ndarray | None = None  # (calls,) what a server says that it took
    degraded: int = 0  # answers that were given less effort than they should


class Arm(NamedTuple):
    """What an arm took over some blocks: medians of the blocks' figures, and the mean CPU time."""

    calls: int
    p50_us: float
    p99_us: float
    p999_us: float  # of all calls together: a block has too few for it
    cpu_us: float | None
    stages_us: dict[str, float]
    stages_p99_us: dict[str, float]
    server_p50_us: float | None
    server_p99_us: float | None
    degraded: int
    latencies_us: np.ndarray  # (calls,)


class Measured(NamedTuple):
    """All arms, and how quiet it was meanwhile."""

    arms: dict[str, Arm]  # over the blocks that count
    every_block: dict[str, Arm]  # over all of them, the disturbed ones too
    kept: int  # blocks that count
    set_aside: int  # blocks with CPU steal above the limit
    steal: float  # mean share over all blocks
    longest_pause_us: float  # of the spinning loop, median over blocks
    lost: float  # share of the spinning loop's time, mean over blocks

    def conditions(self) -> dict[str, float | int]:
        """For a result's conditions."""
        return {
            "blocks": self.kept,
            "blocks_set_aside": self.set_aside,
            "steal": round(self.steal, 4),
            "spin_longest_pause_us": round(self.longest_pause_us, 1),
            "spin_lost": round(self.lost, 4),
        }

    def notes(self) -> list[str]:
        """What a reader must know about the blocks."""
        if self.kept == 0:
            return [f"every block had CPU steal above {STEAL_LIMIT:.0%}: the figures are of disturbed blocks"]
        return [f"{self.set_aside} blocks with CPU steal above {STEAL_LIMIT:.0%} were set aside"] * (self.set_aside > 0)


def interleave(
    arms: Mapping[str, Callable[[int], Block]],
    *,
    blocks: int,
    clock: Callable[[], CpuTimes] = cpu_times,
    pauses: Callable[[], Pauses] = spin,
    progress: Progress | None = None,
) -> Measured:
    """Run every arm once per block, a spinning loop beside them.

    Args:
        arms: by name, a function of the block's number that makes the arm's calls.
        blocks: how often each arm runs, after one round to warm up.
        clock: reads the machine's CPU times.
        pauses: measures how often a busy process is stopped.
        progress: called with (done, total) rounds.
    """
    rounds: list[dict[str, Block]] = []
    steals: list[float] = []
    spins: list[Pauses] = []
    with frozen():
        for number in range(-1, blocks):
            before = clock()
            ran = {name: run(max(number, 0)) for name, run in arms.items()}
            pause = pauses()
            if number >= 0:
                rounds.append(ran)
                steals.append(steal_between(before, clock()))
                spins.append(pause)
            if progress is not None:
                progress(number + 2, blocks + 1)
    quiet = [ran for ran, steal in zip(rounds, steals, strict=True) if steal <= STEAL_LIMIT]
    return Measured(
        arms={name: _arm([ran[name] for ran in quiet or rounds]) for name in arms},
        every_block={name: _arm([ran[name] for ran in rounds]) for name in arms},
        kept=len(quiet),
        set_aside=len(rounds) - len(quiet),
        steal=float(np.mean(steals)),
        longest_pause_us=float(np.median([pause.longest_us for pause in spins])),
        lost=float(np.mean([pause.lost for pause in spins])),
    )


@contextmanager
def frozen() -> Iterator[None]:
    """Let no garbage collection walk over what is loaded meanwhile, as in a server (service/serving.py)."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def timed(call: Callable[[int], object], *, calls: int, first: int = 0) -> Block:
    """Call with first, first + 1, ... on this thread; CPU time is this process'."""
    times = np.empty(calls)
    cpu = process_time_ns()
    for at in range(calls):
        started = perf_counter_ns()
        call(first + at)
        times[at] = (perf_counter_ns() - started) / 1e3
    return Block(latencies_us=times, cpu_us=(process_time_ns() - cpu) / 1e3 / calls)


def in_turn(call: Callable[[T], object], items: Sequence[T], *, calls: int) -> Callable[[int], Block]:
    """An arm that calls with one item after the other, each block going on where the last one ended."""
    return lambda block: timed(lambda at: call(items[at % len(items)]), calls=calls, first=block * calls)


def _arm(blocks: Sequence[Block]) -> Arm:
    cpu = [block.cpu_us for block in blocks if block.cpu_us is not None]
    server = [block.server_us for block in blocks if block.server_us is not None]
    latencies = np.concatenate([block.latencies_us for block in blocks])
    return Arm(
        calls=len(latencies),
        p50_us=_median_of_quantiles([block.latencies_us for block in blocks], 0.5),
        p99_us=_median_of_quantiles([block.latencies_us for block in blocks], 0.99),
        p999_us=float(np.quantile(latencies, 0.999)),
        cpu_us=float(np.mean(cpu)) if cpu else None,
        stages_us=_medians([block.stages_us for block in blocks]),
        stages_p99_us=_medians([block.stages_p99_us for block in blocks]),
        server_p50_us=_median_of_quantiles(server, 0.5) if server else None,
        server_p99_us=_median_of_quantiles(server, 0.99) if server else None,
        degraded=sum(block.degraded for block in blocks),
        latencies_us=latencies,
    )


def _median_of_quantiles(blocks: Sequence[np.ndarray], quantile: float) -> float:
    return float(np.median([np.quantile(block, quantile) for block in blocks]))


def _medians(blocks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {stage: float(np.median([block[stage] for block in blocks])) for stage in blocks[0]}
