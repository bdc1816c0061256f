"""GET /metrics: Prometheus' text, summed over all workers, whichever answers."""

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.metrics import Metrics

TEXT: dict[str, Any] = {
    "description": "Prometheus' text format.",
    "content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}},
}


def router(*, metrics: Metrics) -> APIRouter:
    routes = APIRouter()

    @routes.get(
        "/metrics", summary="Prometheus metrics over all workers", responses={200: TEXT}, response_class=Response
    )
    async def scrape() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return routes
