"""What is special to Faiss: probing, re-scoring, threads, mapped files."""

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import faiss
import numpy as np
import pytest

from index.ann import FaissIndex, load_faiss_index
from index.errors import IndexFileError
from index.exact import ExactIndex
from tests.helpers import faiss_index, product_vectors, query_vectors

DIM = 32
Build = Callable[[str], FaissIndex]  # from a factory string
IVF_LAYOUTS = ("IVF32,PQ8x4fsr,RFlat", "PCA24,IVF32,PQ8x4", "PCA24,IVF32,PQ8x4fs,RFlat", "IVF32,Flat")


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return product_vectors(3_000, dim=DIM)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return query_vectors(40, dim=DIM)


@pytest.fixture(scope="module")
def build(vectors: np.ndarray) -> Build:
    """Builds an index over the vectors; training is slow, so each layout is built once."""
    return cache(lambda factory: faiss_index(factory, vectors))


@pytest.fixture(scope="module", params=IVF_LAYOUTS)
def ann(request: pytest.FixtureRequest, build: Build) -> FaissIndex:
    return build(request.param)


def test_more_lists_find_more(ann: FaissIndex, vectors: np.ndarray, queries: np.ndarray) -> None:
    """nprobe reaches the index through every layer: recall rises with it."""
    exact = ExactIndex(vectors).search(queries, candidates=10).numbers

    def found(nprobe: int) -> int:
        numbers = ann.search(queries, nprobe=nprobe, candidates=400).numbers
        return sum(len(set(a) & set(b)) for a, b in zip(numbers, exact, strict=True))

    assert found(1) < found(4) <= found(32)


def test_codes_scanned_are_the_sizes_of_the_probed_lists(ann: FaissIndex, queries: np.ndarray) -> None:
    """An index without re-scoring returns a hit per code scanned, so the hits can be counted."""
    for nprobe in (1, 5):
        hits = ann.search(queries, nprobe=nprobe, candidates=ann.count)

        assert (hits.numbers >= 0).sum(axis=1).tolist() == ann.codes_scanned(queries, nprobe=nprobe).tolist()


def test_re_scored_lists_carry_exact_scores(build: Build, vectors: np.ndarray, queries: np.ndarray) -> None:
    """Behind RFlat a score is the inner product with the stored vector, not with its code."""
    hits = build("IVF32,PQ8x4fsr,RFlat").search(queries, nprobe=8, candidates=100)

    expected = np.einsum("nd,nkd->nk", queries, vectors[hits.numbers])
    np.testing.assert_allclose(expected, hits.scores, atol=1e-5)


def test_equal_scores_come_in_order_of_product_number(queries: np.ndarray) -> None:
    """A hundred copies of one vector: the numbers ascend."""
    copies = np.repeat(product_vectors(30, dim=DIM), 100, axis=0)

    hits = faiss_index("IVF8,PQ8x4fsr,RFlat", copies).search(queries, nprobe=8, candidates=300)

    for numbers, scores in zip(hits.numbers, hits.scores, strict=True):
        assert sorted(zip(-scores, numbers, strict=True)) == list(zip(-scores, numbers, strict=True))


def test_threads_with_mixed_nprobe_get_the_sequential_results(ann: FaissIndex, queries: np.ndarray) -> None:
    """Knobs travel with the call: 16 threads that search one index differ in nothing from one (faiss #2204, #3321)."""
    calls = [
        (i % len(queries), nprobe, candidates)
        for i in range(120)
        for nprobe, candidates in ((1, 100), (7, 50), (32, 200))
    ]

    def search(call: tuple[int, int, int]) -> tuple[list[int], list[float]]:
        row, nprobe, candidates = call
        hits = ann.search(queries[row : row + 1], nprobe=nprobe, candidates=candidates)
        return hits.numbers[0].tolist(), hits.scores[0].tolist()

    sequential = [search(call) for call in calls]
    with ThreadPoolExecutor(16) as threads:
        assert sequential == list(threads.map(search, calls))


@pytest.mark.parametrize("factory", ["Flat", *IVF_LAYOUTS])
def test_a_mapped_index_answers_as_the_one_in_memory(
    tmp_path: Path, build: Build, queries: np.ndarray, factory: str
) -> None:
    """Written and opened through mmap: the same lists, and the file really is mapped, not read."""
    built = build(factory)
    path = tmp_path / "index.faiss"
    faiss.write_index(built._whole, str(path))

    mapped = load_faiss_index(path, numbers=np.arange(3_000, dtype=np.uint32))

    nprobe = None if factory == "Flat" else 4
    expected = built.search(queries, nprobe=nprobe, candidates=100)
    found = mapped.search(queries, nprobe=nprobe, candidates=100)
    assert expected.numbers.tolist() == found.numbers.tolist()
    assert expected.scores.tolist() == found.scores.tolist()
    assert str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("factory", ["Flat", "IVF32,PQ8x4fs,Refine(SQ8)", *IVF_LAYOUTS])
def test_the_bytes_of_a_product_are_those_of_the_file(tmp_path: Path, build: Build, factory: str) -> None:
    """What is counted layer by layer; codebooks and matrices, a few kB whatever the products, are not."""
    built = build(factory)
    faiss.write_index(built._whole, str(tmp_path / "index.faiss"))

    written = (tmp_path / "index.faiss").stat().st_size / built.count
    assert built.stats().bytes_per_product == pytest.approx(written, abs=16_000 / built.count)


@pytest.mark.parametrize(
    ("factory", "kept"),
    [
        ("Flat", True),
        ("IVF32,PQ8x4fsr,RFlat", True),
        ("PCA24,IVF32,PQ8x4", False),
        ("IVF32,PQ8x4fs,Refine(SQ8)", False),
    ],
)
def test_exact_vectors_are_taken_from_the_index_where_it_keeps_them(
    build: Build, vectors: np.ndarray, factory: str, kept: bool
) -> None:
    """A flat index and RFlat hold float32 vectors; codes alone do not."""
    stored = build(factory).stored_vectors()

    assert kept == (stored is not None)
    if stored is not None:
        np.testing.assert_array_equal(vectors, stored)


def test_stored_vectors_outlive_the_index_object(vectors: np.ndarray) -> None:
    """Exact search reads inside the index; the view keeps that memory alive by itself."""
    stored = faiss_index("Flat", vectors).stored_vectors()
    gc.collect()

    np.testing.assert_array_equal(vectors, stored)


def test_a_file_that_is_no_index_is_refused(tmp_path: Path) -> None:
    """The message names the file and the remedy."""
    path = tmp_path / "index.faiss"
    path.write_bytes(b"not an index at all")

    with pytest.raises(IndexFileError, match=r"cannot read .*index\.faiss; rebuild it with `que2search build`"):
        load_faiss_index(path, numbers=np.arange(3, dtype=np.uint32))


def test_an_index_needs_a_number_for_every_vector(build: Build) -> None:
    """Two files that do not belong together are noticed."""
    whole = build("Flat")._whole

    with pytest.raises(IndexFileError, match="3000 vectors but 2 product numbers"):
        FaissIndex(whole, numbers=np.arange(2, dtype=np.uint32))
