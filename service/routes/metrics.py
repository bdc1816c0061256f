"""GET /metrics: Prometheus' text, summed over all workers, whichever answers."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.metrics import Metrics


def router(*, metrics: Metrics) -> APIRouter:
    routes = APIRouter()

    @routes.get("/metrics", summary="Prometheus metrics over all workers")
    async def scrape() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return routes
