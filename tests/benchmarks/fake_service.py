"""A service that answers what a test wants, one request at a time, as one busy process would."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = dict[str, Any]
SERVER_MS = 0.25  # what every search claims to have taken


class FakeService:
    """Pages of ten invented products, three pages a query; `stall_at` stops everything before that search."""

    def __init__(
        self, *, change: Callable[[Answer], Answer] = lambda answer: answer, stall_at: int = -1, stall_s: float = 0.0
    ) -> None:
        self._change = change
        self._stall_at = stall_at
        self._stall_s = stall_s
        self.searches = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split(b" ")[1].decode()
                body, timing = self._answer(target)
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n{timing}\r\n".encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, target: str) -> tuple[bytes, str]:
        if not target.startswith("/search"):
            return b"{}", ""
        self.searches += 1
        if self.searches == self._stall_at:
            time.sleep(self._stall_s)  # of the whole process, as a garbage collection is
        fields = parse_qs(urlsplit(target).query)
        page = int(fields.get("cursor", ["1"])[0])
        answer = self._change(search_answer(fields["q"][0], page=page))
        timing = f"Server-Timing: ann;dur={SERVER_MS / 2}, total;dur={SERVER_MS}\r\n"
        return json.dumps(answer).encode(), timing


def search_answer(query: str, *, page: int) -> Answer:
    """What the service would send; pages 1 to 3, the cursor is the next page's number."""
    first = 10 * (page - 1)
    hits = [{"id": f"p{at}", "score": 1 - at / 100, "title": "thing"} for at in range(first, first + 10)]
    search = {"mode": "vector", "effort": "low", "nprobe": 8, "candidates": 100, "min_score": None}
    return {
        "query": query,
        "page": page,
        "hits": hits,
        "cursor": str(page + 1) if page < 3 else None,
        "search": search | {"filter": None, "per_seller": None, "release": "fake", "generation": 1, "degraded": False},
        "timings_us": {"featurise": 1, "query_tower": 1, "ann": 1, "products": 1, "total": 250},
    }


@contextmanager
def running(service: FakeService) -> Iterator[FakeService]:
    """The service on a free port of this machine, in a thread with an event loop of its own."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(service.serve, "127.0.0.1", 0))
    service.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield service
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(shut(server))
        loop.close()


async def shut(server: asyncio.Server) -> None:
    server.close()
    connections = asyncio.all_tasks() - {asyncio.current_task()}
    for connection in connections:
        connection.cancel()
    await asyncio.gather(*connections, return_exceptions=True)
