"""Every benchmark runs on a small release; no figure of time is judged."""

from pathlib import Path

import msgspec
import pytest

from benchmarks import ann, http, search, towers
from index.build import build_generation
from index.catalogue import Catalogue
from index.operating_points import EFFORTS
from models.data.schema import Dataset
from models.embed import ProductEmbedder, product_rows
from models.errors import DataError, ReleaseError
from models.runtime import open_release
from service.clock import STAGES
from service.errors import NotReadyError


@pytest.fixture(scope="module")
def catalogue_dir(release_dir: Path, dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalogues") / "things"
    release = open_release(release_dir)
    with Catalogue.create(path) as catalogue:
        for rows in product_rows(Dataset.open(dataset_dir)):
            numbers = catalogue.put_products(rows)
            catalogue.put_vectors(release.id, numbers, ProductEmbedder(release).embed(rows))
        build_generation(catalogue, release=release.id)
    return path


def test_ann_measures_every_effort(release_dir: Path, catalogue_dir: Path) -> None:
    """A flat index finds the exact nearest at every effort, and compares every vector."""
    result = ann.run(release_dir, catalogue_dir, blocks=1, calls=2)

    assert list(EFFORTS) == [row["name"] for row in result.rows]
    assert {1.0} == {row["ann_recall_at_10"] for row in result.rows}
    assert {160.0} == {row["codes_scanned"] for row in result.rows}
    assert any("tune" in note for note in result.notes)


def test_search_times_the_stages_of_both_pages(release_dir: Path, catalogue_dir: Path) -> None:
    """First pages at effort low, later ones at high, nothing degraded; 160 products end before page 50.

    A flat index finds the exact nearest at both. Stages that no search had are left out.
    """
    result = search.run(release_dir, catalogue_dir, blocks=1, calls=2)

    pages = [row for row in result.rows if "effort" in row]
    assert [("first page", "low"), ("later page", "high"), ("page 10", "high")] == [
        (row["name"], row["effort"]) for row in pages
    ]
    others = ["first page, in a batch", "featuriser alone", "query tower alone"]
    assert others == [row["name"] for row in result.rows[3:]]
    for row in pages:
        assert {"featurise", "query_tower", "ann", "products"} == {stage for stage in STAGES if f"{stage}_us" in row}
        assert row["rest_us"] is not None
        assert 1.0 == row["ann_recall_at_10"]
    assert msgspec.json.encode(result.conditions)


def test_search_asks_what_a_datasets_users_searched_for(
    release_dir: Path, catalogue_dir: Path, dataset_dir: Path
) -> None:
    """Three distinct queries instead of the golden ones; more than there are is an error."""
    result = search.run(release_dir, catalogue_dir, data=dataset_dir, queries=3, blocks=1, calls=2)

    assert 3 == result.conditions["distinct_queries"]
    with pytest.raises(DataError, match="fewer than 1,000,000"):
        search.run(release_dir, catalogue_dir, data=dataset_dir, queries=1_000_000)


def test_http_compares_with_an_empty_fastapi_route(release_dir: Path, catalogue_dir: Path) -> None:
    """It is 1 times itself; CPU time is measured, since the processes are ours; only a search says its own time."""
    result = http.run(release_dir, catalogue_dir, layouts=["one-core"], blocks=1, calls=3)

    names = ["empty FastAPI route", "bare ASGI app", "GET /livez", "search, first page", "search, later page"]
    assert names == [row["name"] for row in result.rows]
    assert (1.0, 1.0) == (result.rows[0]["p50_over_fastapi"], result.rows[0]["cpu_over_fastapi"])
    assert all(row["server_cpu_us"] is not None for row in result.rows)
    assert names[3:] == [row["name"] for row in result.rows if row["server_p99_us"] is not None]
    assert set(names) == set(result.histograms)


def test_what_is_missing_is_said_before_anything_is_measured(release_dir: Path, tmp_path: Path) -> None:
    """The errors of the parts pass through."""
    with pytest.raises(ReleaseError, match="not a release"):
        towers.run_release(tmp_path)
    with pytest.raises(NotReadyError, match="que2search build"):
        search.run(release_dir, tmp_path)
