"""A client of our own HTTP API: what `que2search search` asks with."""

from collections.abc import Mapping
from typing import Any

import httpx

from service.errors import ServiceError

TIMEOUT_S = 10.0


class ClientError(ServiceError):
    """The service cannot be reached, or answered with a problem."""


def search(url: str, fields: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """The decoded answer of `POST {url}/search`.

    Raises:
        ClientError: nobody answers there, or the answer is a problem document; says which.
    """
    try:
        response = httpx.post(f"{url.rstrip('/')}/search", json=dict(fields), timeout=timeout_s)
        answer: dict[str, Any] = response.json()
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise ClientError(f"cannot reach {url}: {exc}; is `que2search serve` running there?") from exc
    except ValueError as exc:
        raise ClientError(f"{url} answered {response.status_code} and no JSON; is it a que2search service?") from exc
    if response.is_error:
        raise ClientError(f"{url} answered {response.status_code}: {answer.get('detail', answer)}")
    return answer
