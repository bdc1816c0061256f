"""Weak pairs: what a catalogue without events is searched for."""

from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from models.data.conversations import golden_queries, training_pairs
from models.data.schema import PRODUCTS, Dataset, DatasetWriter
from models.data.weak import QUERIES_PER_PRODUCT, carriers, weak_pairs
from models.errors import DataError

COLOURS = ("Black", "Red")
THINGS = ("USB 2.0 Hub", "USB Hub", "Toner Cartridge 3000 pages", "Optical Mouse", "Bluetooth Speaker, small")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """200 products of an invented shop: brand, model number, thing, colour."""
    path: Path = tmp_path_factory.mktemp("weak") / "d"
    rows = [
        {
            "product_id": f"p{n}",
            "title": f"Acme XK{n:03d} {THINGS[n % 5]} {COLOURS[n % 2]}",
            "brand": "Acme",
            "category": f"Electronics > Computers > {'Hubs & Docks' if n % 5 < 2 else 'Parts'}",
            "attributes": [("colour", COLOURS[n % 2]), ("weight", "300 g")],
            "language": "en",
        }
        for n in range(200)
    ]
    with DatasetWriter(path, source="x", licence="x") as writer:
        writer.add_products(pa.Table.from_pylist(rows, PRODUCTS))
    return Dataset.open(path)


@pytest.fixture(scope="module")
def pairs(catalogue: Dataset) -> pl.DataFrame:
    return weak_pairs(catalogue.products(), seed=0)


def test_pairs_are_marked_weak_and_have_no_time(pairs: pl.DataFrame) -> None:
    """They cannot be mistaken for conversations."""
    assert pairs["weak"].all()
    assert pairs["time"].is_null().all()
    assert ["query", "country", "language", "product_id", "time", "weak"] == pairs.columns


def test_every_product_gets_several_distinct_queries(pairs: pl.DataFrame) -> None:
    """At most QUERIES_PER_PRODUCT, none twice, none empty."""
    per_product = pairs.group_by("product_id").agg(pl.len(), distinct=pl.col("query").n_unique())

    assert 200 == per_product.height
    assert per_product["len"].min() >= 3
    assert per_product["len"].max() <= QUERIES_PER_PRODUCT
    assert per_product["len"].equals(per_product["distinct"])
    assert pairs["query"].str.len_chars().min() > 1


def test_queries_look_like_what_people_type(pairs: pl.DataFrame) -> None:
    """Noun phrases over the number between them, category names, a brand before them; short and in lower case."""
    queries = Counter(pairs["query"])

    assert {"usb hub", "toner cartridge", "optical mouse", "bluetooth speaker", "hubs", "acme"} <= queries.keys()
    assert any(query.startswith("acme ") for query in queries)
    assert any(query.startswith("red ") for query in queries)
    assert all(query == query.lower() and len(query.split()) <= 4 for query in queries)


def test_units_and_qualifiers_do_not_name_a_thing(pairs: pl.DataFrame) -> None:
    """ "pages" follows a number everywhere, "black" is a colour: no query ends in one."""
    assert not {query.split()[-1] for query in pairs["query"]} & {"pages", "black", "red"}


def test_model_numbers_are_rare(pairs: pl.DataFrame) -> None:
    """Some are searched for, few."""
    share = pairs["query"].str.contains(r"^xk\d+").mean()

    assert 0 < share < 0.1


def test_a_weak_query_wants_every_product_that_carries_its_words() -> None:
    """In title, brand or category, in any order and case; no words, no products."""
    products = pl.DataFrame(
        {
            "title": ["HP Laptop 15", "Laptop sleeve", "Mouse", "Pavilion 14"],
            "brand": ["HP", None, "Dell", "HP"],
            "category": ["Computers", "Bags", None, "Laptop"],
        }
    )
    found = carriers(["hp laptop", "laptop", "dell mouse", "lamp", "!"], products)

    assert [[0, 3], [0, 1, 3], [2], [], []] == [rows.tolist() for rows in found]


def test_equal_seed_equal_pairs(catalogue: Dataset, pairs: pl.DataFrame) -> None:
    """Another seed draws others."""
    assert pairs.equals(weak_pairs(catalogue.products(), seed=0))
    assert not pairs.equals(weak_pairs(catalogue.products(), seed=1))


def test_catalogue_without_events_trains_on_weak_pairs(catalogue: Dataset) -> None:
    """The split is by product, so no held-out product was trained on."""
    split = training_pairs(catalogue, seed=0)

    ids = [set(part["product_id"]) for part in split]
    assert all(part["weak"].all() for part in split)
    assert 200 == len(ids[0]) + len(ids[1]) + len(ids[2])
    assert 200 == len(ids[0] | ids[1] | ids[2])
    assert len(ids[0]) > 160


def test_golden_queries_come_from_weak_pairs(catalogue: Dataset, pairs: pl.DataFrame) -> None:
    """Where nobody searched yet, tuning looks at derived queries, never at titles."""
    golden = golden_queries(catalogue, size=30, seed=0)

    assert 30 == golden.height
    assert set(golden["query"]) <= set(pairs["query"])
    assert {"head", "torso", "tail"} == set(golden["stratum"])


def test_titles_without_words_give_an_error(tmp_path: Path) -> None:
    """Nothing to derive from is said, not trained on."""
    with DatasetWriter(tmp_path / "d", source="x", licence="x") as writer:
        writer.add_products(pa.Table.from_pylist([{"product_id": "p", "title": "123"}], PRODUCTS))

    with pytest.raises(DataError, match="no weak pair could be derived"):
        training_pairs(Dataset.open(tmp_path / "d"), seed=0)
