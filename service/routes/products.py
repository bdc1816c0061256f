"""PUT, GET and DELETE /products/{id}: one product, on disk before it is acknowledged, searchable within the second."""

from collections.abc import Mapping

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from index.writes import ABSENT, Delete, Write
from service.body import BodyReader
from service.errors import InvalidFieldError, NotFoundError, ProblemError
from service.keys import Guard
from service.openapi_products import DELETE, GET, PUT
from service.products import Product, check_id, shown
from service.responses import json_response, problem_response
from service.schemas import from_json, from_query_string
from service.serving import Serving
from service.visibility import Wait, Waiter
from service.write_rates import WriteRates

PATH = "/products/"  # before the id
ANY = "*"


class ProductEndpoint:
    """Answers for one product: a plain ASGI application, since FastAPI's layers take a quarter of a write's time."""

    def __init__(self, *, serving: Serving, guard: Guard, rates: WriteRates, bodies: BodyReader) -> None:
        self._serving = serving
        self._guard = guard
        self._rates = rates
        self._bodies = bodies
        self._by_method = {"PUT": self.put, "DELETE": self.delete, "GET": self.get}

    def takes(self, scope: Scope) -> bool:
        """Whether a request is for a product."""
        return scope["path"].startswith(PATH) and scope["method"] in self._by_method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._by_method[scope["method"]]
        try:
            response = await answer(scope["path"].removeprefix(PATH), Request(scope, receive))
        except ProblemError as problem:
            response = problem_response(problem, scope)
        await response(scope, receive, send)

    async def put(self, product_id: str, request: Request) -> Response:
        self._rates.check(self._guard.check(request.headers.raw, "write"))
        wait = from_query_string(request.scope["query_string"], Wait)
        check_id(product_id)
        product = from_json(await self._bodies.read(request.receive), Product)
        writes = self._serving.writes()
        writes.check_images(product)
        written = await writes.writer.write(product.put(product_id, expected=_expected(request.headers)))
        return await _written(product_id, written, wait, writes.waiter)

    async def delete(self, product_id: str, request: Request) -> Response:
        self._rates.check(self._guard.check(request.headers.raw, "write"))
        wait = from_query_string(request.scope["query_string"], Wait)
        check_id(product_id)
        writes = self._serving.writes()
        written = await writes.writer.write(Delete(product_id, _expected(request.headers)))
        return await _written(product_id, written, wait, writes.waiter)

    async def get(self, product_id: str, request: Request) -> Response:
        self._guard.check(request.headers.raw, "read")
        check_id(product_id)
        newest = self._serving.require().catalogue.newest(product_id)
        if newest is None:
            raise NotFoundError(f"there is no product {product_id!r}")
        state: dict[str, object] = {"version": newest.version, "searchable": newest.searchable}
        if newest.error is not None:
            state["error"] = newest.error
        answer = json_response({**shown(newest.product), **state})
        answer.headers["etag"] = _etag(newest.version)
        return answer


def router(endpoint: ProductEndpoint) -> APIRouter:
    """The routes, for the document and for the methods that a 405 names."""
    routes = APIRouter()
    path = PATH + "{product_id:path}"
    routes.put(path, summary="Store a product", openapi_extra=PUT, status_code=202)(endpoint.put)
    routes.delete(path, summary="Delete a product", openapi_extra=DELETE, status_code=202)(endpoint.delete)
    routes.get(path, summary="A product as it was last written", openapi_extra=GET)(endpoint.get)
    return routes


async def _written(product_id: str, written: Write, wait: Wait, waiter: Waiter) -> Response:
    """202 as soon as it is on disk; 200 where it was waited for and is to be found."""
    searchable = await waiter.visible(product_id, written) if wait.wait == "searchable" else False
    answer = json_response(
        {
            "id": product_id,
            "sequence": written.sequence,
            "version": written.sequence,
            "changed": written.changed,
            "searchable": searchable,
        }
    )
    answer.status_code = 200 if searchable else 202
    answer.headers["etag"] = _etag(written.sequence)
    return answer


def _expected(headers: Mapping[str, str] | Headers) -> int | None:
    """The version that If-Match names; ABSENT for `If-None-Match: *`. Raises InvalidFieldError for anything else."""
    if (match := headers.get("if-none-match")) is not None:
        if match.strip() != ANY:
            raise InvalidFieldError("If-None-Match", match, "only * is understood: the product is to be new")
        return ABSENT
    match = headers.get("if-match")
    if match is None:
        return None
    version = match.strip().strip('"')
    if not version.isascii() or not version.isdigit():
        raise InvalidFieldError("If-Match", match, 'the version in quotes, as ETag has it: "17"')
    return int(version)


def _etag(version: int) -> str:
    return f'"{version}"'
