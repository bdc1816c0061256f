"""The FastAPI application: the parts put together, once, at start-up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from service import openapi
from service.admission import Admission
from service.body import BodyReader
from service.connection import DOOR, Door
from service.keys import Guard
from service.loading import Load, load_pipeline
from service.logs import make_logger
from service.metrics import Metrics
from service.middleware import METHODS, SEARCH, RequestContextMiddleware
from service.parent import end_with_parent
from service.pipeline import Pipeline
from service.products import Product
from service.responses import add_error_handlers
from service.routes import admin, batch, bulk, embed, health, metrics, products
from service.routes.admin import ActivateRequest
from service.routes.products import ProductEndpoint
from service.routes.search import SearchEndpoint
from service.serving import Serving
from service.settings import Settings, load_settings
from service.watch import Watch, watch_folder
from service.write_rates import WriteRates

VERSION = "0.1.0"
# FastAPI asks OpenTelemetry on every request whether somebody set it up; our metrics are Prometheus'.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


class Application(FastAPI):
    """FastAPI, but that searches and single products go past its layers and its routing, straight to what answers them.

    Args:
        search: answers `/search`.
        product: answers `/products/{id}`.
        context: of the middleware around both, as around everything else.
    """

    def __init__(
        self, search: SearchEndpoint, product: ProductEndpoint, *, context: Mapping[str, Any], **options: Any
    ) -> None:
        super().__init__(**options)
        self._search = RequestContextMiddleware(search, **context)
        self._product = RequestContextMiddleware(product, **context)
        self._is_of_a_product = product.takes
        self.add_middleware(RequestContextMiddleware, **context)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif scope["path"] == SEARCH and scope["method"] in METHODS:
            await self._search(scope, receive, send)
        elif self._is_of_a_product(scope):
            await self._product(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


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
    serving = Serving()
    counters = Metrics(watch=folder, served=lambda: serving.served)
    admission = Admission(
        max_waiting_ms=settings.max_waiting_ms,
        max_standing_ms=settings.max_standing_ms,
        max_in_flight=settings.max_in_flight,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, object]]:
        end_with_parent()
        loading = asyncio.create_task(_start(serving, settings, load=load, log=log, counters=counters, watch=folder))
        yield {DOOR: Door(admission, counters)}
        await _stop(loading)
        serving.close()
        counters.close()

    bodies = BodyReader(max_bytes=settings.max_body_bytes, timeout_s=settings.timeout_ms / 1000)
    guard = Guard.of(settings.keys_file, host=settings.host)
    rates = WriteRates(rate=settings.write_rate, burst=settings.write_burst, metrics=counters)
    search = SearchEndpoint(serving=serving, admission=admission, bodies=bodies, metrics=counters, guard=guard)
    products_bodies = BodyReader(max_bytes=settings.max_line_bytes, timeout_s=settings.timeout_ms / 1000)
    product = ProductEndpoint(serving=serving, guard=guard, rates=rates, bodies=products_bodies)
    app = Application(
        search,
        product,
        context={"log": log, "log_every": settings.access_log_every, "metrics": counters},
        title="que2search",
        version=VERSION,
        lifespan=lifespan,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    app.state.serving = serving
    app.router.routes.append(Route(SEARCH, search, methods=list(METHODS), name="search"))
    app.include_router(batch.router(serving=serving, admission=admission, bodies=bodies, metrics=counters, guard=guard))
    app.include_router(embed.router(serving=serving, admission=admission, bodies=bodies, guard=guard))
    app.include_router(bulk.router(serving=serving, guard=guard, rates=rates, max_line_bytes=settings.max_line_bytes))
    app.include_router(products.router(product))
    app.include_router(admin.router(serving=serving, guard=guard, bodies=bodies, settings=settings))
    app.include_router(health.router(serving=serving))
    app.include_router(metrics.router(metrics=counters))
    add_error_handlers(app)
    openapi.install(app, further=[Product, ActivateRequest])
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
    def announce(pipeline: Pipeline) -> None:
        release, generation = pipeline.release.id, pipeline.generation.number
        counters.serving(release=release, generation=generation, engine=settings.engine)
        if watch is not None:
            share = settings.watch_share
            pipeline.watch(Watch(watch, share=share, generation=generation, metrics=counters))

    await serving.start(settings, load=load, announce=announce, log=log)


async def _stop(loading: asyncio.Task[None]) -> None:
    loading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await loading
