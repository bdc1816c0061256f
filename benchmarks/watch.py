"""What the watch costs a search: one pipeline with it and without it, in turn, while the real sampler reads."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from time import monotonic, sleep

import psutil  # type: ignore[import-untyped]  # it ships no types

from benchmarks.blocks import Arm, Block, Progress, in_turn, interleave
from benchmarks.conditions import conditions, pinned, searched
from benchmarks.queries import golden
from benchmarks.report import BenchResult, Row
from benchmarks.search import answer, first_requests
from service.clock import Clock
from service.errors import NotReadyError
from service.loading import load_pipeline
from service.logs import make_logger
from service.metrics import Metrics
from service.pipeline import Pipeline
from service.sampler_process import watched
from service.schemas import SearchRequest
from service.settings import load_settings
from service.watch import Watch, watch_folder
from service.watch_report import load_report

OFF, OFF_AGAIN, ON, EVERY = "not watched", "not watched, again", "watched", "watched, every search"
START_S = 60.0


def run(
    release: Path,
    catalogue: Path,
    *,
    share: float = 0.01,
    blocks: int = 60,
    calls: int = 300,
    progress: Progress | None = None,
) -> BenchResult:
    """Answer golden queries one at a time on one thread, first pages, as in `benchmarks.search`.

    One process makes all arms: two servers differ by more than what is measured here. The arm that is not watched runs
    twice, which tells the noise. The sampler shares the core, as it may where every core serves.

    Args:
        release: its golden queries are asked.
        catalogue: what is searched.
        share: of the searches that are sampled.

    Raises:
        NotReadyError: the release or the catalogue cannot be opened, or they do not belong together.
    """
    overrides = {"release": release, "catalogue": catalogue, "watch_share": share, "query_cache": 0}
    settings = load_settings({}, overrides=overrides)
    pipeline = load_pipeline(settings)
    requests = first_requests(golden(pipeline.release))
    shares = {OFF: None, OFF_AGAIN: None, ON: share, EVERY: 1.0}
    with (
        pinned() as core,
        watched(settings, log=make_logger("warning")),
        watches(shares, generation=pipeline.generation.number) as watch_of,
    ):
        before = sampler_seconds()
        measured = interleave(
            {name: arm(pipeline, watch, requests, calls=calls) for name, watch in watch_of.items()},
            blocks=blocks,
            progress=progress,
        )
        sampler_s = sampler_seconds() - before
    manifest = pipeline.generation.manifest
    result = BenchResult(
        bench="watch",
        title=f"Search of {manifest.count:,} products in-process, watched and not, one thread",
        rows=[row(name, each, measured.arms[OFF]) for name, each in measured.arms.items()],
        conditions=conditions(
            threads=1,
            core=core,
            **searched(manifest),
            golden_queries=len(requests),
            watch_share=share,
            watch_cpu=settings.watch_cpu,
            sampler_cpu_s=round(sampler_s, 2),
            calls_per_block=calls,
            **measured.conditions(),
        ),
        notes=["the sampler is a process of its own on the same core; its CPU time is a condition", *measured.notes()],
    )
    pipeline.watch(None)
    pipeline.close()
    return result


@contextmanager
def watches(shares: Mapping[str, float | None], *, generation: int) -> Iterator[dict[str, Watch | None]]:
    """By arm what picks its searches; None: nothing does. Waits until the sampler listens."""
    folder = watch_folder()
    if folder is None:
        raise NotReadyError("the sampler needs a catalogue with a generation, and a folder for temporary files")
    give_up = monotonic() + START_S
    while load_report(folder) is None:
        if monotonic() > give_up:
            raise NotReadyError(f"the sampler did not start within {START_S:g} s; its log says why")
        sleep(0.05)
    with ExitStack() as stack:
        yield {
            name: None
            if share is None
            else stack.enter_context(closing(Watch(folder, share=share, generation=generation, metrics=Metrics())))
            for name, share in shares.items()
        }


def arm(
    pipeline: Pipeline, watch: Watch | None, requests: list[SearchRequest], *, calls: int
) -> Callable[[int], Block]:
    """Blocks of searches that `watch` is offered."""
    ask = in_turn(lambda request: answer(pipeline, request, Clock()), requests, calls=calls)

    def block(number: int) -> Block:
        pipeline.watch(watch)
        return ask(number)

    return block


def sampler_seconds() -> float:
    """CPU time of this process' sampler."""
    times = [child.cpu_times() for child in psutil.Process().children() if "service.sampler" in child.cmdline()]
    return float(sum(each.user + each.system for each in times))


def row(name: str, arm: Arm, off: Arm) -> Row:
    """An arm's times, and its CPU time over that of the unwatched arm."""
    ratio = arm.cpu_us / off.cpu_us if arm.cpu_us is not None and off.cpu_us is not None else None
    return {"name": name, "p50_us": arm.p50_us, "p99_us": arm.p99_us, "cpu_us": arm.cpu_us, "cpu_over_off": ratio}
