"""GET /livez: the process is up. GET /readyz: it has answered real queries and will answer more."""

from fastapi import APIRouter, Response

from service.openapi import problems
from service.responses import json_response
from service.serving import Serving


def router(*, serving: Serving) -> APIRouter:
    routes = APIRouter()

    @routes.get("/livez", summary="Whether the process is up")
    async def livez() -> Response:
        return json_response({"status": "up"})

    @routes.get("/readyz", summary="Whether searches are answered", responses=problems(503))
    async def readyz() -> Response:
        pipeline = serving.require()
        ready = {"status": "ready", "release": pipeline.release.id, "generation": pipeline.generation.number}
        return json_response(ready)

    return routes
