"""Products that tell which write made them: whatever is found says what it must look like as a whole."""

import random
from collections.abc import Mapping
from typing import Any, Final

SINGLY, IN_BULK, PROBE = "Chaos singly", "Chaos in bulk", "Chaos probe"  # categories: how the product is written
CATEGORIES: Final = (SINGLY, IN_BULK)
PROBE_ID: Final = "chaos-probe"
WORD: Final = "chaos"  # in every title
_WORDS: Final = (
    "red",
    "blue",
    "black",
    "white",
    "old",
    "new",
    "dress",
    "lamp",
    "guitar",
    "sofa",
    "bicycle",
    "phone case",
)
_TITLE_WORDS, _DESCRIPTION_WORDS = 4, 60
_PREFIXES: Final = {SINGLY: "chaos-s", IN_BULK: "chaos-b", PROBE: PROBE_ID}


def single_id(writer: int, number: int) -> str:
    """A product that is written by requests of its own, and by one writer alone."""
    return f"{_PREFIXES[SINGLY]}{writer}-{number}"


def bulk_id(number: int) -> str:
    """A product that is written as a line among many."""
    return f"{_PREFIXES[IN_BULK]}{number}"


def category_of(product_id: str) -> str | None:
    """The category of one of our products; None for any other product."""
    return next((category for category, prefix in _PREFIXES.items() if product_id.startswith(prefix)), None)


def fields_of(product_id: str, serial: int) -> dict[str, Any]:
    """What the write with that number stores, without the id. Its price is its number; every text follows from both."""
    draw = random.Random(f"{product_id} {serial}")
    return {
        "title": " ".join([WORD, *draw.choices(_WORDS, k=_TITLE_WORDS), str(serial)]),
        "description": " ".join(draw.choices(_WORDS, k=_DESCRIPTION_WORDS)),
        "category": category_of(product_id),
        "price": float(serial),
    }


def serial_in(product: Mapping[str, Any]) -> int | None:
    """The number of the write that made a product, as a hit or `GET` shows it; None: it is not whole."""
    serial = int(product.get("price", -1))
    expected = fields_of(product["id"], serial)
    if "description" not in product:  # hits leave it out
        del expected["description"]
    return serial if all(product.get(name) == value for name, value in expected.items()) else None
