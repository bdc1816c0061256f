"""The OpenAPI document of the routes that FastAPI does not see into, read off the types that check requests."""

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.errors import MEDIA_TYPE
from service.schemas import BatchRequest, EmbedRequest, Problem, SearchAnswer, SearchRequest, properties

SUMMARY = "Products by meaning: text in, products out."
SCHEMAS = "#/components/schemas/{name}"

PROBLEMS = {
    400: "not JSON, or not UTF-8",
    401: "a key is needed in X-API-Key",
    403: "the key's scope is too small; or no keys are configured and the server can be reached from elsewhere",
    404: "there is no such product",
    409: "the product has another version",
    410: "the cursor is of a release that is no longer served; `first_page` starts again",
    413: "the body is too large",
    422: "a field is unknown or wrong; the problem names it and its value",
    429: "too much waits, or the key writes too fast; come back after Retry-After seconds",
    503: "no usable release, or it is still being loaded; says why",
    504: "not even the cheapest effort fits the deadline; or nobody knows whether a write is stored",
}

SEARCH_PROBLEMS = (400, 401, 403, 410, 413, 422, 429, 503, 504)
READ_PROBLEMS = (400, 401, 403, 413, 422, 429, 503, 504)  # of a body that asks for something

ANSWER_EXAMPLE = {
    "query": "red summer dress",
    "page": 1,
    "hits": [
        {
            "score": 0.834211,
            "id": "p00017345",
            "title": "Red cotton summer dress, size M",
            "category": "Fashion > Women > Dresses",
            "country": "GB",
            "price": 24.5,
            "currency": "GBP",
        }
    ],
    "cursor": "AQ5zYW1wbGUtMjAyNS0wMQ",
    "search": {
        "mode": "vector",
        "effort": "low",
        "nprobe": 8,
        "candidates": 200,
        "min_score": None,
        "filter": None,
        "per_seller": None,
        "release": "sample",
        "generation": 1,
        "degraded": False,
    },
    "timings_us": {"featurise": 21, "query_tower": 180, "ann": 110, "products": 25, "total": 390},
}
SEARCH_EXAMPLES = {
    "first page": {"value": {"q": "red summer dress", "country": "GB"}},
    "a later page, by number": {"value": {"q": "red summer dress", "country": "GB", "page": 2, "size": 20}},
    "exact, only close ones": {"value": {"q": "bicicleta para niños", "effort": "exact", "min_score": 0.6}},
    "filters, by words and meaning": {
        "value": {
            "q": "red summer dress",
            "mode": "hybrid",
            "price_max": 50,
            "filter": 'country = "GB" AND NOT brand IN ("Adidas", "Nike")',
            "per_seller": 2,
        }
    },
    "as one expression": {"value": {"q": "red dress", "filter": "price < 50 AND (tokens OR nn(radius=0.24))"}},
}
EMBED_EXAMPLES = {
    "a query": {"value": {"query": "red summer dress", "country": "GB"}},
    "a product": {"value": {"product": {"title": "Red cotton summer dress", "description": "Worn twice, size M"}}},
}

BATCH_EXAMPLES = {
    "two searches": {"value": {"searches": [{"q": "red summer dress", "country": "GB"}, {"q": "lámpara", "size": 3}]}}
}


def install(app: FastAPI, *, further: Sequence[type[msgspec.Struct]]) -> None:
    """Make `app.openapi()`, and so /docs, describe every route; `further` types are referred to by some."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            whole = get_openapi(title=app.title, version=app.version, summary=SUMMARY, routes=app.routes)
            whole["paths"]["/search"] = {"get": _search_get(), "post": _search_post()}
            types = [SearchRequest, SearchAnswer, BatchRequest, EmbedRequest, Problem, *further]
            _, components = msgspec.json.schema_components(types, ref_template=SCHEMAS)
            components["BatchRequest"]["properties"]["searches"]["items"] = {"$ref": ref("SearchRequest")}
            whole.setdefault("components", {}).setdefault("schemas", {}).update(components)
            app.openapi_schema = whole
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route."""
    content = {MEDIA_TYPE: {"schema": {"$ref": ref("Problem")}}}
    return {status: {"description": PROBLEMS[status], "content": content} for status in statuses}


def _search_get() -> dict[str, Any]:
    parameters = [_parameter(name, dict(schema)) for name, schema in properties(SearchRequest).items()]
    return {"parameters": parameters, **_search(), "operationId": "search_get"}


def _parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    description = schema.pop("description")
    required = "default" not in schema
    return {"name": name, "in": "query", "required": required, "description": description, "schema": schema}


def _search_post() -> dict[str, Any]:
    return {"requestBody": _body("SearchRequest", SEARCH_EXAMPLES), **_search(), "operationId": "search_post"}


def _search() -> dict[str, Any]:
    schema = {"$ref": ref("SearchAnswer")}
    answer = {
        "description": "A page of products. Server-Timing holds the stages in milliseconds.",
        "content": {"application/json": {"schema": schema, "example": ANSWER_EXAMPLE}},
    }
    errors = {str(status): response for status, response in problems(*SEARCH_PROBLEMS).items()}
    return {"summary": "Search products by meaning", "responses": {"200": answer, **errors}}


def ref(name: str) -> str:
    return SCHEMAS.format(name=name)


def _body(name: str, examples: dict[str, Any]) -> dict[str, Any]:
    schema = {"$ref": ref(name)}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}


EMBED: dict[str, Any] = {
    "requestBody": _body("EmbedRequest", EMBED_EXAMPLES),
    "responses": {
        "200": {
            "description": "The vector, of norm 1, and the release that made it.",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["vector", "release"],
                        "properties": {
                            "vector": {"type": "array", "items": {"type": "number"}},
                            "release": {"type": "string"},
                        },
                    },
                    "example": {"vector": [0.0312, -0.1177], "release": "sample"},
                }
            },
        },
        **{str(status): response for status, response in problems(*READ_PROBLEMS).items()},
    },
}
BATCH: dict[str, Any] = {
    "requestBody": _body("BatchRequest", BATCH_EXAMPLES),
    "responses": {
        "200": {
            "description": "In the searches' order an answer each, or the problem that stands in its place.",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["answers"],
                        "properties": {
                            "answers": {
                                "type": "array",
                                "items": {"anyOf": [{"$ref": ref("SearchAnswer")}, {"$ref": ref("Problem")}]},
                            }
                        },
                    },
                    "example": {"answers": [ANSWER_EXAMPLE]},
                }
            },
        },
        **{str(status): response for status, response in problems(*READ_PROBLEMS).items()},
    },
}
