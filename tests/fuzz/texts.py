"""What clients send as text: cursors, filters, and the lines of a bulk load."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from starlette.types import Message

from index.cursor import Cursor, CursorCodec
from index.errors import CursorError, ExpressionError
from index.expression import parse
from index.records import decode_record, encode_fragment
from index.writes import INVALID, Prepared, RequestProgress, Write, WriteProblem
from service.openapi import SEARCH_EXAMPLES
from service.openapi_products import PRODUCT_EXAMPLE
from service.routes.bulk import BulkLoad, _groups, _shown, lines_of
from service.writes import Writes
from tests.fuzz.target import Target

STATUSES = {202, 400, 422}
CODEC = CursorCodec(b"k" * 32)
SIGNED, SENT = b"s", b"t"  # first byte of a cursor's input: sign the rest, or take it as the text


def cursor(data: bytes) -> None:
    """A cursor is read or refused; one that was read is written so that it reads as before."""
    if data[:1] == SIGNED:
        body = data[1:]
        text = base64.urlsafe_b64encode(body + CODEC._sign(body)).rstrip(b"=").decode()
    else:
        text = data[1:].decode(errors="replace")
    try:
        found = CODEC.decode(text)
        again = CODEC.decode(CODEC.encode(found))
    except CursorError:
        return  # also where it is signed, but holds more than a cursor of this version may
    assert again == found


def expression(data: bytes) -> None:
    """A filter is read or refused; the canonical text of one that was read says the same."""
    try:
        parsed = parse(data.decode(errors="replace"))
        if parsed.condition is None:
            return
        again = parse(str(parsed.condition))
    except ExpressionError:
        return  # also where the canonical text is longer than a filter may be
    assert again == (parsed.condition, None), str(parsed.condition)


def lines(data: bytes) -> None:
    """A bulk load gives one result a line, in order, whatever its pieces: written, or what is wrong with it."""
    size = 1 + data[0] if data else 1
    results = asyncio.run(_loaded([data[at : at + size] for at in range(1, len(data), size)]))
    sent = [number for number, line in enumerate(data[1:].split(b"\n"), start=1) if line.strip()]
    assert sent == [result["line"] for result in results]
    assert {result["status"] for result in results} <= STATUSES


async def _loaded(pieces: Sequence[bytes]) -> list[dict[str, Any]]:
    messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    feed = iter(messages)

    async def receive() -> Message:
        return next(feed)

    writes = Writes(catalogue=cast("Any", None), writer=cast("Any", Disk()), waiter=cast("Any", None), image_dim=2)
    load = BulkLoad(writes, key=None)
    results = []
    async for group in _groups(lines_of(receive, max_line_bytes=1 << 20)):
        results += [msgspec.json.decode(_shown(result)) for result in await load.written(group)]
    return results


class Disk:
    """A writer that makes what would be stored, and reads it back."""

    async def write_lines(
        self, changes: Sequence[Prepared | WriteProblem], *, request: RequestProgress | None
    ) -> list[Write | WriteProblem]:
        assert request is None
        return [self._stored(change) for change in changes]

    def _stored(self, change: Prepared | WriteProblem) -> Write | WriteProblem:
        if isinstance(change, WriteProblem):
            assert change.kind == INVALID
            return change
        if change.record is not None:
            product = decode_record(change.record)
            hit = msgspec.json.decode(b'{"score":0.5,%b}' % encode_fragment(product))
            assert product["product_id"] == hit["id"]
        return Write(0, 1, changed=True)


def _cursor_seeds() -> list[bytes]:
    made = [
        Cursor("sample", bytes(range(16)), "low", (), 0),
        Cursor("größe", bytes(16), "exact", tuple(range(100)), 900),
        Cursor("", bytes(16), "high", (), 65_535),
    ]
    texts = [CODEC.encode(one).encode() for one in made]
    bodies = [base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))[:-32] for text in texts]
    more_than_fit = bodies[0][:21] + b"\xff" + bytes(4 * 255)
    cut = [bodies[1][:at] for at in (1, 5, 25, 40)]
    odd = [SIGNED + body for body in (*bodies, *cut, more_than_fit, b"", b"\x01" + bodies[0][1:])]
    return [*(SENT + text for text in texts), *odd, SENT]


def _filter_seeds() -> list[bytes]:
    shown = [example["value"].get("filter") for example in SEARCH_EXAMPLES.values()]
    more = [
        "price >= 1e3 AND NOT (brand NOT IN ('a\\'b', \"c\") OR created_at < 2025-11-30)",
        '"attribute name" != x AND tokens("red dress") AND (tokens AND nn(nprobe=4))',
    ]
    return [text.encode() for text in (*shown, *more) if text]


def _line_seeds() -> list[bytes]:
    product = msgspec.json.encode({"id": "P1", **PRODUCT_EXAMPLE})
    whole = {"id": "ü", "title": "t", "created_at": "2025-11-30T10:00:00+01:00", "attributes": {"a": "b"}}
    images = msgspec.json.encode({**whole, "image_vectors": [[0.5, 1e300]], "description": "d" * 20})
    deep = b'{"id": "P1", "title": "t", "attributes": {"a": %b}}' % (b"[" * 3_000)
    return [
        b"\xff" + product + b'\n{"delete": "P1"}\n\n' + images,
        b"\x03" + product + b"\r\n \n[1]\n" + b'{"delete": 7}',
        b"\xff" + deep,
    ]


TARGETS = {
    "cursor": lambda _folder: Target(cursor, _cursor_seeds()),
    "expression": lambda _folder: Target(expression, _filter_seeds()),
    "lines": lambda _folder: Target(lines, _line_seeds()),
}
