"""What a measuring client must read of an answer's bytes; imports nothing, so that a client's process stays small."""

import re
from typing import Final

HEAD_ENDS: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TOTAL: Final = re.compile(rb"\r\nserver-timing:[^\r]*\btotal;dur=([\d.]+)", re.IGNORECASE)
_DEGRADED: Final = b'"degraded":true'


def status_of(head: bytes) -> int:
    """Of the status line, `HTTP/1.1 200 OK`."""
    return int(head[9:12])


def content_length(head: bytes) -> int | None:
    """Bytes of the body; None where the head does not say it."""
    length = _LENGTH.search(head)
    return None if length is None else int(length[1])


def server_total_us(head: bytes) -> float | None:
    """The total of the Server-Timing header, whose unit is the millisecond; None where there is none."""
    total = _TOTAL.search(head)
    return None if total is None else float(total[1]) * 1e3


def is_degraded(body: bytes) -> bool:
    """Whether a search was answered with less effort than it asked for."""
    return _DEGRADED in body
