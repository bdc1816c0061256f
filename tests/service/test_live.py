"""Pages follow what is written while they are served."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from index.catalogue import Catalogue
from index.generations import open_current
from index.publications import Published
from index.writes import Delete, Put
from models.runtime import open_release
from service.pipeline import Pipeline
from service.schemas import SearchRequest
from tests.market import market_catalogue, product, products
from tests.service.walking import follow, page_of

COUNT = 60


class Market:
    """A catalogue that is written to, and the pipeline that searches it."""

    def __init__(self, release_path: Path, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.release = open_release(release_path)
        self.pipeline = Pipeline(
            release=self.release,
            generation=open_current(catalogue.path),
            catalogue=catalogue,
            max_effort="exact",
            timeout_ms=60_000,
        )

    def publish(self, record: dict[str, Any]) -> None:
        self.catalogue.write([Put(record)])
        (waiting,) = self.catalogue.pending(10)
        (vector,) = self.release.embed_products([waiting.product])
        self.catalogue.publish([Published(waiting.number, waiting.sequence, {self.release.id: vector})])

    def found(self, query: str, **fields: Any) -> list[int]:
        return page_of(self.pipeline, SearchRequest(q=query, **fields)).products


@pytest.fixture
def market(release_path: Path, tmp_path: Path) -> Iterator[Market]:
    path = market_catalogue(tmp_path, release_path, products(COUNT), factory="IVF4,Flat")
    with Catalogue.open(path, readonly=False) as catalogue:
        yield Market(release_path, catalogue)


def test_a_published_product_is_found_in_every_mode(market: Market) -> None:
    """Once the view is refreshed: by meaning, by words, by both, under a filter, and in the explanation."""
    market.publish(product(COUNT) | {"title": "harpsichord", "price": 777.0, "category": "Music > Keys"})
    assert COUNT not in market.found("harpsichord", mode="lexical")

    market.pipeline.live.catch_up()

    assert [[COUNT]] * 3 == [
        market.found("harpsichord", **fields)
        for fields in ({"mode": "lexical"}, {"category": "Music > Keys"}, {"mode": "hybrid", "price_min": 700.0})
    ]
    assert COUNT == market.found("harpsichord", effort="exact")[0]
    (hit,) = page_of(market.pipeline, SearchRequest(q="harpsichord", explain=True, price_min=700.0)).answer.hits
    explained = msgspec.json.decode(hit)["explain"]
    assert explained["vector"]["score"] == pytest.approx(msgspec.json.decode(hit)["score"], abs=1e-6)
    assert explained["lexical"]["score"] > 0


def test_a_product_deleted_since_the_refresh_is_left_out(market: Market) -> None:
    """The page is shorter; after the refresh nothing is missing."""
    before = market.found("wooden chair", effort="exact")
    market.catalogue.write([Delete(f"p{before[0]}")])

    assert before[1:] == market.found("wooden chair", effort="exact")
    explained = page_of(market.pipeline, SearchRequest(q="wooden chair", effort="exact", explain=True))
    assert before[1:] == explained.products

    market.pipeline.live.catch_up()

    after = market.found("wooden chair", effort="exact")
    assert (before[1:], len(before)) == (after[: len(before) - 1], len(after))


def test_a_walk_goes_on_while_products_change(market: Market) -> None:
    """All its pages together: every product that stayed, none twice, none that was deleted before it began."""
    for number in (3, 4, 5):
        market.catalogue.write([Delete(f"p{number}")])
    for number in (10, COUNT, COUNT + 1):
        market.publish(product(number) | {"title": "a lamp to come"})
    market.pipeline.live.catch_up()

    for effort in ("auto", "exact"):
        pages = follow(market.pipeline, SearchRequest(q="lamp", size=7, effort=effort))
        shown = [number for page in pages for number in page.products]
        assert len(shown) == len(set(shown))
        assert not {3, 4, 5} & set(shown)
    assert sorted(shown) == sorted({*range(COUNT + 2)} - {3, 4, 5})


def test_the_cap_counts_old_and_new_products_of_a_seller_together(market: Market) -> None:
    """Two of each seller; what nobody sells is not capped."""
    for number in range(COUNT, COUNT + 6):
        market.publish(product(number) | {"seller_id": "Ann"})
    market.pipeline.live.catch_up()

    shown = market.found("lamp", effort="exact", per_seller=2, size=100)

    sellers = [market.catalogue.records([number])[0].get("seller_id", "") for number in shown]
    assert {"ann": 2, "bob": 2, "cy": 2} == {
        name: [s.lower() for s in sellers].count(name) for name in ("ann", "bob", "cy")
    }
    assert COUNT // 4 == sellers.count("")
