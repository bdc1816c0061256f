"""The cursor: opaque, signed, small. It says where a walk over the pages stands, and for which request."""

import base64
import binascii
import hmac
import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from index.errors import CursorError, CursorGone
from index.operating_points import EFFORTS, MAX_SIZE

VERSION = 3
MAX_CHARS = 4_096
MAX_RELEASE_BYTES = 128
_DIGEST_BYTES = 16
_SIGNATURE_BYTES = 32
_canonical = msgspec.json.Encoder().encode
_HEAD = struct.Struct(f"<BB{_DIGEST_BYTES}sBHB")  # version, release bytes, digest, effort, position, numbers shown


class Cursor(NamedTuple):
    """Where the next page starts."""

    release: str
    digest: bytes  # of the request, see `request_digest`
    effort: str  # whose list the later pages slice
    shown: tuple[int, ...]  # product numbers of page 1
    position: int  # in the later list minus `shown`

    def check(self, *, release: str, digest: bytes) -> None:
        """Refuse a cursor that does not belong here.

        Raises:
            CursorError: it was given for another request.
            CursorGone: it was given by another release, whose scores cannot be continued.
        """
        if self.digest != digest:
            raise CursorError("this cursor belongs to another query or filter; start again without a cursor")
        if self.release != release:
            raise CursorGone(
                f"this cursor is of release {self.release!r}, now {release!r} is served; start again from page 1"
            )


def request_digest(values: Sequence[str | float | None]) -> bytes:
    """16 bytes that stand for everything in a request that shapes its list: query, filters, radius, mode, effort.

    Args:
        values: always the same ones in the same order.
    """
    return blake2b(_canonical(values), digest_size=_DIGEST_BYTES).digest()


class CursorCodec:
    """Encodes cursors and refuses what this catalogue did not sign (keyed BLAKE2b, RFC 7693 section 2.9).

    Args:
        key: the catalogue's secret, see `Catalogue.cursor_key`.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encode(self, cursor: Cursor) -> str:
        """URL-safe text of at most 4,096 characters. Raises CursorError for what a cursor cannot carry."""
        release = cursor.release.encode()
        if len(release) > MAX_RELEASE_BYTES or len(cursor.shown) > MAX_SIZE:
            raise CursorError(
                f"a cursor carries a release name of {MAX_RELEASE_BYTES} bytes and {MAX_SIZE} products at most, "
                f"not {len(release)} and {len(cursor.shown)}"
            )
        head = _HEAD.pack(
            VERSION, len(release), cursor.digest, EFFORTS.index(cursor.effort), cursor.position, len(cursor.shown)
        )
        body = head + release + struct.pack(f"<{len(cursor.shown)}I", *cursor.shown)
        return base64.urlsafe_b64encode(body + self._sign(body)).rstrip(b"=").decode()

    def decode(self, text: str) -> Cursor:
        """The cursor that `encode` wrote. Raises CursorError for anything else."""
        body = self._verified(text)
        if body[:1] != bytes([VERSION]):
            raise CursorError(f"this cursor has another version than {VERSION}, which this server reads; start again")
        try:
            _, release_bytes, digest, effort, position, n_shown = _HEAD.unpack_from(body)
            release_end = _HEAD.size + release_bytes
            return Cursor(
                release=body[_HEAD.size : release_end].decode(),
                digest=digest,
                effort=EFFORTS[effort],
                shown=struct.unpack_from(f"<{n_shown}I", body, release_end),
                position=position,
            )
        except (struct.error, UnicodeDecodeError, IndexError) as exc:
            raise CursorError(f"this cursor is damaged: {exc}; start again") from exc

    def _verified(self, text: str) -> bytes:
        """The signed bytes: ours, or those of another version with the same key."""
        forged = CursorError("this cursor was altered or is not of this catalogue; start again without a cursor")
        if len(text) > MAX_CHARS:
            raise forged
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as exc:
            raise forged from exc
        body, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
        # Base64 has several spellings of the same bytes; only ours counts.
        ours = base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == text
        if not ours or not hmac.compare_digest(signature, self._sign(body)):
            raise forged
        return body

    def _sign(self, body: bytes) -> bytes:
        # Not an HMAC of OpenSSL, which looks its parts up on every call, in code that a search finds cold.
        return blake2b(body, key=self._key, digest_size=_SIGNATURE_BYTES).digest()
