"""Two services that search nothing: what a framework and a server cost by themselves. Run as a process of its own.

python -m benchmarks.floor_apps fastapi 127.0.0.1 8001
"""

import sys
from typing import Any

import uvicorn

TARGET = "/empty"
_BODY = b'{"status":"up"}'


def fastapi_app() -> Any:
    """One `async def` route that returns a small dictionary, as FastAPI's first page shows it."""
    from fastapi import FastAPI  # noqa: PLC0415 - the bare server must not pay for it

    app = FastAPI()

    @app.get(TARGET)
    async def empty() -> dict[str, str]:
        return {"status": "up"}

    return app


async def bare_app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - the signature is ASGI's
    """The least that ASGI allows: the same bytes for every request."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _BODY})


def main(kind: str, host: str, port: int) -> None:
    """Serve until stopped, with the settings of `que2search serve` (service/server.py)."""
    uvicorn.run(
        fastapi_app() if kind == "fastapi" else bare_app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on" if kind == "fastapi" else "off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
