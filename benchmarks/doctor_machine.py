"""The doctor's eye for the machine: its cores, memory, clocks and neighbours, judged from text and numbers."""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.disturbance import STEAL_LIMIT, CpuTimes, Pauses, steal_between
from benchmarks.doctor_costs import Gathers, Pages, Ramp, SystemCalls, WakeUp
from benchmarks.doctor_report import Finding

BUDGET_US = 1500.0  # of a whole search at P99
_LOST_LIMIT = 0.01  # share of a spinning loop's time
_NOTICEABLE = 1.1  # times as slow
_WAKE_LIMIT_US = 0.1 * BUDGET_US  # what waking another core may add at P99
_CLOCK_LIMIT_NS = 500.0  # a request reads the clock some twenty times
_CALL_LIMIT_NS = 1500.0
_CONNECTIONS = 1024  # files that a server of many clients has open; half of them its own


class Throttling(NamedTuple):
    """How often a control group's quota ran out, since it was made."""

    periods: int
    throttled: int
    stopped_ms: float


def instruction_sets(isa: tuple[str, ...]) -> Finding:
    """The fast scan of 4-bit codes and the towers' products need wide registers."""
    found = " ".join(isa) or "none that matter"
    if {"avx2", "asimd"} & set(isa):
        return Finding(subject="instruction sets", found=found)
    slow = "the index' fast scan and the towers, which find neither AVX2 nor NEON"
    return Finding(subject="instruction sets", found=found, slow=slow, remedy="use another machine type")


def cores(granted: float, present: int) -> Finding:
    """Less than one core stops a request in its middle; a fraction of one stops whichever worker has the last share."""
    found = f"{granted:g} granted of {present}"
    if granted >= 1:
        return Finding(subject="cores", found=found)
    slow = "everything, in bursts: the control group grants less than one core"
    return Finding(subject="cores", found=found, slow=slow, remedy="raise its CPU limit to the number of workers")


def throttling_of(stat: str) -> Throttling | None:
    """From the text of a control group's cpu.stat, of version 2 (usec) or 1 (nanoseconds); None: no quota counted."""
    fields = dict(line.split() for line in stat.splitlines() if len(line.split()) == 2)
    if not int(fields.get("nr_periods", 0)):
        return None
    stopped_ms = int(fields.get("throttled_usec", 0)) / 1e3 + int(fields.get("throttled_time", 0)) / 1e6
    return Throttling(int(fields["nr_periods"]), int(fields["nr_throttled"]), stopped_ms)


def quota(throttling: Throttling | None) -> Finding:
    """A worker that uses up its quota is stopped until the next period."""
    if throttling is None:
        return Finding(subject="CPU quota", found="none")
    found = f"used up in {throttling.throttled:,} of {throttling.periods:,} periods"
    if not throttling.throttled:
        return Finding(subject="CPU quota", found=found)
    return Finding(
        subject="CPU quota",
        found=found,
        costs=f"{throttling.stopped_ms / throttling.throttled:.1f} ms of standing still each time",
        slow="whatever runs when the quota ends",
        remedy="give CPUs of their own (cpuset), or a limit above the number of workers",
    )


def frequency(governor: str, megahertz: float | None, ramp: Ramp | None) -> Finding:
    """A core that sleeps between requests answers the next one slowly: its clock, its caches, its virtual machine.

    Args:
        governor: of cpufreq; empty where the machine does not tell, as most virtual ones.
        megahertz: of the first core, just now; None where the machine does not tell.
        ramp: None where it was not measured.
    """
    shown = [governor or "no governor to see", *([] if megahertz is None else [f"{megahertz:,.0f} MHz"])]
    costs = None if ramp is None else f"{ramp.after_pause_us / ramp.warm_us:.2f} times the work's time after a pause"
    slows = governor == "powersave" if ramp is None else ramp.after_pause_us > 1.5 * ramp.warm_us
    return Finding(
        subject="frequency",
        found=", ".join(shown),
        costs=costs,
        slow="requests after a pause, which are most of them at low rates" if slows else None,
        remedy="set the governor to performance, or keep the core awake: `chrt --idle 0` a loop beside each worker"
        if slows
        else None,
    )


def clock(source: str, nanoseconds: float | None) -> Finding:
    """Every stage of a request reads the clock, and the event loop does."""
    slows = nanoseconds is not None and nanoseconds > _CLOCK_LIMIT_NS
    return Finding(
        subject="clock",
        found=source or "unknown source",
        costs=None if nanoseconds is None else f"{nanoseconds:,.0f} ns a reading",
        slow="each stage of a request: reading the clock is a system call" if slows else None,
        remedy="let the kernel use the tsc clock source" if slows else None,
    )


def huge_pages(setting: str, gathers: Gathers | None) -> Finding:
    """Random reads of the towers' tables pass through fewer page tables with huge pages; the mapped index has none.

    Args:
        setting: the text of /sys/kernel/mm/transparent_hugepage/enabled, as "always [madvise] never".
        gathers: None where they were not measured.
    """
    chosen = re.search(r"\[(\w+)\]", setting)
    mode = chosen[1] if chosen else "unknown"
    costs = None
    if gathers is not None:
        costs = f"{gathers.small_ns:.1f} ns a random read, {gathers.huge_ns:.1f} ns with huge pages"
    gained = math.inf if gathers is None else gathers.small_ns / gathers.huge_ns
    slows = mode == "never" if gathers is None else mode != "always" and gained > _NOTICEABLE
    advise = "start the service with GLIBC_TUNABLES=glibc.malloc.hugetlb=1 (glibc 2.35 or later)"
    allow = "write madvise to /sys/kernel/mm/transparent_hugepage/enabled, then " if mode == "never" else ""
    return Finding(
        subject="huge pages",
        found=f"transparent: {mode}",
        costs=costs,
        slow="random reads of the towers' tables" if slows else None,
        remedy=allow + advise if slows else None,
    )


def wake_up(measured: WakeUp | None) -> Finding:
    """A request that arrives on an idle core's doorstep waits until that core is awake."""
    if measured is None or measured.other is None:
        found = "not measured" if measured is None else "one core only: nothing to wake"
        return Finding(subject="waking a core", found=found)
    same, other = measured.same, measured.other
    slows = other.p99_us - same.p99_us > _WAKE_LIMIT_US
    return Finding(
        subject="waking a core",
        found="a byte there and back between two processes, a pause before each",
        costs=f"p50 {same.p50_us:,.0f} and p99 {same.p99_us:,.0f} us on one core, "
        f"{other.p50_us:,.0f} and {other.p99_us:,.0f} us across two",
        slow="a lone request whose client or proxy is on another core" if slows else None,
        remedy="measure latency with both on one core; in use, load keeps the cores awake" if slows else None,
    )


def system_calls(measured: SystemCalls | None) -> Finding:
    """The floor of any server: a sandbox or a tracer makes it higher."""
    if measured is None:
        return Finding(subject="system calls", found="not measured")
    slows = measured.call_ns > _CALL_LIMIT_NS
    return Finding(
        subject="system calls",
        found="getppid, and a message over loopback and back on one core",
        costs=f"{measured.call_ns:,.0f} ns a call, {measured.exchange_us:.1f} us there and back",
        slow="every request's network work: something stands before the kernel" if slows else None,
        remedy="use a container runtime without a system call sandbox, and no tracer" if slows else None,
    )


def connections(open_files: int, backlog: int, *, wanted_backlog: int) -> Finding:
    """Files that one process may open, and connections that the kernel lets wait for it."""
    found = f"{open_files:,} open files, a queue of {backlog:,}"
    if open_files < _CONNECTIONS:
        slow, remedy = "many clients at once: they wait for a free file", f"ulimit -n {_CONNECTIONS} or more"
    elif backlog < wanted_backlog:
        slow = "bursts of new connections: those that find the queue full try again after a second"
        remedy = f"sysctl net.core.somaxconn={wanted_backlog}"
    else:
        return Finding(subject="connections", found=found)
    return Finding(subject="connections", found=found, slow=slow, remedy=remedy)


def available_bytes(meminfo: str, limits: Iterable[str]) -> int:
    """What the kernel can still give, or a control group's limit when that is less.

    Args:
        meminfo: the text of /proc/meminfo.
        limits: texts of the groups' files: bytes, "max", or empty where there is none.
    """
    kilobytes = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    given = [1024 * int(kilobytes[1])] if kilobytes else []
    return min([*given, *(int(limit) for limit in limits if limit.isdigit())], default=0)


def memory(available: int, needed: int | None, pages: Pages | None) -> Finding:
    """A mapped index that does not fit is read from disk again and again.

    Args:
        available: bytes that the kernel can give without swapping, or the control group's limit when that is less.
        needed: bytes of a catalogue's mapped files; None without one.
        pages: None where they were not read.
    """
    found = f"{available / 1e9:,.1f} GB available"
    if needed is None:
        return Finding(subject="memory", found=f"{found}; --catalogue compares it with an index")
    fits = needed <= available
    return Finding(
        subject="memory",
        found=f"{found}, the catalogue has {needed / 1e9:,.2f} GB",
        costs=None
        if pages is None
        else f"{pages.memory_us:.1f} us a page in memory, {pages.disk_us:,.0f} us from disk",
        slow=None if fits else "searches whose lists or products are not in memory",
        remedy=None if fits else f"give {needed / 1e9:,.1f} GB and 0.5 GB for each worker, or use a smaller code",
    )


def neighbours(before: CpuTimes, after: CpuTimes, pauses: Pauses) -> Finding:
    """CPU steal, and what a spinning loop missed, between two looks at the clock."""
    steal = steal_between(before, after)
    disturbed = steal > STEAL_LIMIT or pauses.lost > _LOST_LIMIT
    return Finding(
        subject="neighbours",
        found=f"steal {steal:.1%}",
        costs=f"longest pause {pauses.longest_us:,.0f} us, {pauses.lost:.2%} of the time lost",
        slow="the slowest requests: others take this machine's cores" if disturbed else None,
        remedy="measure when it is quiet; in use, ask for dedicated cores" if disturbed else None,
    )
