"""Reads the body of a request, up to a size and a time."""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.errors import BodyTooLargeError, DeadlineError


class BodyReader:
    """The operator's limits on bodies.

    Args:
        max_bytes: a longer body is refused, its rest not read.
        timeout_s: a body that takes longer to arrive is refused.
    """

    def __init__(self, *, max_bytes: int, timeout_s: float) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def read(self, receive: Receive) -> bytes:
        """The whole body.

        Raises:
            BodyTooLargeError: it is longer than the limit.
            DeadlineError: it did not arrive in time.
            ClientDisconnect: nobody waits for an answer any more.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._read(receive)
        except TimeoutError as exc:
            raise DeadlineError(f"the body did not arrive within {self._timeout_s:g} s") from exc

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                raise BodyTooLargeError(f"the body has more than {self._max_bytes} bytes")
            more = message.get("more_body", False)
        return bytes(body)
