"""A worker's part in a change of generation: it makes the next one ready beside the one it serves."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from structlog.typing import FilteringBoundLogger

from index.errors import SearchIndexError
from index.generations import OPERATING_POINTS_FILE, current_number, generation_path
from index.live import LiveIndex
from index.succession import next_number
from models.errors import ModelsError
from service.errors import ServiceError
from service.handover import Word, fall_silent, say
from service.loading import next_pipeline, warm_up
from service.pipeline import Pipeline
from service.settings import Settings

REST_S: Final = 0.002  # of the event loop between searches of the warm-up: those of users come first


class _Wanted(NamedTuple):
    """A generation, with the operating points that it has just now."""

    number: int
    tuned_ns: int  # when they were written; 0: nobody knows


class Successor:
    """Makes the generation ready that `NEXT` names, or that became current, or was tuned, without it.

    By itself it changes nothing. Its methods are called on the event loop.

    Args:
        catalogue_path: the catalogue's folder.
        settings: the server's.
        log: where it tells what it could not open.
    """

    def __init__(self, catalogue_path: Path, settings: Settings, *, log: FilteringBoundLogger) -> None:
        self._path = catalogue_path
        self._settings = settings
        self._log = log
        self._served: _Wanted | None = None
        self._wanted: _Wanted | None = None  # is served, or made ready, or cannot be
        self._making: asyncio.Task[None] | None = None
        self._word: Word | None = None  # what was said last
        self.ready: Pipeline | None = None

    def look(self, present: Pipeline) -> Pipeline | None:
        """What is to be served from now on, in place of `present`; None: go on.

        Raises:
            IndexFileError: the catalogue's folder does not say what is current.
        """
        proposed = next_number(self._path)  # before CURRENT: a renamed file is seen once or twice, never not at all
        current = current_number(self._path)
        wanted = self._tuned(current if proposed is None else proposed)
        if self._served is None:
            self._begin(present)
        if wanted != self._wanted:
            self._change(present, wanted)
        elif proposed is not None and self._word is not None:
            self._say(self._word)  # again: whoever proposes it anew has forgotten what was said
        if self.ready is None or self.ready.generation.number != current:
            return None
        if self.ready.live.applied < present.live.applied:  # what was searchable stays so
            return None
        ready, self.ready, self._served = self.ready, None, self._wanted
        return ready

    def serving(self, pipeline: Pipeline) -> None:
        """Tell whoever changes generations what is served now."""
        self._say(Word(generation=pipeline.generation.number, serving=True))

    def close(self) -> None:
        """Make nothing ready any more."""
        self._give_up()
        with suppress(OSError):
            fall_silent(self._path)

    def _begin(self, present: Pipeline) -> None:
        self._served = self._wanted = self._tuned(present.generation.number)
        self.serving(present)

    def _change(self, present: Pipeline, wanted: _Wanted) -> None:
        self._give_up()
        self._wanted = wanted
        if wanted == self._served:
            self.serving(present)
        else:
            self._making = asyncio.create_task(self._make(present, wanted.number))

    def _tuned(self, number: int) -> _Wanted:
        try:
            status = (generation_path(self._path, number) / OPERATING_POINTS_FILE).stat()
        except OSError:
            return _Wanted(number, 0)
        return _Wanted(number, status.st_mtime_ns)

    def _give_up(self) -> None:
        if self._making is not None:
            self._making.cancel()
        self._making, self.ready = None, None

    async def _make(self, present: Pipeline, number: int) -> None:
        try:
            pipeline = await asyncio.to_thread(next_pipeline, self._settings, present, number)
            await _catch_up(pipeline.live)
            await warm_up(pipeline, limit=self._settings.warmup_queries, rest_s=REST_S)
        except (ModelsError, SearchIndexError, ServiceError) as exc:
            self._failed(number, str(exc))
        except Exception as exc:  # noqa: BLE001 - what is served goes on whatever the next one does
            self._log.exception("a generation cannot be opened", generation=number)
            self._failed(number, f"{type(exc).__name__}: {exc}")
        else:
            self.ready = pipeline
            self._say(Word(generation=number))

    def _failed(self, number: int, error: str) -> None:
        self._log.error("going on with what is served", refused_generation=number, reason=error)
        self._say(Word(generation=number, error=error))

    def _say(self, word: Word) -> None:
        self._word = word
        try:
            say(self._path, word)
        except OSError as exc:  # a folder that cannot be written to: nobody asks then
            self._log.debug("nobody is told what is served", reason=str(exc))


async def _catch_up(live: LiveIndex) -> None:
    """Apply what the log holds, a little at a time: searches come in between."""
    before = None
    while live.applied != before:
        before = live.applied
        live.refresh()
        await asyncio.sleep(0)
