"""A marketplace whose every field follows from a product's number, so that results can be worked out by hand."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from index.build import build_generation
from index.catalogue import Catalogue
from models.runtime import open_release
from tests.helpers import COLOURS

CATEGORIES = {
    "dress": "Fashion > Dresses",
    "bicycle": "Sports > Bicycles",
    "phone case": "Electronics > Phones > Cases",
    "lamp": "Home > Lamps",
    "wooden chair": "Home > Furniture > Chairs",
    "running shoes": "Fashion > Shoes > Running",
    "sofa": "Home > Furniture > Sofas",
    "guitar": "Music > Guitars",
}
COUNTRIES = ("GB", "US", "FR")
BRANDS = ("Adidas", "Nike", None)
SELLERS = ("ann", "bob", "cy", None)
FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC)


def product(number: int) -> dict[str, Any]:
    """Product n costs n and was created on day n; every seventh has no price, every fourth no seller."""
    thing = list(CATEGORIES)[number % 8]
    return {
        "product_id": f"p{number}",
        "title": f"{COLOURS[number % 5]} {thing} no {number}",
        "description": "worn twice, like new" if number % 3 == 0 else None,
        "category": CATEGORIES[thing],
        "country": COUNTRIES[number % 3],
        "brand": BRANDS[number // 8 % 3],
        "price": None if number % 7 == 6 else float(number),
        "currency": "GBP",
        "seller_id": SELLERS[number % 4],
        "created_at": FIRST_DAY + timedelta(days=number % 365),
        "attributes": {"condition": "new" if number % 2 else "used"},
    }


def products(count: int) -> list[dict[str, Any]]:
    return [product(number) for number in range(count)]


def market_catalogue(folder: Path, release_path: Path, records: Sequence[dict[str, Any]], *, factory: str) -> Path:
    """A catalogue of the records with one generation for the release; `condition` is a declared attribute."""
    release = open_release(release_path)
    with Catalogue.create(folder / "catalogue") as catalogue:
        numbers = catalogue.put_products(records)
        catalogue.put_vectors(release.id, numbers, release.embed_products(records))
        build_generation(catalogue, release=release.id, factory=factory, attributes=["condition"])
    return folder / "catalogue"
