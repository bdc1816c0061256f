"""A product as the write routes take it, checked in one pass, and as the catalogue keeps it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from index.records import MAX_ID_BYTES
from index.writes import Delete, Put
from service.errors import InvalidFieldError
from service.schemas import CONTROL, MAX_IMAGES, Price

Short = Annotated[str, Meta(min_length=1, max_length=512)]


class Product(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """All that a product may have; only the title must be there."""

    id: Annotated[
        str | None, Meta(description=f"1 to {MAX_ID_BYTES} bytes of UTF-8, no control characters; as in the path")
    ] = None
    title: Annotated[str, Meta(min_length=1, max_length=4096, description="title, 1 to 4096 characters")]
    description: Annotated[
        Annotated[str, Meta(max_length=65_536)] | None, Meta(description="up to 65536 characters")
    ] = None
    brand: Annotated[Short | None, Meta(description="1 to 512 characters")] = None
    category: Annotated[Short | None, Meta(description='from the root: "Fashion > Shoes", 1 to 512 characters')] = None
    country: Annotated[Short | None, Meta(description="ISO 3166 code")] = None
    language: Annotated[Short | None, Meta(description="ISO 639 code")] = None
    price: Annotated[Price | None, Meta(description="a number from 0")] = None
    currency: Annotated[Short | None, Meta(description="ISO 4217 code")] = None
    seller_id: Annotated[Short | None, Meta(description="1 to 512 characters")] = None
    created_at: Annotated[datetime | None, Meta(description="ISO 8601 date and time")] = None
    attributes: Annotated[
        dict[Short, Annotated[str, Meta(max_length=4096)]] | None, Meta(description="names and texts, up to 64")
    ] = None
    image_vectors: Annotated[
        Annotated[list[list[float]], Meta(max_length=MAX_IMAGES)] | None,
        Meta(description=f"up to {MAX_IMAGES} vectors of the release's size"),
    ] = None

    def __post_init__(self) -> None:
        if self.id is not None:
            check_id(self.id)
        if self.attributes is not None and len(self.attributes) > MAX_ATTRIBUTES:
            raise InvalidFieldError("attributes", len(self.attributes), f"up to {MAX_ATTRIBUTES} names")

    def put(self, product_id: str, *, expected: int | None) -> Put:
        """The write that stores it. Raises InvalidFieldError where its own `id` is another one."""
        if self.id not in {None, product_id}:
            raise InvalidFieldError("id", self.id, f"the path says {product_id!r}; leave it out")
        fields = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        fields.pop("id", None)
        return Put({"product_id": product_id, **fields}, expected)


MAX_ATTRIBUTES = 64


class Line(Product, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A line of `POST /products`: a product with its `id`."""

    def change(self) -> Put:
        if self.id is None:
            raise InvalidFieldError("id", None, "required: the product's id")
        return self.put(self.id, expected=None)


class DeleteLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A line of `POST /products` that deletes."""

    delete: Annotated[str, Meta(description="the id of the product to delete")]

    def __post_init__(self) -> None:
        check_id(self.delete)

    def change(self) -> Delete:
        return Delete(self.delete)


def check_id(product_id: str) -> None:
    """Raises InvalidFieldError for what is no product id."""
    if not 1 <= len(product_id.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES or CONTROL.search(product_id):
        raise InvalidFieldError("id", product_id, f"1 to {MAX_ID_BYTES} bytes of UTF-8, no control characters")


def check_images(vectors: Sequence[Sequence[float]] | None, *, field: str, dim: int) -> None:
    """Raises InvalidFieldError, naming the field, for image vectors of another size than the release reads."""
    for vector in vectors or ():
        if len(vector) != dim:
            raise InvalidFieldError(field, vector, f"this release reads image vectors of {dim} numbers")


def shown(product: dict[str, Any]) -> dict[str, Any]:
    """A stored product as it was written: `id` first, image vectors as lists."""
    fields = {name: value for name, value in product.items() if name != "product_id"}
    if "image_vectors" in fields:
        fields["image_vectors"] = [vector.tolist() for vector in fields["image_vectors"]]
    return {"id": product["product_id"], **fields}
