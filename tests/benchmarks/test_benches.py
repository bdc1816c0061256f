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
from models.errors import ReleaseError
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


def test_towers_compares_engines_at_each_length(release_dir: Path) -> None:
    """Lengths beyond the release's limit become the limit, and a note says so."""
    limit = open_release(release_dir).featurizer.spec.query_tokens

    result = towers.run(release_dir, tokens=(2, 1000), blocks=1, calls=2)

    assert [(engine, length) for length in (2, limit) for engine in ("onnx", "torchscript")] == [
        (row["engine"], row["tokens"]) for row in result.rows
    ]
    assert any(str(limit) in note for note in result.notes)


def test_ann_measures_every_effort(release_dir: Path, catalogue_dir: Path) -> None:
    """A flat index finds the exact nearest at every effort, and compares every vector."""
    result = ann.run(release_dir, catalogue_dir, blocks=1, calls=2)

    assert list(EFFORTS) == [row["name"] for row in result.rows]
    assert {1.0} == {row["ann_recall_at_10"] for row in result.rows}
    assert {160.0} == {row["codes_scanned"] for row in result.rows}
    assert any("tune" in note for note in result.notes)


def test_search_times_the_stages_of_both_pages(release_dir: Path, catalogue_dir: Path) -> None:
    """First pages at effort low, later ones at high, nothing degraded; 160 products end before page 50."""
    result = search.run(release_dir, catalogue_dir, blocks=1, calls=2)

    pages = [("first page", "low"), ("later page", "high"), ("page 10", "high")]
    assert pages == [(row["name"], row["effort"]) for row in result.rows]
    for row in result.rows:
        assert {"filter", "lexical", "rank"} == {stage for stage in STAGES if row[f"{stage}_us"] == 0}
    assert msgspec.json.encode(result.conditions)


def test_http_starts_a_server_and_compares_with_an_empty_route(release_dir: Path, catalogue_dir: Path) -> None:
    """The floor is 1 times itself; the server's CPU time is measured, since the process is ours."""
    result = http.run(release_dir, catalogue_dir, blocks=1, calls=3)

    assert ["empty route", "search, first page", "search, later page"] == [row["name"] for row in result.rows]
    assert 1.0 == result.rows[0]["p50_over_floor"]
    assert all(row["server_cpu_us"] is not None for row in result.rows)


def test_what_is_missing_is_said_before_anything_is_measured(release_dir: Path, tmp_path: Path) -> None:
    """The errors of the parts pass through."""
    with pytest.raises(ReleaseError, match="not a release"):
        towers.run(tmp_path)
    with pytest.raises(NotReadyError, match="que2search build"):
        search.run(release_dir, tmp_path)
