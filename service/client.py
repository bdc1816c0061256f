"""A client of our own HTTP API: what `que2search search` and `que2search release` ask with."""

from collections.abc import Iterator, Mapping
from time import sleep
from typing import Any

import httpx
import msgspec

from service.activation import RELEASE, Activation
from service.errors import ServiceError

TIMEOUT_S = 10.0


class ClientError(ServiceError):
    """The service cannot be reached, or answered with a problem."""


def search(url: str, fields: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """The decoded answer of `POST {url}/search`.

    Raises:
        ClientError: nobody answers there, or the answer is a problem document; says which.
    """
    return _answer("POST", url, "/search", json=dict(fields), timeout_s=timeout_s)


def activate_release(url: str, name: str, *, key: str | None, every_s: float = 0.3) -> Iterator[Activation]:
    """Ask a running server to serve another release; how far it is, until that has ended.

    Raises:
        ClientError: as `search`, or the release was refused.
    """
    status = _answer("POST", url, RELEASE, json={"release": name}, key=key)
    while True:
        activation = msgspec.convert(status["activation"], Activation)
        yield activation
        if activation.state == "refused":
            raise ClientError(f"{url} goes on with release {status['release']}: {activation.error}")
        if activation.state == "active":
            return
        sleep(every_s)
        status = _answer("GET", url, RELEASE, key=key)


def release_status(url: str, *, key: str | None) -> dict[str, Any]:
    """What a running server serves, served before, and is about to serve. Raises ClientError as `search`."""
    return _answer("GET", url, RELEASE, key=key)


def _answer(
    method: str,
    url: str,
    path: str,
    *,
    json: Mapping[str, Any] | None = None,
    key: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> dict[str, Any]:
    headers = {} if key is None else {"X-API-Key": key}
    try:
        response = httpx.request(method, f"{url.rstrip('/')}{path}", json=json, headers=headers, timeout=timeout_s)
        answer: dict[str, Any] = response.json()
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise ClientError(f"cannot reach {url}: {exc}; is `que2search serve` running there?") from exc
    except ValueError as exc:
        raise ClientError(f"{url} answered {response.status_code} and no JSON; is it a que2search service?") from exc
    if response.is_error:
        raise ClientError(f"{url} answered {response.status_code}: {answer.get('detail', answer)}")
    return answer
