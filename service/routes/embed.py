"""POST /embed: the vector of a query or of a product."""

import asyncio

import msgspec
import numpy as np
from fastapi import APIRouter, Request, Response

from models.runtime import Release
from service.admission import Admission
from service.body import BodyReader
from service.keys import Guard
from service.openapi import EMBED
from service.products import check_images
from service.responses import json_response
from service.schemas import EmbedRequest, from_json
from service.serving import Serving


def router(*, serving: Serving, admission: Admission, bodies: BodyReader, guard: Guard) -> APIRouter:
    routes = APIRouter()

    @routes.post("/embed", summary="The vector of a query or of a product", openapi_extra=EMBED)
    async def embed(request: Request) -> Response:
        guard.check(request.headers.raw, "read")
        admission.enter()
        try:
            release = serving.require().release
            wanted = from_json(await bodies.read(request.receive), EmbedRequest)
            vector = await _embed(wanted, release)
        finally:
            admission.leave()
        return json_response({"vector": vector.tolist(), "release": release.id})

    return routes


async def _embed(wanted: EmbedRequest, release: Release) -> np.ndarray:
    if wanted.product is not None:
        dim = release.featurizer.spec.image_dim
        check_images(wanted.product.image_vectors, field="product.image_vectors", dim=dim)
        # The document tower takes milliseconds: beside the event loop, which searches meanwhile.
        return await asyncio.to_thread(release.embed_product, msgspec.structs.asdict(wanted.product))
    return release.embed_query(wanted.query or "", wanted.country)  # a request without a product has a query
