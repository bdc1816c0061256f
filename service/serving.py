"""What the routes serve from: loaded once, kept fresh, replaced whole; or the reason why there is nothing."""

import asyncio
import gc
from collections.abc import Callable
from time import monotonic, perf_counter

from structlog.typing import FilteringBoundLogger

from index.errors import SearchIndexError
from service.errors import NotReadyError
from service.loading import Load, warm_up
from service.pipeline import Pipeline
from service.settings import Settings
from service.successor import Successor
from service.writes import Writes

FOLLOW_EVERY_S = 0.02
REST_S = 0.002  # between two pieces of what changed: a search waits for one of them, not for all
LOOK_EVERY_S = 0.1  # for another generation
LOADING = "the release is still being loaded"
STOPPING = "the server is shutting down"

Announce = Callable[[Pipeline], None]


class Serving:
    """Empty at first; `start` fills it or says why it cannot."""

    def __init__(self) -> None:
        self.served: Pipeline | None = None
        self._writes: Writes | None = None
        self._successor: Successor | None = None
        self._following: asyncio.Task[None] | None = None
        self._reason = LOADING

    def require(self) -> Pipeline:
        """The pipeline. Raises NotReadyError, with the reason, while there is none.

        A request asks once, so that its answer comes from one release whatever is served after it.
        """
        if self.served is None:
            raise NotReadyError(self._reason)
        return self.served

    def writes(self) -> Writes:
        """What products are written through. Raises NotReadyError while nothing is served, or it cannot be written."""
        self.require()
        if self._writes is None:
            raise NotReadyError(
                "the catalogue was opened for reading only: Q2S_WRITES is off, or its folder cannot be written to"
            )
        return self._writes

    def close(self) -> None:
        """Undo `start`: this process can then open the same catalogue again."""
        if self._following is not None:
            self._following.cancel()
        if self._successor is not None:
            self._successor.close()
        if self._writes is not None:
            self._writes.writer.close()
        if self.served is not None:
            self.served.close()
        self.served, self._writes, self._reason = None, None, STOPPING
        gc.unfreeze()

    async def start(self, settings: Settings, *, load: Load, announce: Announce, log: FilteringBoundLogger) -> None:
        """Load beside the event loop, which answers /livez meanwhile, then warm up on it, as requests will run.

        Args:
            settings: what to load.
            load: loads it.
            announce: is called with each pipeline that is served from then on.
            log: where it tells what it serves, or why it does not.
        """
        started = perf_counter()
        try:
            pipeline = await asyncio.to_thread(load, settings)
            queries = await warm_up(pipeline, limit=settings.warmup_queries)
        except NotReadyError as exc:
            self._reason = exc.detail
            log.error("not serving", reason=exc.detail)  # noqa: TRY400 - the reason says it all, a traceback adds none
            return
        except Exception:
            self._reason = "loading failed unexpectedly; the server's log says why"
            log.exception("not serving")
            return
        gc.collect()
        gc.freeze()  # what is loaded stays: no collection walks over it again
        self.served = pipeline
        if pipeline.catalogue.writable:
            self._writes = Writes.of(
                pipeline,
                lambda: self.require().live.applied,
                max_backlog=settings.max_backlog,
                timeout_ms=settings.timeout_ms,
            )
        if settings.catalogue is not None:
            self._successor = Successor(settings.catalogue, settings, log=log)
        announce(pipeline)
        self._following = asyncio.create_task(self._follow(announce, log))
        log.info(
            "serving",
            release=pipeline.release.id,
            generation=pipeline.generation.number,
            warmup_queries=queries,
            seconds=round(perf_counter() - started, 3),
        )
        if settings.release is not None and settings.release != pipeline.release.path:
            log.warning("another release is active than the one named", named=str(settings.release))

    async def _follow(self, announce: Announce, log: FilteringBoundLogger) -> None:
        """Let searches find what was published, a few products at a time, and serve what is ready to be served."""
        look_at = 0.0
        while True:
            try:
                if self._successor is not None and monotonic() >= look_at:
                    self._look(self._successor, announce, log)
                    look_at = monotonic() + LOOK_EVERY_S
                moved = self._refresh()
            except SearchIndexError:
                log.exception("changes are not followed for a second")
                await asyncio.sleep(1.0)
                continue
            await asyncio.sleep(REST_S if moved else FOLLOW_EVERY_S)

    def _refresh(self) -> bool:
        """Whether anything was new, to what is served or to what will be."""
        ready = None if self._successor is None else self._successor.ready
        lives = [pipeline.live for pipeline in (self.served, ready) if pipeline is not None]
        before = [live.applied for live in lives]
        for live in lives:
            live.refresh()
        return before != [live.applied for live in lives]

    def _look(self, successor: Successor, announce: Announce, log: FilteringBoundLogger) -> None:
        """Serve another pipeline where it is time to: between two searches, so that each is answered by one."""
        present = self.require()
        pipeline = successor.look(present)
        if pipeline is None:
            return
        self.served = pipeline
        if self._writes is not None:
            self._writes = self._writes.by(pipeline)
        announce(pipeline)
        successor.serving(pipeline)
        log.info("serving", release=pipeline.release.id, generation=pipeline.generation.number)
        asyncio.get_running_loop().run_in_executor(None, _retire, [present])


def _retire(retired: list[Pipeline]) -> None:
    """In a thread, which holds the last reference: unmapping an index takes longer than a search may wait."""
    retired.pop().retire()
