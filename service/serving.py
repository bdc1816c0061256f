"""What the routes serve from: loaded once, warmed by real queries, or the reason why there is nothing."""

import asyncio
import gc
import math
from collections.abc import Callable, Iterator
from time import perf_counter
from urllib.parse import urlencode

from structlog.typing import FilteringBoundLogger

from index.catalogue import Catalogue
from index.conditions import Compare
from index.errors import SearchIndexError
from index.generations import open_current
from models.errors import ModelsError
from models.runtime import GoldenQuery, open_release
from service.clock import Clock
from service.effort import Budget
from service.errors import NotReadyError
from service.pipeline import Pipeline
from service.query_vectors import QueryVectors
from service.rendering import render
from service.schemas import HYBRID, LEXICAL, MAX_QUERY, SearchRequest, from_query_string
from service.settings import Settings

Load = Callable[[Settings], Pipeline]
LOADING = "the release is still being loaded"
STOPPING = "the server is shutting down"
UNHURRIED = Budget(deadline_ns=math.inf, overloaded=False)  # the first searches are the slowest


class Serving:
    """Empty at first; `start` fills it or says why it cannot."""

    def __init__(self) -> None:
        self._pipeline: Pipeline | None = None
        self._reason = LOADING

    def require(self) -> Pipeline:
        """The pipeline. Raises NotReadyError, with the reason, while there is none."""
        if self._pipeline is None:
            raise NotReadyError(self._reason)
        return self._pipeline

    def close(self) -> None:
        """Undo `start`: this process can then open the same catalogue again."""
        if self._pipeline is not None:
            self._pipeline.close()
        self._pipeline, self._reason = None, STOPPING
        gc.unfreeze()

    async def start(self, settings: Settings, *, load: Load, log: FilteringBoundLogger) -> Pipeline | None:
        """Load beside the event loop, which answers /livez meanwhile, then warm up on it, as requests will run."""
        started = perf_counter()
        try:
            pipeline = await asyncio.to_thread(load, settings)
            queries = await _warm_up(pipeline, limit=settings.warmup_queries)
        except NotReadyError as exc:
            self._reason = exc.detail
            log.error("not serving", reason=exc.detail)  # noqa: TRY400 - the reason says it all, a traceback adds none
            return None
        except Exception:
            self._reason = "loading failed unexpectedly; the server's log says why"
            log.exception("not serving")
            return None
        gc.collect()
        gc.freeze()  # what is loaded stays: no collection walks over it again
        self._pipeline = pipeline
        log.info(
            "serving",
            release=pipeline.release.id,
            generation=pipeline.generation.number,
            warmup_queries=queries,
            seconds=round(perf_counter() - started, 3),
        )
        return pipeline


def load_pipeline(settings: Settings) -> Pipeline:
    """Open and verify the release, the catalogue and its current generation.

    Raises:
        NotReadyError: one is not configured, missing, altered, or they do not belong together.
    """
    if settings.release is None or settings.catalogue is None:
        missing = "Q2S_RELEASE" if settings.release is None else "Q2S_CATALOGUE"
        raise NotReadyError(f"{missing} is not set: there is nothing to serve")
    try:
        release = open_release(settings.release, engine=settings.engine)
        generation = open_current(settings.catalogue)
        built_for = generation.manifest.release
        if built_for != release.id:
            raise NotReadyError(
                f"generation {generation.number} of {settings.catalogue} was built for release {built_for!r}, "
                f"not {release.id!r}; run `que2search build` with this release"
            )
        return Pipeline(
            release=release,
            generation=generation,
            catalogue=Catalogue.open(settings.catalogue),
            max_effort=settings.max_effort,
            timeout_ms=settings.timeout_ms,
            query_vectors=_query_vectors(settings),
        )
    except (ModelsError, SearchIndexError) as exc:
        raise NotReadyError(str(exc)) from exc


def _query_vectors(settings: Settings) -> QueryVectors | None:
    if settings.query_cache == 0:
        return None
    return QueryVectors(most=settings.query_cache, seconds=settings.query_cache_hours * 3_600)


async def _warm_up(pipeline: Pipeline, *, limit: int) -> int:
    """Answer golden queries in every mode, from query string to JSON; the answers are thrown away."""
    golden = pipeline.release.golden_queries()[:limit]
    if not golden:
        raise NotReadyError(f"release {pipeline.release.id!r} has no golden queries to warm up with; export it again")
    for query in golden:
        for fields in _searches_for(query):
            request = from_query_string(urlencode(fields).encode(), SearchRequest)
            clock = Clock()
            render(pipeline.search(request, clock=clock, budget=UNHURRIED), clock)
            await asyncio.sleep(0)  # /livez answers meanwhile
    return len(golden)


def _searches_for(query: GoldenQuery) -> Iterator[dict[str, object]]:
    """Two pages by meaning, one by words, and one by both among the products of the searcher's country."""
    fields: dict[str, object] = {"q": query.query[:MAX_QUERY], "country": query.country or ""}
    own = Compare("country", "=", query.country) if query.country else Compare("price", ">=", 0.0)
    yield fields | {"page": 1}
    yield fields | {"page": 2}
    yield fields | {"mode": LEXICAL}
    yield fields | {"mode": HYBRID, "filter": str(own)}
