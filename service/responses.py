"""Responses of the routes that are not hot, and every error as a problem document."""

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from service.errors import MEDIA_TYPE, ProblemError, problem_body
from service.middleware import context_of

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH")


def json_response(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")


def problem_response(problem: ProblemError, scope: Scope) -> Response:
    return Response(problem.body(context_of(scope).id), problem.status, problem.headers, MEDIA_TYPE)


def add_error_handlers(app: FastAPI) -> None:
    """Map our errors, and Starlette's own 404 and 405, once."""
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(HTTPException, _http_problem)


async def _problem(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, ProblemError):
        raise exc
    return problem_response(exc, request.scope)


async def _http_problem(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, HTTPException):
        raise exc
    detail = {
        404: f"there is nothing at {request.url.path}; /docs lists what there is",
        405: f"{request.url.path} does not take {request.method}; see the Allow header",
    }.get(exc.status_code, exc.detail)
    body = problem_body(exc.status_code, detail, members={}, request_id=context_of(request.scope).id)
    headers = {"Allow": ", ".join(_taken(request))} if exc.status_code == 405 else exc.headers
    return Response(body, exc.status_code, headers, MEDIA_TYPE)


def _taken(request: Request) -> list[str]:
    """The methods that some route takes at this path; Starlette's own header names those of the first route alone."""
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    routes = request.app.routes
    return [name for name, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]
