"""What can go wrong in `service`, and the one place where it becomes an answer (RFC 9457).

ServiceError
├── SettingsError        a Q2S_ variable is unknown or impossible: before the server starts
├── ListenError          the address is taken or not ours: before the server starts
└── ProblemError         answered to the client as a problem document
    ├── UnparsableError      400  not JSON, not UTF-8
    ├── UnauthorizedError    401  a key is needed
    ├── ForbiddenError       403  the key does not allow it, or there are no keys
    ├── NotFoundError        404  there is no such product
    ├── ConflictError        409  the product has another version
    ├── InvalidFieldError    422  well-formed but wrong; names the field and the value
    ├── CursorExpiredError   410  of a release no longer served; member `first_page`
    ├── BodyTooLargeError    413
    ├── OverloadedError      429  with Retry-After
    ├── HeadTooLargeError    431  the request's line and headers are too long
    ├── NotReadyError        503  no usable release or catalogue; says why
    ├── DeadlineError        504  not even `minimal` effort fits the deadline
    └── UnconfirmedError     504  a write may be stored or not
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

import msgspec

MEDIA_TYPE = "application/problem+json"
MAX_ECHO = 80  # characters of a wrong value that its error message repeats


class ServiceError(Exception):
    """Base of all errors of `service`."""


class SettingsError(ServiceError):
    """A Q2S_ variable is unknown or has an impossible value."""


class ListenError(ServiceError):
    """The server cannot listen on the address."""


class ProblemError(ServiceError):
    """An answer other than success: status, a sentence for people, members for machines."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(self, detail: str, *, members: Mapping[str, object] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members = dict(members or {})
        self.headers: dict[str, str] = {}

    def body(self, request_id: str) -> bytes:
        """The problem document."""
        return problem_body(self.status, self.detail, members=self.members, request_id=request_id)


class UnparsableError(ProblemError):
    """Not JSON, or not UTF-8."""

    status = HTTPStatus.BAD_REQUEST


class UnauthorizedError(ProblemError):
    """A key is needed, and none that is known was sent."""

    status = HTTPStatus.UNAUTHORIZED

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.headers = {"WWW-Authenticate": 'ApiKey header="X-API-Key"'}


class ForbiddenError(ProblemError):
    """The key's scope is too small, or no keys are configured and the server can be reached from elsewhere."""

    status = HTTPStatus.FORBIDDEN


class NotFoundError(ProblemError):
    """There is no such product."""

    status = HTTPStatus.NOT_FOUND


class ConflictError(ProblemError):
    """The product has another version than the one that was to be replaced, or a request goes on elsewhere."""

    status = HTTPStatus.CONFLICT


class InvalidFieldError(ProblemError):
    """A field's value is wrong; the message says which, what it was, and what is allowed."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, field: str, value: object, allowed: str) -> None:
        field, shown = field[:MAX_ECHO], echo(value)
        super().__init__(f"{field}={shown}: {allowed}", members={"field": field, "value": shown})


class CursorExpiredError(ProblemError):
    """A cursor of a release that is no longer served; `first_page` is the URL to start again from."""

    status = HTTPStatus.GONE

    def __init__(self, detail: str, *, first_page: str) -> None:
        super().__init__(detail, members={"first_page": first_page})


class BodyTooLargeError(ProblemError):
    """The body has more bytes than the operator allows."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class OverloadedError(ProblemError):
    """Too much waits already; come back in `retry_after_s` seconds."""

    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": str(retry_after_s)}


class HeadTooLargeError(ProblemError):
    """The request's line and headers have more bytes than are read."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class NotReadyError(ProblemError):
    """There is no usable release or catalogue, or it is still being loaded."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class DeadlineError(ProblemError):
    """Not even the cheapest effort fits into what is left of the deadline."""

    status = HTTPStatus.GATEWAY_TIMEOUT


class UnconfirmedError(ProblemError):
    """The process that commits ended while it had the write."""

    status = HTTPStatus.GATEWAY_TIMEOUT

    def __init__(self) -> None:
        super().__init__("the process that commits writes ended: whether it stored this one is not known; read it")


def echo(value: object) -> str:
    """A wrong value as an error repeats it: JSON, cut short."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_ECHO else f"{text[:MAX_ECHO]}... ({len(text)} characters)"


def problem_body(status: int, detail: str, *, members: Mapping[str, object], request_id: str | None) -> bytes:
    """A problem document: `type` is about:blank, so `title` is the status' own phrase (RFC 9457 section 4.2.1)."""
    document: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        **members,
    }
    if request_id is not None:
        document["request_id"] = request_id
    return msgspec.json.encode(document)
