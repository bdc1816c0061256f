"""The FastAPI application: the parts put together, once, at start-up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.routing import Route
from structlog.typing import FilteringBoundLogger

from service import openapi
from service.admission import Admission
from service.body import BodyReader
from service.connection import DOOR, Door
from service.logs import make_logger
from service.metrics import Metrics
from service.middleware import METHODS, SEARCH, RequestContextMiddleware
from service.responses import add_error_handlers
from service.routes import batch, embed, health, metrics
from service.routes.search import SearchEndpoint
from service.serving import Load, Serving, load_pipeline
from service.settings import Settings, load_settings
from service.watch import Watch, watch_folder

VERSION = "0.1.0"
# FastAPI asks OpenTelemetry on every request whether somebody set it up; our metrics are Prometheus'.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


def create_app(
    settings: Settings | None = None, *, load: Load = load_pipeline, log: FilteringBoundLogger | None = None
) -> FastAPI:
    """An application that loads its release when it starts, and answers 503 until it has.

    Args:
        settings: read from the environment when None, as in a worker process.
        load: makes the pipeline; tests give one with small parts.
        log: where the application logs.
    """
    settings = settings or load_settings()
    log = log or make_logger(settings.log_level)
    folder = watch_folder()
    serving, counters = Serving(), Metrics(watch=folder)
    admission = Admission(
        max_waiting_ms=settings.max_waiting_ms,
        max_standing_ms=settings.max_standing_ms,
        max_in_flight=settings.max_in_flight,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, object]]:
        loading = asyncio.create_task(_start(serving, settings, load=load, log=log, counters=counters, watch=folder))
        yield {DOOR: Door(admission, counters)}
        await _stop(loading)
        serving.close()
        counters.close()

    app = FastAPI(
        title="que2search", version=VERSION, lifespan=lifespan, redirect_slashes=False, telemetry=NO_TELEMETRY
    )
    app.state.serving = serving
    bodies = BodyReader(max_bytes=settings.max_body_bytes, timeout_s=settings.timeout_ms / 1000)
    search = SearchEndpoint(serving=serving, admission=admission, bodies=bodies, metrics=counters)
    app.router.routes.append(Route(SEARCH, search, methods=list(METHODS), name="search"))
    app.include_router(batch.router(serving=serving, admission=admission, bodies=bodies, metrics=counters))
    app.include_router(embed.router(serving=serving, admission=admission, bodies=bodies))
    app.include_router(health.router(serving=serving))
    app.include_router(metrics.router(metrics=counters))
    app.add_middleware(
        RequestContextMiddleware, log=log, log_every=settings.access_log_every, metrics=counters, search=search
    )
    add_error_handlers(app)
    openapi.install(app)
    return app


async def _start(
    serving: Serving,
    settings: Settings,
    *,
    load: Load,
    log: FilteringBoundLogger,
    counters: Metrics,
    watch: Path | None,
) -> None:
    pipeline = await serving.start(settings, load=load, log=log)
    if pipeline is not None:
        release, generation = pipeline.release.id, pipeline.generation.number
        counters.serving(release=release, generation=generation, engine=settings.engine)
        if watch is not None:
            share = settings.watch_share
            pipeline.watch(Watch(watch, share=share, generation=generation, metrics=counters))


async def _stop(loading: asyncio.Task[None]) -> None:
    loading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await loading
