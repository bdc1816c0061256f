"""POST /embed: the vector of a query or of a product."""

import asyncio

import msgspec
import numpy as np
from fastapi import APIRouter, Request, Response

from models.runtime import Release
from service.errors import InvalidFieldError
from service.openapi import EMBED
from service.responses import json_response
from service.routes.search import read_body
from service.schemas import EmbedRequest, from_json
from service.serving import Serving


def router(*, serving: Serving, max_body_bytes: int) -> APIRouter:
    routes = APIRouter()

    @routes.post("/embed", summary="The vector of a query or of a product", openapi_extra=EMBED)
    async def embed(request: Request) -> Response:
        release = serving.require().release
        wanted = from_json(await read_body(request.receive, limit=max_body_bytes), EmbedRequest)
        vector = await _embed(wanted, release)
        return json_response({"vector": vector.tolist(), "release": release.id})

    return routes


async def _embed(wanted: EmbedRequest, release: Release) -> np.ndarray:
    if wanted.query is not None:
        return release.embed_query(wanted.query, wanted.country)
    fields = msgspec.structs.asdict(wanted.product)  # type: ignore[arg-type]  # checked: one of the two is there
    for vector in fields["image_vectors"] or ():
        _check_image(vector, dim=release.featurizer.spec.image_dim)
    # The document tower takes milliseconds: beside the event loop, which searches meanwhile.
    return await asyncio.to_thread(release.embed_product, fields)


def _check_image(vector: list[float], *, dim: int) -> None:
    if len(vector) != dim:
        raise InvalidFieldError("product.image_vectors", vector, f"this release reads image vectors of {dim} numbers")
