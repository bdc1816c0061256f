"""What a benchmark writes follows from the catalogue and a seed, and can be written in order without a refusal."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks.writes_copy import copied, room_for
from benchmarks.writes_material import Change, Material
from index.catalogue import Catalogue
from index.writes import Write
from service.client import ClientError
from tests.helpers import small_featurizer
from tests.market import market_catalogue, product, products
from tests.small_release import small_release

PRODUCTS = 40


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writes")
    release = small_release(folder, featurizer=small_featurizer())
    return market_catalogue(folder, release, products(PRODUCTS), factory="Flat")


@pytest.fixture
def models(market: Path) -> Iterator[Catalogue]:
    with Catalogue.open(market) as catalogue:
        yield catalogue


def kind(change: Change) -> str:
    if change.product is None:
        return "deleted"
    return "new" if change.product_id.startswith("bench-writes-") else "changed"


def test_equal_seeds_give_equal_changes(models: Catalogue) -> None:
    """So that two runs of a benchmark write the same."""
    assert Material(models, seed=3).take(50) == Material(models, seed=3).take(50)
    assert Material(models, seed=3).take(50) != Material(models, seed=4).take(50)


def test_most_products_are_changed_and_as_many_come_as_go(models: Catalogue) -> None:
    """Of a thousand, about 700 change, 150 come and 150 go."""
    kinds = Counter(map(kind, Material(models, seed=0).take(1000)))

    assert pytest.approx(700, abs=60) == kinds["changed"]
    assert pytest.approx(150, abs=45) == kinds["new"]
    assert pytest.approx(150, abs=45) == kinds["deleted"]


def test_a_change_keeps_all_fields_but_the_title(models: Catalogue) -> None:
    """Texts and images stay real; the running number makes each a write."""
    for change in Material(models, seed=0).take(20, {"changed": 1.0}):
        assert change.product is not None
        before = models.product(change.product_id)
        assert before is not None
        assert before["title"] == change.product["title"].rpartition(" no ")[0]
        assert {**before, "title": ""} == {**change.product, "title": ""}


def test_a_long_row_of_changes_is_written_without_a_refusal(market: Path) -> None:
    """A quarter of 40 products is there to be deleted; after those ten, the new ones go in the order they came."""
    with copied(market) as copy, Catalogue.open(market) as models, Catalogue.open(copy, readonly=False) as catalogue:
        changes = Material(models, seed=0).take(600)
        outcomes = catalogue.write([change.write() for change in changes])

    assert all(isinstance(outcome, Write) and outcome.changed for outcome in outcomes)
    deleted = [change.product_id for change in changes if change.product is None]
    assert PRODUCTS // 4 == sum(not name.startswith("bench") for name in deleted)
    assert len(deleted) == len(set(deleted))


def test_a_change_is_a_request_or_a_line() -> None:
    """The same product either way; ids are escaped in a path."""
    change, deletion = Change("a/b", {**product(1), "product_id": "a/b"}), Change("a/b", None)

    upload = change.upload(wait=True)
    assert ("PUT", "/products/a%2Fb?wait=searchable") == (upload.method, upload.target)
    assert msgspec.json.decode(upload.body) == msgspec.json.decode(change.line())
    assert "a/b" == msgspec.json.decode(upload.body)["id"]
    assert ("DELETE", "/products/a%2Fb", b"") == msgspec.structs.astuple(deletion.upload())
    assert b'{"delete":"a/b"}\n' == deletion.line()


def test_what_is_written_to_a_copy_leaves_the_catalogue_as_it_was(market: Path) -> None:
    """The copy lies beside it and goes with the block."""
    before = (market / "products.lmdb").read_bytes()
    with copied(market) as copy:
        assert copy.parent.parent == market.parent
        with Catalogue.open(copy, readonly=False) as catalogue:
            catalogue.put_products([{"product_id": "another"}])
            assert PRODUCTS + 1 == catalogue.count

    assert before == (market / "products.lmdb").read_bytes()
    assert not copy.parent.exists()


def test_a_catalogue_without_room_for_a_copy_is_refused(market: Path) -> None:
    """A store larger than the disk, which a file with a hole seems to be."""
    with copied(market) as copy:
        with (copy / "products.lmdb").open("r+b") as store:
            store.truncate(1 << 43)
        assert room_for(copy) > 1 << 44
        with pytest.raises(ClientError, match="GB beside it"), copied(copy):
            pass
