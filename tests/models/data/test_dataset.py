"""The dataset directory: written whole or not at all, opened with clear errors."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.data.schema import JUDGEMENTS, PRODUCTS, Dataset, DatasetWriter
from models.errors import DataError


def products(*ids: str) -> pa.Table:
    return pa.Table.from_pylist([{"product_id": id_, "title": f"title of {id_}"} for id_ in ids], PRODUCTS)


def write(path: Path, *ids: str) -> Dataset:
    with DatasetWriter(path, source="test", licence="none", seed=7) as writer:
        writer.add_products(products(*ids))
    return Dataset.open(path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Every column comes back as it was given, maps, vectors and times included."""
    row = {
        "product_id": "a",
        "title": "red sofa",
        "price": 10.5,
        "created_at": datetime(2025, 1, 2, tzinfo=UTC),
        "attributes": [("colour", "red")],
        "image_vectors": [[1.0, 2.0], [3.0, 4.0]],
    }
    with DatasetWriter(tmp_path / "d", source="test", licence="none") as writer:
        writer.add_products(pa.Table.from_pylist([row], PRODUCTS))

    found = Dataset.open(tmp_path / "d").products().row(0, named=True)

    assert {"colour": "red"} == found["attributes"]
    assert [[1.0, 2.0], [3.0, 4.0]] == found["image_vectors"]
    assert datetime(2025, 1, 2, tzinfo=UTC) == found["created_at"]
    assert found["brand"] is None


def test_batches_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """Streaming in twos gives the same products as the whole table."""
    dataset = write(tmp_path / "d", "c", "a", "b")

    batches = [batch.column("product_id").to_pylist() for batch in dataset.product_batches(2)]

    assert [["c", "a"], ["b"]] == batches
    assert 3 == dataset.product_count


def test_missing_tables_are_empty_tables(tmp_path: Path) -> None:
    """A source without events and judgements is a dataset; both are empty frames with the right columns."""
    dataset = write(tmp_path / "d", "a")

    assert 0 == dataset.events().height
    assert JUDGEMENTS.names == dataset.judgements().columns


def test_manifest_counts_rows_and_keeps_the_seed(tmp_path: Path) -> None:
    """The manifest says where the data comes from, and how much there is."""
    manifest = write(tmp_path / "d", "a", "b").manifest

    assert {"products": 2} == manifest.counts
    assert ("test", "none", 7) == (manifest.source, manifest.licence, manifest.seed)


def test_dataset_is_replaced_whole(tmp_path: Path) -> None:
    """The second writing leaves nothing of the first, and nothing beside it."""
    write(tmp_path / "d", "a")

    assert ["b"] == write(tmp_path / "d", "b").products()["product_id"].to_list()
    assert [tmp_path / "d"] == list(tmp_path.iterdir())


def test_failed_writing_leaves_the_old_dataset(tmp_path: Path) -> None:
    """An error in the middle costs the new dataset, not the old one."""
    write(tmp_path / "d", "a")

    with (
        pytest.raises(ValueError, match="field names"),
        DatasetWriter(tmp_path / "d", source="x", licence="x") as writer,
    ):
        writer.add_products(pa.table({"product_id": [1]}))

    assert ["a"] == Dataset.open(tmp_path / "d").products()["product_id"].to_list()
    assert [tmp_path / "d"] == list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["notes.txt", "products.parquet"])
def test_other_folders_are_not_overwritten(tmp_path: Path, name: str) -> None:
    """A folder that holds something else than a dataset is refused and left alone."""
    (tmp_path / name).write_text("mine")

    with pytest.raises(DataError, match="is not a dataset"):
        write(tmp_path, "a")

    assert "mine" == (tmp_path / name).read_text()


def test_missing_directory_and_manifest_are_named(tmp_path: Path) -> None:
    """Both say what was looked for."""
    with pytest.raises(DataError, match="no such dataset directory"):
        Dataset.open(tmp_path / "none")
    with pytest.raises(DataError, match=r"expected manifest\.json"):
        Dataset.open(tmp_path)


def test_wrong_columns_say_expected_and_found(tmp_path: Path) -> None:
    """A table of other columns is refused with both lists."""
    write(tmp_path / "d", "a")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "d" / "products.parquet")

    with pytest.raises(DataError, match=r"expected columns product_id: string.*; found id: string"):
        Dataset.open(tmp_path / "d")


def test_lost_and_damaged_tables_are_named(tmp_path: Path) -> None:
    """A table that the manifest counts must be there and be Parquet."""
    write(tmp_path / "d", "a")
    table = tmp_path / "d" / "products.parquet"

    table.write_bytes(b"not parquet at all")
    with pytest.raises(DataError, match="is not a Parquet file"):
        Dataset.open(tmp_path / "d")
    table.unlink()
    with pytest.raises(DataError, match="is missing, though the manifest counts products"):
        Dataset.open(tmp_path / "d")


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other"}', '{"format": "que2search-dataset/1", "x": 1}'])
def test_foreign_manifests_are_refused(tmp_path: Path, text: str) -> None:
    """Broken JSON, another shape, another format and unknown keys all give a DataError."""
    (tmp_path / "manifest.json").write_text(text)

    with pytest.raises(DataError, match=r"manifest\.json"):
        Dataset.open(tmp_path)


def test_manifest_is_plain_json(tmp_path: Path) -> None:
    """Other programs can read it."""
    write(tmp_path / "d", "a")

    assert "test" == json.loads((tmp_path / "d" / "manifest.json").read_text())["source"]
