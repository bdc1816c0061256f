"""POST /products: JSON lines in, a result for each line out; resumable by an idempotency key."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import count
from typing import NamedTuple

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from index.writes import MAX_REQUEST_KEY_BYTES, Delete, Prepared, Put, RequestProgress, Write, WriteProblem, prepare
from service.errors import BodyTooLargeError, DeadlineError, InvalidFieldError, ProblemError, UnparsableError
from service.group_commit import GROUP
from service.keys import Guard
from service.openapi_products import BULK
from service.products import DeleteLine, Line
from service.schemas import checked
from service.serving import Serving
from service.write_rates import WriteRates
from service.writer import problem_of
from service.writes import Writes

IDEMPOTENCY_KEY = "idempotency-key"
MAX_LINES = 100_000  # of one request: their results are kept until all are in
READ_AT_ONCE = 8  # lines, between searches: a quarter of a millisecond
IDLE_S = 30.0  # for the next piece of a body to arrive; the whole may take as long as it likes
MEDIA_TYPE = "application/x-ndjson"

_encode = msgspec.json.Encoder().encode


class Result(NamedTuple):
    """What became of one line."""

    line: int  # from 1
    outcome: Write | ProblemError | None  # None: an earlier request with this key has done it


def router(*, serving: Serving, guard: Guard, rates: WriteRates, max_line_bytes: int) -> APIRouter:
    routes = APIRouter()

    @routes.post("/products", summary="Store and delete many products", openapi_extra=BULK)
    async def post(request: Request) -> Response:
        key = guard.check(request.headers.raw, "write")
        load = BulkLoad(serving.writes(), key=_idempotency_key(request.headers))
        results: list[Result] = []
        async for group in _groups(lines_of(request.receive, max_line_bytes=max_line_bytes)):
            await rates.pace(key, len(group))
            results += await load.written(group)
        return Response(b"".join(map(_shown, results)), media_type=MEDIA_TYPE)

    return routes


class NumberedLine(NamedTuple):
    number: int  # from 1
    text: bytes


class BulkLoad:
    """One request of many lines, committed group by group, each with how far it got.

    Args:
        writes: where it is written.
        key: the client's idempotency key; None: the request cannot be resumed.
    """

    def __init__(self, writes: Writes, *, key: str | None) -> None:
        self._writes = writes
        self._key = key
        self._done = 0 if key is None else writes.catalogue.request_progress(key)  # lines

    async def written(self, group: Sequence[NumberedLine]) -> list[Result]:
        """Commit a group, but for the lines that an earlier request has done."""
        known = [Result(line.number, None) for line in group if line.number <= self._done]
        lacking = [line for line in group if line.number > self._done]
        if not lacking:
            return known
        changes = await self._changes(lacking)
        right = [change for change in changes if not isinstance(change, ProblemError)]
        end = lacking[-1].number
        request = None if self._key is None else RequestProgress(self._key, self._done, end)
        outcomes = iter(await self._writes.writer.write_lines(right, request=request))
        self._done = end
        results = [
            Result(line.number, change if isinstance(change, ProblemError) else _outcome(next(outcomes)))
            for line, change in zip(lacking, changes, strict=True)
        ]
        return [*known, *results]

    async def _changes(self, lines: Sequence[NumberedLine]) -> list[Prepared | WriteProblem | ProblemError]:
        """What the lines say, read a few at a time: searches come in between."""
        changes = []
        for at, line in enumerate(lines):
            if at % READ_AT_ONCE == 0:
                await asyncio.sleep(0)
            change = self._change(line.text)
            changes.append(change if isinstance(change, ProblemError) else prepare(change))
        return changes

    def _change(self, line: bytes) -> Put | Delete | ProblemError:
        """What a line says; what is wrong with it spoils no other."""
        try:
            fields = msgspec.json.decode(line)
            if not isinstance(fields, dict):
                return InvalidFieldError("line", fields, 'a JSON object: a product with its id, or {"delete": ID}')
            if "delete" in fields:
                return checked(fields, DeleteLine, strict=True).change()
            product = checked(fields, Line, strict=True)
            self._writes.check_images(product)
            return product.change()
        except ProblemError as problem:
            return problem
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            return UnparsableError(f"the line is not JSON: {exc}")


async def lines_of(receive: Receive, *, max_line_bytes: int, idle_s: float = IDLE_S) -> AsyncIterator[bytes]:
    """The body's lines as they arrive, empty ones too; memory: one line.

    Raises:
        BodyTooLargeError: a line is longer than the limit.
        DeadlineError: nothing more of the body arrived for `idle_s` seconds.
        ClientDisconnect: the client left in the middle.
    """
    rest, more = b"", True
    while more:
        try:
            async with asyncio.timeout(idle_s):
                message = await receive()
        except TimeoutError as exc:
            raise DeadlineError(f"no more of the body arrived within {idle_s:g} s") from exc
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        *lines, rest = (rest + message.get("body", b"")).split(b"\n")
        for line in lines:
            if len(line) > max_line_bytes:
                raise BodyTooLargeError(f"a line has {len(line)} bytes, limit {max_line_bytes}")
            yield line
        if len(rest) > max_line_bytes:
            raise BodyTooLargeError(f"a line has more than {max_line_bytes} bytes")
    if rest:
        yield rest


async def _groups(lines: AsyncIterator[bytes]) -> AsyncIterator[list[NumberedLine]]:
    """Lines that hold something, as many as one transaction takes."""
    group: list[NumberedLine] = []
    numbers = count(1)
    async for line in lines:
        number = next(numbers)
        if number > MAX_LINES:
            raise BodyTooLargeError(f"more than {MAX_LINES:,} lines; send the others in another request")
        if not line.strip():
            continue
        group.append(NumberedLine(number, line))
        if len(group) == GROUP:
            yield group
            group = []
    if group:
        yield group


def _idempotency_key(headers: Headers) -> str | None:
    """Raises InvalidFieldError for one that is empty or too long."""
    key = headers.get(IDEMPOTENCY_KEY)
    if key is not None and not 1 <= len(key.encode()) <= MAX_REQUEST_KEY_BYTES:
        raise InvalidFieldError("Idempotency-Key", key, f"1 to {MAX_REQUEST_KEY_BYTES} bytes")
    return key


def _outcome(outcome: Write | WriteProblem) -> Write | ProblemError:
    return outcome if isinstance(outcome, Write) else problem_of(outcome)


def _shown(result: Result) -> bytes:
    match result.outcome:
        case None:
            told: dict[str, object] = {"status": 200, "done_before": True}
        case Write(_, sequence, changed):
            told = {"status": 202, "sequence": sequence, "version": sequence, "changed": changed}
        case problem:
            told = {"status": int(problem.status), "detail": problem.detail, **problem.members}
    return _encode({"line": result.line, **told}) + b"\n"
