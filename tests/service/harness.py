"""The real application in this process, behind a synchronous client."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI

from service.app import create_app
from service.logs import make_logger
from service.settings import Settings

T = TypeVar("T")


class Client:
    """A synchronous HTTP client of an application in this process, on an event loop of its own."""

    def __init__(self, app: FastAPI, runner: asyncio.Runner) -> None:
        self.app = app
        self._runner = runner
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")

    def run(self, work: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T:
        async def on_the_loop() -> T:
            return await work(self._http)

        return self._runner.run(on_the_loop())

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.run(lambda http: http.get(url, **options))

    def post(self, url: str, **options: Any) -> httpx.Response:
        return self.run(lambda http: http.post(url, **options))

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        return self.run(lambda http: http.request(method, url, **options))


def answer_to(client: Client, **fields: object) -> dict[str, Any]:
    """The answer to a search by GET, which must be one."""
    answer = client.get("/search", params=fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@contextmanager
def application(
    settings: Settings, *, log: io.BytesIO | None = None, wait: bool = True, **parts: Any
) -> Iterator[Client]:
    """The application as it runs, by default once it has loaded or given up."""
    app = create_app(settings, log=make_logger("debug", log or io.BytesIO()), **parts)
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        client = Client(app, runner)
        try:
            if wait:
                wait_until_loaded(client)
            yield client
        finally:
            runner.run(lifespan.__aexit__(None, None, None))


def wait_until_loaded(client: Client) -> None:
    give_up = monotonic() + 60
    while monotonic() < give_up:
        answer = client.get("/readyz")
        if answer.status_code == 200 or "being loaded" not in answer.json()["detail"]:
            return
        client.run(lambda _: asyncio.sleep(0.01))
    raise AssertionError("not loaded within 60 s")
