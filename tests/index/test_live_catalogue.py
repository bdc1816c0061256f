"""A live index over a real catalogue: what a write makes visible, when, and what the log no longer tells."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.ann import ranked
from index.build import build_generation
from index.catalogue import Catalogue
from index.errors import FilterError, LogTrimmedError
from index.expression import parse
from index.generations import open_current
from index.live import LiveIndex
from index.live_filters import LiveRows
from index.publications import Published
from index.writes import Delete, Put
from tests.helpers import product_vectors, small_catalogue

COUNT, DIM = 40, 16
VECTORS = product_vectors(COUNT, dim=DIM)
FAR = -VECTORS[:1]  # the opposite of p0


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with small_catalogue(tmp_path / "catalogue", VECTORS) as opened:
        build_generation(opened, release="r1", factory="IVF4,Flat")
        yield opened


@pytest.fixture
def live(catalogue: Catalogue) -> LiveIndex:
    return LiveIndex(open_current(catalogue.path), catalogue)


def publish(catalogue: Catalogue, product_id: str, vector: np.ndarray, **fields: object) -> None:
    """Write a product and embed it."""
    catalogue.write([Put({"product_id": product_id, "title": "a thing", **fields})])
    (waiting,) = catalogue.pending(10)
    assert 1 == catalogue.publish([Published(waiting.number, waiting.sequence, {"r1": vector})])


def nearest(live: LiveIndex, query: np.ndarray, *, effort: str = "exact") -> int:
    hits = live.vectors.search(query, live.generation.operating_points[effort]).hits
    return int(hits.numbers[0, 0])


def rows(live: LiveIndex, text: str) -> LiveRows:
    condition = parse(text).condition
    assert condition is not None
    return live.filters.rows(condition)


def test_a_product_is_found_once_its_publication_is_applied(catalogue: Catalogue, live: LiveIndex) -> None:
    """By its vector at any effort, its fields and its words; not before the refresh."""
    publish(catalogue, "new", FAR[0], title="zither from afar", price=7.5)
    assert (40, 0) == (live.count, len(live.words.search("zither", k=5).numbers))

    assert 1 == live.refresh()

    assert 41 == live.count
    assert [40, 40] == [nearest(live, FAR, effort=effort) for effort in ("low", "exact")]
    assert [40] == live.words.search("zither", k=5).numbers.tolist()
    assert 2 == rows(live, "price = 7.5").allowed  # p7 costs as much
    assert 0 == live.refresh()


def test_until_it_is_published_the_former_version_is_found(catalogue: Catalogue, live: LiveIndex) -> None:
    """Then it has its new fields and vector, and the old ones find it no more."""
    catalogue.write([Put({"product_id": "p0", "title": "zither", "price": 99.0})])
    live.refresh()
    assert 0 == nearest(live, VECTORS[:1])

    (waiting,) = catalogue.pending(10)
    catalogue.publish([Published(waiting.number, waiting.sequence, {"r1": FAR[0]})])
    live.refresh()

    assert 40 == live.count
    assert 0 == nearest(live, FAR)
    assert 0 != nearest(live, VECTORS[:1])
    assert (0, 1) == (rows(live, "price = 0.5").allowed, rows(live, "price = 99").allowed)


def test_a_deleted_product_is_gone_and_comes_back_under_its_number(catalogue: Catalogue, live: LiveIndex) -> None:
    """At every effort, also the one that finds most."""
    catalogue.write([Delete("p0")])
    live.refresh()
    for effort in ("low", "high", "exact"):
        found = live.vectors.search(VECTORS[:1], live.generation.operating_points[effort]).hits
        assert 0 not in found.numbers
    assert 39 == live.count

    publish(catalogue, "p0", VECTORS[0])
    live.refresh()

    assert (40, 0) == (live.count, nearest(live, VECTORS[:1]))
    assert (1, 0, 1) == live.load


def test_a_search_waits_for_a_few_changes_at_most(catalogue: Catalogue, live: LiveIndex) -> None:
    """The log is applied in pieces, in order; each leaves a whole view."""
    for at in range(3):
        publish(catalogue, f"new{at}", FAR[0])
    begun = live.applied

    assert [1, 1, 1, 0] == [live.refresh() for _ in range(4)]  # each publication, with the write before it

    assert catalogue.sequence == live.applied == begun + 6
    assert 43 == live.count


def test_whoever_is_further_behind_applies_more_at_once(catalogue: Catalogue, live: LiveIndex) -> None:
    """One more for every 64 entries: 200 of them, of a hundred publications, are 3 more. Never more than eight."""
    for at in range(100):
        publish(catalogue, f"new{at}", FAR[0])
    assert 4 == live.refresh()
    for at in range(1_000):
        publish(catalogue, f"newer{at}", FAR[0])
    assert 8 == live.refresh()


def test_a_category_that_only_newer_products_have_is_known(catalogue: Catalogue, live: LiveIndex) -> None:
    """It is refused before, and so is what lies beside it afterwards."""
    with pytest.raises(FilterError, match="there is no category 'Music'"):
        rows(live, "category = Music")

    publish(catalogue, "new", FAR[0], category="Music > Zithers")
    live.refresh()

    assert [1, 1] == [rows(live, f"category = {name}").allowed for name in ("Music", "'Music > Zithers'")]
    with pytest.raises(FilterError, match="there is no category 'Zithers'"):
        rows(live, "category = Zithers")


def test_filters_follow_the_changes(catalogue: Catalogue, live: LiveIndex) -> None:
    """What was worked out for a condition does not outlive a refresh."""
    assert 10 == rows(live, "price < 10").allowed

    catalogue.write([Delete("p3")])
    publish(catalogue, "new", FAR[0], price=1.0)
    publish(catalogue, "p4", FAR[0], price=11.0)
    live.catch_up()

    assert 9 == rows(live, "price < 10").allowed  # without p3 and p4, with the new one


def test_one_seller_has_one_number_on_both_sides(tmp_path: Path) -> None:
    """Old products and new ones count together; a seller that nobody had is another; none is none."""
    with Catalogue.create(tmp_path / "catalogue") as catalogue:
        sellers: list[Mapping[str, Any]] = [{"seller_id": "ann"}, {"seller_id": None}, {"seller_id": "bob"}]
        given = catalogue.put_products({"product_id": f"p{n}", "title": "a", **s} for n, s in enumerate(sellers))
        catalogue.put_vectors("r1", given, VECTORS[:3])
        build_generation(catalogue, release="r1")
        live = LiveIndex(open_current(catalogue.path), catalogue)
        for product_id, seller in (("p3", "ANN"), ("p4", "cy"), ("p5", None), ("p0", "Cy")):
            publish(catalogue, product_id, VECTORS[3], seller_id=seller)
        live.catch_up()

        numbers = live.sellers_of(np.array([0, 1, 2, 3, 4, 5, 77]))

    cy, none, bob, ann, also_cy, *without = numbers.tolist()
    assert cy == also_cy
    assert 3 == len({ann, bob, cy})
    assert [-1, -1, -1] == [none, *without]


def test_it_begins_where_its_generation_ends(catalogue: Catalogue) -> None:
    """What the generation holds is not applied again; what came since is, before the first search."""
    publish(catalogue, "in", FAR[0])
    build_generation(catalogue, release="r1", factory="IVF4,Flat")
    publish(catalogue, "after", FAR[0])

    live = LiveIndex(open_current(catalogue.path), catalogue)
    live.catch_up()

    assert (42, (1, 0, 0)) == (live.count, live.load)


def test_a_log_that_begins_too_late_is_said(catalogue: Catalogue, live: LiveIndex) -> None:
    """The remedy is a generation that holds what the log no longer tells."""
    publish(catalogue, "new", FAR[0])
    catalogue.trim(catalogue.sequence)

    with pytest.raises(LogTrimmedError, match="que2search build"):
        live.refresh()


def test_a_product_without_a_vector_of_the_release_is_gone(catalogue: Catalogue, live: LiveIndex) -> None:
    """As the next generation would leave it out."""
    catalogue.write([Put({"product_id": "p0", "title": "lamp"})])
    (waiting,) = catalogue.pending(10)
    catalogue.publish([Published(waiting.number, waiting.sequence, {"r2": FAR[0]})])
    live.refresh()

    found = ranked(live.vectors.search(VECTORS[:1], live.generation.operating_points["exact"]).hits)
    assert (39, 39) == (live.count, len(found.numbers))
    assert 0 not in found.numbers
