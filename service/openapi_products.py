"""The OpenAPI entries of the routes that write and read products."""

from typing import Any

from service.openapi import problems, ref
from service.products import Product
from service.schemas import properties
from service.visibility import Wait

_KEY = {"name": "X-API-Key", "in": "header", "schema": {"type": "string"}, "description": "where keys are configured"}
_WAIT = {
    "name": "wait",
    "in": "query",
    "schema": {name: value for name, value in properties(Wait)["wait"].items() if name != "description"},
    "description": properties(Wait)["wait"]["description"],
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "schema": {"type": "string"},
    "description": 'the version that is replaced, in quotes as ETag has it: `"17"`; another one is answered 409',
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "schema": {"type": "string", "const": "*"},
    "description": "`*`: there must be no such product yet",
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "the same body sent again with the same key goes on where it broke off",
}
_WRITTEN_EXAMPLE = {"id": "P1", "sequence": 17, "version": 17, "changed": True, "searchable": False}
_WRITTEN = {
    "202": {
        "description": "On disk; searchable within the second.",
        "content": {"application/json": {"example": _WRITTEN_EXAMPLE}},
    },
    "200": {
        "description": "With wait=searchable: searches of this worker find it so.",
        "content": {"application/json": {"example": _WRITTEN_EXAMPLE | {"searchable": True}}},
    },
}
PRODUCT_EXAMPLE = {
    "title": "Red cotton summer dress, size M",
    "category": "Fashion > Women > Dresses",
    "country": "GB",
    "price": 24.5,
    "currency": "GBP",
}


def _responses(*statuses: int) -> dict[str, Any]:
    return {str(status): response for status, response in problems(*statuses).items()}


PUT: dict[str, Any] = {
    "parameters": [_WAIT, _IF_MATCH, _IF_NONE_MATCH, _KEY],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": ref(Product.__name__)}, "example": PRODUCT_EXAMPLE}},
    },
    "responses": {**_WRITTEN, **_responses(400, 401, 403, 409, 413, 422, 429, 503, 504)},
}
DELETE: dict[str, Any] = {
    "parameters": [_WAIT, _IF_MATCH, _KEY],
    "responses": {**_WRITTEN, **_responses(401, 403, 404, 409, 422, 429, 503, 504)},
}
GET: dict[str, Any] = {
    "parameters": [_KEY],
    "responses": {
        "200": {
            "description": "Its fields, its version, whether that is searchable yet; `error` says why it cannot be.",
            "content": {
                "application/json": {"example": {"id": "P1", **PRODUCT_EXAMPLE, "version": 17, "searchable": True}}
            },
        },
        **_responses(401, 403, 404, 422, 503),
    },
}
BULK: dict[str, Any] = {
    "parameters": [_IDEMPOTENCY_KEY, _KEY],
    "requestBody": {
        "required": True,
        "description": 'JSON lines: products with their `id`, and `{"delete": ID}`.',
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
    },
    "responses": {
        "200": {
            "description": "A JSON line for each that came in, in order: 202 and its version, or what is wrong.",
            "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
        },
        **_responses(401, 403, 409, 413, 422, 429, 503, 504),
    },
}
