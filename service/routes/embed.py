"""POST /embed: the vector of a query or of a product."""

import asyncio

import numpy as np
from fastapi import APIRouter, Request, Response

from models.runtime import Release
from service.errors import InvalidFieldError
from service.openapi import EMBED
from service.responses import json_response
from service.routes.search import read_body
from service.schemas import EmbedRequest, ProductFields, SearchRequest, from_json
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
    if wanted.product is not None and wanted.query is None and wanted.country is None:
        fields = _product(wanted.product, image_dim=release.featurizer.spec.image_dim)
        # The document tower takes milliseconds: beside the event loop, which searches meanwhile.
        return await asyncio.to_thread(release.embed_product, fields)
    if wanted.query is None or wanted.product is not None:
        raise InvalidFieldError("query", wanted.query, "send either `query`, with an optional `country`, or `product`")
    checked = SearchRequest(q=wanted.query, country=wanted.country)
    return release.embed_query(checked.q, checked.country)


def _product(product: ProductFields, *, image_dim: int) -> dict[str, object]:
    for vector in product.image_vectors or ():
        if len(vector) != image_dim:
            raise InvalidFieldError("image_vectors", vector, f"this release reads image vectors of {image_dim} numbers")
    return {
        "title": product.title,
        "description": product.description,
        "image_vectors": product.image_vectors,
    }
