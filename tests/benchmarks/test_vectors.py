"""Vectors to measure with: made up the same way every time, hard in the way embeddings are, or read and checked."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.vectors import VectorSet, from_catalogue, from_files, made_up, mean_recall, nearest
from models.errors import DataError
from models.runtime import open_release
from tests.helpers import product_vectors, query_vectors, small_catalogue, unit_rows


@pytest.fixture(scope="module")
def vectors() -> VectorSet:
    return made_up(products=10_000, queries=50, dim=16)


def test_made_up_vectors_have_length_one(vectors: VectorSet) -> None:
    """So that inner product, cosine and distance order products alike."""
    for rows, count in ((vectors.products, 10_000), (vectors.queries, 50)):
        assert (count, 16) == rows.shape
        assert np.float32 == rows.dtype
        assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)


@settings(max_examples=10, deadline=None)
@given(products=st.integers(1, 9_999), queries=st.integers(1, 49))
def test_fewer_are_the_first_of_more(vectors: VectorSet, products: int, queries: int) -> None:
    """Whatever the count, and on both sides of a block's end at 8,192."""
    fewer = made_up(products=products, queries=queries, dim=16)

    assert np.array_equal(fewer.products, vectors.products[:products])
    assert np.array_equal(fewer.queries, vectors.queries[:queries])


def test_another_seed_makes_other_vectors(vectors: VectorSet) -> None:
    """And another key, so that nothing kept of one is taken for the other."""
    other = made_up(products=10_000, queries=50, dim=16, seed=1)

    assert not np.array_equal(other.products, vectors.products)
    assert other.products_key != vectors.products_key
    assert other.queries_key != vectors.queries_key


def test_queries_lie_otherwise_than_products(vectors: VectorSet) -> None:
    """Products balance around the origin; queries share a direction, 0.6 beside their own length of 1."""
    products, queries = (np.linalg.norm(rows.mean(axis=0)) for rows in (vectors.products, vectors.queries))

    assert products < 0.2 < 0.4 < queries


def test_a_key_tells_counts_apart(vectors: VectorSet) -> None:
    """The first half of the same vectors is another catalogue."""
    half = vectors.first(5_000)

    assert half.products_key.startswith("made-up-0-5000x16-")
    assert half.products_key != vectors.products_key
    assert half.queries_key == vectors.queries_key


def test_the_nearest_are_kept(vectors: VectorSet, tmp_path: Path) -> None:
    """A second look reads the file of the first; both say what comparing all says."""
    first = nearest(vectors, cache=tmp_path)
    (kept,) = tmp_path.rglob("nearest-*.npy")
    written = kept.stat().st_mtime_ns
    again = nearest(vectors, cache=tmp_path)

    expected = np.argsort(-(vectors.queries @ vectors.products.T), axis=1)[:, :10]
    assert np.array_equal(first, again)
    assert written == kept.stat().st_mtime_ns
    assert np.array_equal(np.sort(expected, axis=1), np.sort(first[:, :10], axis=1))


def test_what_ties_with_the_tenth_counts_as_near(tmp_path: Path) -> None:
    """Twelve equal products, then one that is worse: any ten of the twelve are the nearest ten."""
    products = np.repeat(np.eye(2, dtype=np.float32), [12, 1], axis=0)
    near = nearest(VectorSet(source="ties", products=products, queries=products[:1]), cache=tmp_path)

    assert set(range(12)) == set(near[0].tolist()) - {-1}
    assert 1.0 == mean_recall(np.arange(2, 12)[None], near)
    assert 0.9 == mean_recall(np.arange(3, 13)[None], near)


def test_recall_counts_what_was_found_of_the_nearest() -> None:
    """Five of ten for the first query and none for the second is 1/4; empty places find nothing."""
    near = np.full((2, 20), -1)
    near[:, :10] = np.arange(20).reshape(2, 10)
    found = np.full((2, 10), -1)
    found[0, :5] = [0, 1, 2, 3, 4]

    assert 0.25 == mean_recall(found, near)


def test_real_vectors_are_read_from_files(tmp_path: Path) -> None:
    """Named by their file; doubles become floats."""
    products, queries = product_vectors(30, dim=8), query_vectors(5, dim=8)
    np.save(tmp_path / "shop.npy", products)
    np.save(tmp_path / "asked.npy", queries.astype(np.float64))

    vectors = from_files(tmp_path / "shop.npy", tmp_path / "asked.npy")

    assert vectors.products_key.startswith("shop-30x8-")
    assert np.array_equal(products, vectors.products)
    assert np.array_equal(queries, vectors.queries)


def test_a_catalogues_vectors_come_with_golden_queries(release_dir: Path, tmp_path: Path) -> None:
    """Those of the release alone; its queries are embedded by its own tower."""
    release = open_release(release_dir)
    products = product_vectors(30, dim=32)
    small_catalogue(tmp_path / "ours", products, release=release.id).close()
    small_catalogue(tmp_path / "another", products, release="another").close()

    vectors = from_catalogue(release_dir, tmp_path / "ours")

    assert np.array_equal(products, vectors.products)
    assert (len(release.golden_queries()), 32) == vectors.queries.shape
    with pytest.raises(DataError, match="que2search build"):
        from_catalogue(release_dir, tmp_path / "another")


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Each error says what was found and what is wanted."""
    good, flat, wider, text = (tmp_path / name for name in ("good.npy", "flat.npy", "wider.npy", "text.npy"))
    np.save(good, unit_rows(np.ones((3, 4))))
    np.save(flat, np.ones(4, np.float32))
    np.save(wider, np.ones((3, 5), np.float32))
    text.write_text("1 2 3")

    with pytest.raises(DataError, match=r"missing\.npy"):
        from_files(good, tmp_path / "missing.npy")
    with pytest.raises(DataError, match=r"text\.npy is no \.npy file"):
        from_files(text, good)
    with pytest.raises(DataError, match=r"shape \(4,\)"):
        from_files(flat, good)
    with pytest.raises(DataError, match="products have 4 dimensions, but queries 5"):
        from_files(good, wider)
