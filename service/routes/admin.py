"""POST and GET /admin/release: serve another release, without a gap, and see how far that is."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import Meta

from models.errors import ReleaseError
from service.activation import RELEASE, Activation, ask, previous_release, told
from service.body import BodyReader
from service.errors import ConflictError, InvalidFieldError, NotReadyError
from service.keys import Guard
from service.openapi import problems, ref
from service.releases import named
from service.responses import json_response
from service.schemas import from_json
from service.serving import Serving
from service.settings import Settings
from service.upkeep import is_written


class ActivateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which release to serve."""

    release: Annotated[str, Meta(min_length=1, max_length=255, description="its folder, beside the one served")]


def router(*, serving: Serving, guard: Guard, bodies: BodyReader, settings: Settings) -> APIRouter:
    routes = APIRouter()

    @routes.post(
        RELEASE,
        summary="Serve another release",
        status_code=202,
        responses=problems(400, 401, 403, 409, 413, 422, 503, 504),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": ref(ActivateRequest.__name__)}}},
            }
        },
    )
    async def activate(request: Request) -> Response:
        guard.check(request.headers.raw, "admin")
        name = from_json(await bodies.read(request.receive), ActivateRequest).release
        pipeline = serving.require()
        if not is_written(settings):
            raise NotReadyError("this server builds nothing: its catalogue is read-only, or Q2S_WRITES is off")
        try:
            named(pipeline.release.path.parent, name)
        except ReleaseError as exc:
            raise InvalidFieldError("release", name, str(exc)) from exc
        try:
            is_asked = ask(pipeline.catalogue.path, name)
        except OSError as exc:
            raise NotReadyError(f"nothing was asked for: {exc}. Is the disk full or read-only?") from exc
        if not is_asked:
            raise ConflictError(f"another release is under way; GET {RELEASE} tells how far it is")
        answer = _status(serving)
        answer.status_code = 202
        return answer

    @routes.get(RELEASE, summary="What is served, and how far a change of it is", responses=problems(401, 403, 503))
    async def status(request: Request) -> Response:
        guard.check(request.headers.raw, "admin")
        return _status(serving)

    return routes


def _status(serving: Serving) -> Response:
    pipeline = serving.require()
    path = pipeline.catalogue.path
    activation: Activation | None = told(path)
    return json_response(
        {
            "release": pipeline.release.id,
            "generation": pipeline.generation.number,
            "previous": previous_release(path),
            "activation": activation,
        }
    )
