"""How a product is kept: all its fields as one record, and the part that a hit shows as JSON ready to send."""

from collections.abc import Mapping, Sequence
from math import isfinite
from struct import pack
from typing import Any

import msgspec
import numpy as np

from index.errors import CatalogueError

MAX_ID_BYTES = 128
# What a hit shows besides id and score, in this order; absent and null fields are left out.
HIT_FIELDS = (
    "title",
    "brand",
    "category",
    "country",
    "language",
    "price",
    "currency",
    "seller_id",
    "created_at",
)

_json = msgspec.json.Encoder()
_pack = msgspec.msgpack.Encoder()
_unpack = msgspec.msgpack.Decoder(dict[str, Any])


def product_key(product_id: object) -> bytes:
    """A product id as bytes. Raises CatalogueError unless it is text of 1 to 128 UTF-8 bytes."""
    key = product_id.encode("utf-8", "replace") if isinstance(product_id, str) else b""
    if not 1 <= len(key) <= MAX_ID_BYTES:
        raise CatalogueError(f"product id {product_id!r} must be text of 1 to {MAX_ID_BYTES} UTF-8 bytes")
    return key


def encode_record(product: Mapping[str, Any]) -> bytes:
    """All fields, as MessagePack; image vectors as float32 bytes, a tenth of their size as text.

    Raises:
        CatalogueError: a field's value cannot be kept; names the product.
    """
    fields = {name: value for name, value in product.items() if value is not None}
    try:
        if "image_vectors" in fields:
            fields["image_vectors"] = [_row(vector) for vector in fields["image_vectors"]]
        return _pack.encode(fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise CatalogueError(f"product {product['product_id']!r} cannot be stored: {exc}") from exc


def decode_record(record: bytes) -> dict[str, Any]:
    """The fields given to `encode_record`, without the null ones; image vectors as float32 arrays.

    Raises:
        CatalogueError: it is no record.
    """
    try:
        fields: dict[str, Any] = _unpack.decode(record)
        if "image_vectors" in fields:
            fields["image_vectors"] = [np.frombuffer(v, dtype="<f4") for v in fields["image_vectors"]]
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError) as exc:
        raise CatalogueError(f"a product's record is damaged: {exc}; run `que2search catalogue check`") from exc
    return fields


def _row(vector: Sequence[float]) -> bytes:
    """Little-endian float32. Raises ValueError, TypeError or OverflowError for what is none.

    Without numpy, whose calls cost more than the numbers, of which there are few.
    """
    if not all(map(isfinite, vector)):
        raise ValueError("an image vector must be a row of finite float32 numbers")
    return pack(f"<{len(vector)}f", *vector)


def encode_fragment(product: Mapping[str, Any]) -> bytes:
    """`"id":"...","title":"..."`: a hit's members without braces, so that a score goes before them untouched."""
    shown = {"id": product["product_id"]}
    shown |= {name: product[name] for name in HIT_FIELDS if product.get(name) is not None}
    return _json.encode(shown)[1:-1]
