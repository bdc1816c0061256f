"""Indexes side by side: each finds what it should, settings are the cheapest that will do, built ones are kept."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peer_indexes import (
    RESCORED,
    Effort,
    Exact,
    FaissHnsw,
    Hnswlib,
    Ours,
    PeerIndex,
    Scann,
    Search,
    Usearch,
    built_index,
    peer_indexes,
    shown,
)
from benchmarks.peers import Trials, run
from benchmarks.vectors import K, VectorSet, nearest
from index.spec import spec_from_factory
from tests.helpers import product_vectors, query_vectors

DIM = 16
COUNT = 3_000


@pytest.fixture(scope="module")
def vectors() -> VectorSet:
    return VectorSet(source="test", products=product_vectors(COUNT, dim=DIM), queries=query_vectors(40, dim=DIM))


@pytest.fixture(scope="module")
def near(vectors: VectorSet, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return nearest(vectors, cache=tmp_path_factory.mktemp("nearest"))


def ours(factory: str = "IVF16,PQ4x4fsr,RFlat") -> Ours:
    return Ours("ours", spec_from_factory(factory, count=COUNT, dim=DIM), candidates=RESCORED)


def silent(_done: int, _total: int) -> None:
    """No progress is shown."""


def opened(peer: PeerIndex, vectors: VectorSet, cache: Path) -> Search:
    return peer.open(built_index(peer, vectors, cache=cache, progress=silent).path)


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed: the extra `peers`")


@pytest.mark.parametrize(
    ("peer", "hardest"),
    [
        pytest.param(ours(), Effort(16, 1_000), id="ours"),
        pytest.param(ours("IVF16,PQ8x4fsr,Refine(SQ8)"), Effort(16, 1_000), id="compact"),
        pytest.param(ours("Flat"), Effort(1), id="flat"),
        pytest.param(Hnswlib(dim=DIM), Effort(500), id="hnswlib", marks=needs("hnswlib")),
        pytest.param(Usearch(), Effort(500), id="usearch", marks=needs("usearch")),
        pytest.param(FaissHnsw(), Effort(500), id="faiss-hnsw"),
        pytest.param(Scann(leaves=50), Effort(50, 1_000), id="scann", marks=needs("scann")),
        pytest.param(Exact(), Effort(1), id="exact"),
    ],
)
def test_the_hardest_effort_finds_nearly_all(
    peer: PeerIndex, hardest: Effort, vectors: VectorSet, near: np.ndarray, tmp_path: Path
) -> None:
    """At least 0.95 of the exact ten nearest, and more than the least effort unless there is no other; best first."""
    trials = Trials(peer, opened(peer, vectors, tmp_path), vectors.queries, near)
    least = Effort(peer.reaches[0], peer.candidates[0])

    assert trials.of(hardest).ann_recall_at_10 >= 0.95
    assert trials.of(hardest).ann_recall_at_10 >= trials.of(least).ann_recall_at_10
    best = opened(peer, vectors, tmp_path)(vectors.products[7], hardest)
    assert (10, 7) == (len(best), best[0])


def test_an_index_is_built_once(vectors: VectorSet, tmp_path: Path) -> None:
    """The second time only its record is read; an unfinished one is built again."""
    peer, steps = ours(), []
    first = built_index(peer, vectors, cache=tmp_path, progress=lambda done, _total: steps.append(done))
    assert steps
    steps.clear()
    second = built_index(peer, vectors, cache=tmp_path, progress=lambda done, _total: steps.append(done))
    assert ([], first) == (steps, second)

    (first.path.parent / "built.json").unlink()
    third = built_index(peer, vectors, cache=tmp_path, progress=lambda done, _total: steps.append(done))
    assert steps
    assert first.path == third.path


def test_memory_is_that_of_the_files(vectors: VectorSet, tmp_path: Path) -> None:
    """Exact search keeps 16 floats of 4 bytes, and a header; codes and bytes take less than floats and floats."""
    exact, compact, whole = (
        built_index(peer, vectors, cache=tmp_path, progress=silent).bytes_per_product
        for peer in (Exact(), ours("IVF16,PQ8x4fsr,Refine(SQ8)"), ours())
    )

    assert exact == pytest.approx(64, abs=0.1)
    assert compact < 64 < whole


class Ladder:
    """Finds `reach` of the ten nearest, one fewer without enough candidates, and is slower the further it reaches."""

    name = "ladder"
    parameters = ""
    package = "faiss-cpu"
    reach = "rungs"
    reaches = range(1, 11)
    candidates: tuple[int, ...] = (10, 20)

    def __init__(self, near: np.ndarray, queries: np.ndarray) -> None:
        self._near = {query.tobytes(): rows[:10] for query, rows in zip(queries, near, strict=True)}

    def build(self, products: np.ndarray, path: Path, progress: object) -> None:
        """Has nothing to keep."""

    def open(self, path: Path) -> Search:  # noqa: ARG002 - the protocol's
        """Reads nothing."""
        return self.search

    def search(self, query: np.ndarray, effort: Effort) -> np.ndarray:
        found = min(effort.reach, 9 if effort.candidates < 20 else 10)
        return self._near[query.tobytes()][:found]


@pytest.mark.parametrize(("target", "reach"), [(0.05, 1), (0.3, 3), (0.7, 7), (0.9, 9), (1.0, 10)])
def test_a_setting_is_the_least_that_reaches_the_target(
    target: float, reach: int, vectors: VectorSet, near: np.ndarray
) -> None:
    """Seven rungs find seven of ten; ten need twenty candidates."""
    ladder = Ladder(near, vectors.queries)

    trial = Trials(ladder, ladder.search, vectors.queries, near).cheapest(target)

    assert trial is not None
    assert reach == trial.effort.reach
    assert target > 0.9 or trial.effort.candidates in {10, 20}
    assert target <= 0.9 or trial.effort.candidates == 20


def test_a_target_out_of_reach_has_no_setting(vectors: VectorSet, near: np.ndarray) -> None:
    """With ten candidates the ladder ends at nine of ten."""
    ladder = Ladder(near, vectors.queries)
    ladder.candidates = (10,)
    trials = Trials(ladder, ladder.search, vectors.queries, near)

    assert trials.cheapest(0.95) is None
    assert 0.9 == trials.best_recall


def test_efforts_are_shown_in_the_librarys_words() -> None:
    """Where there is no choice, nothing was chosen."""
    assert "nprobe 8, candidates 50" == shown(ours(), Effort(8, 50))
    assert "ef 40" == shown(Hnswlib(dim=DIM), Effort(40))
    assert "all" == shown(Exact(), Effort(1))


def test_all_are_compared_ours_first() -> None:
    """The catalogue's own index for first and for later pages, a compact one, the plain one; exact search last."""
    named = [peer.name for peer in peer_indexes(count=1_000_000, dim=128)]
    parameters = {peer.name: peer.parameters for peer in peer_indexes(count=1_000_000, dim=128)}

    assert ["ours", "ours, later pages", "ours, compact", "Faiss IVF-PQ"] == named[:4]
    assert {"hnswlib", "usearch", "Faiss HNSW", "ScaNN"} < set(named)
    assert "exact" == named[-1]
    assert "IVF4096,PQ64x4fsr,RFlat" == parameters["ours"]
    assert "IVF4096,PQ64x4fsr,Refine(SQ8)" == parameters["ours, compact"]
    assert "IVF1024,PQ32" == parameters["Faiss IVF-PQ"]


@needs("hnswlib")
def test_a_run_compares_at_equal_recall(vectors: VectorSet, tmp_path: Path) -> None:
    """A row per index and target, the baseline 1 times itself, exact search once; a target missed is said."""
    coarse = Ours("coarse", spec_from_factory("IVF16,PQ4x4fs", count=COUNT, dim=DIM), candidates=(K,))

    result = run(
        vectors, cache=tmp_path, targets=[0.9, 0.95], peers=[ours(), coarse, Hnswlib(dim=DIM), Exact()], blocks=1
    )

    assert [
        ("ours", 0.9), ("coarse", 0.9), ("hnswlib", 0.9),
        ("ours", 0.95), ("coarse", 0.95), ("hnswlib", 0.95),
        ("exact", None),
    ] == [(row["name"], row["target"]) for row in result.rows]  # fmt: skip
    for row in result.rows:
        if row["name"] in {"ours", "hnswlib"}:
            assert row["ann_recall_at_10"] >= row["target"]
    assert [1.0, 1.0] == [row["p50_over_hnswlib"] for row in result.rows if row["name"] == "hnswlib"]
    assert [None, None] == [row["p50_us"] for row in result.rows if row["name"] == "coarse"]
    assert "coarse does not reach 0.9: the best of all settings tried is" in result.notes[0]
    assert 3 == len([path for path in result.save(tmp_path / "out") if path.exists()])


def test_what_is_not_installed_is_left_out(vectors: VectorSet, tmp_path: Path) -> None:
    """The result says which extra brings it."""
    absent = Usearch()
    absent.package = "no-such-library"

    result = run(vectors, cache=tmp_path, targets=[0.9], peers=[absent, Exact()], blocks=1, calls=5)

    assert ["exact"] == [row["name"] for row in result.rows]
    assert "no-such-library is not installed; the extra `peers` brings it" == result.notes[0]
