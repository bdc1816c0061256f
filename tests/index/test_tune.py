"""Tuning: how points are chosen from a grid, and that the grid measures what it says."""

from pathlib import Path

import numpy as np
import pytest

from index.ann import FaissIndex, Hits
from index.errors import TuneError
from index.exact import ExactIndex
from index.operating_points import EFFORTS, MAX_DEPTH, MAX_SIZE, OperatingPoints
from index.tune import Measured, Tuning, ann_recall, choose, nearest, nprobe_grid, pareto_set, tune
from tests.helpers import faiss_index, product_vectors, query_vectors

DIM = 32


def cell(nprobe: int | None, candidates: int, recall: float) -> Measured:
    """A grid cell whose lists hold 100 codes each."""
    return Measured(
        nprobe=nprobe,
        candidates=candidates,
        ann_recall_at_10=recall,
        codes_scanned=100.0 * (nprobe or 1),
        p50_us=1,
        p99_us=2,
    )


GRID = [
    cell(1, 100, 0.60), cell(1, 1000, 0.61),
    cell(4, 100, 0.85), cell(4, 1000, 0.88),
    cell(16, 100, 0.96), cell(16, 1000, 0.98),
    cell(64, 100, 0.975), cell(64, 1000, 0.995),
]  # fmt: skip


def test_each_effort_is_the_cheapest_that_reaches_its_target() -> None:
    """0.80, 0.95, 0.97 and 0.99 of the grid above; `balanced`: 64 lists cost less than 900 more to re-score."""
    chosen, notes = choose(GRID, low_target=0.95, high_target=0.99)

    assert [] == notes
    assert (4, 100) == (chosen["minimal"].nprobe, chosen["minimal"].candidates)
    assert (16, 100) == (chosen["low"].nprobe, chosen["low"].candidates)
    assert (64, 100) == (chosen["balanced"].nprobe, chosen["balanced"].candidates)
    assert (64, 1000) == (chosen["high"].nprobe, chosen["high"].candidates)


def test_high_is_raised_above_low() -> None:
    """Equal targets make both want 16 lists; later pages then get the next more."""
    chosen, notes = choose(GRID, low_target=0.96, high_target=0.96)

    assert [] == notes
    assert (16, 64) == (chosen["low"].nprobe, chosen["high"].nprobe)


def test_low_is_lowered_where_the_grid_ends() -> None:
    """Both want all lists: low steps down and the result says so."""
    grid = [cell(1, 100, 0.5), cell(1, 1000, 0.5), cell(2, 100, 0.96), cell(2, 1000, 0.99)]

    chosen, notes = choose(grid, low_target=0.95, high_target=0.99)

    assert (1, 2) == (chosen["low"].nprobe, chosen["high"].nprobe)
    assert "low was lowered to nprobe 1 (ann_recall@10 0.500)" in notes[0]


def test_a_single_list_leaves_no_choice() -> None:
    """nlist 1: low equals high, and the result says so."""
    chosen, notes = choose([cell(1, 100, 1.0), cell(1, 1000, 1.0)], low_target=0.95, high_target=0.99)

    assert 1 == chosen["low"].nprobe == chosen["high"].nprobe
    assert "the only choice" in notes[0]


def test_a_target_out_of_reach_is_said() -> None:
    """The best there is, taken at its cheapest."""
    grid = [cell(1, 100, 0.3), cell(1, 1000, 0.3), cell(8, 100, 0.5), cell(8, 1000, 0.5), cell(9, 1000, 0.5)]

    chosen, notes = choose(grid, low_target=0.95, high_target=0.99)

    assert (8, 100) == (chosen["low"].nprobe, chosen["low"].candidates)
    assert 9 == chosen["high"].nprobe
    assert ["low cannot reach", "high cannot reach"] == [
        note[: len("low cannot reach") + (note[0] == "h")] for note in notes
    ]
    assert "the best is 0.500" in notes[0]


def test_without_lists_efforts_differ_only_in_candidates() -> None:
    """A flat index finds everything; high still lists to the depth limit."""
    chosen, notes = choose([cell(None, 100, 1.0), cell(None, 1000, 1.0)], low_target=0.95, high_target=0.99)

    assert [] == notes
    assert [100, 100, 100, 1000] == [chosen[effort].candidates for effort in EFFORTS[:-1]]


def test_nothing_in_the_pareto_set_is_beaten() -> None:
    """Each of its cells finds more than every cell that costs no more."""
    pareto = pareto_set(GRID)

    for kept in pareto:
        assert all(
            other.ann_recall_at_10 < kept.ann_recall_at_10
            for other in GRID
            if other.cost <= kept.cost and other != kept
        )
    beaten = [other for other in GRID if other not in pareto]
    assert all(any(k.cost <= b.cost and k.ann_recall_at_10 >= b.ann_recall_at_10 for k in pareto) for b in beaten)


def test_nprobe_takes_two_steps_per_doubling() -> None:
    """And ends at nlist, whatever that is."""
    assert [1, 2, 3, 4, 6, 8, 12, 16, 20] == nprobe_grid(20)
    assert [1] == nprobe_grid(1)
    assert [None] == nprobe_grid(None)


def test_ties_with_the_tenth_nearest_count_as_found() -> None:
    """Twelve equal products: any ten of them are the nearest ten."""
    exact = ExactIndex(np.ones((12, 2), np.float32))
    relevant = nearest(exact, np.ones((1, 2), np.float32))[0]

    assert 1.0 == ann_recall(np.array([11, 10, 9, 8, 7, 6, 5, 4, 3, 2]), relevant)
    assert 0.1 == ann_recall(np.array([11, -1, -1]), relevant)


def test_a_small_catalogue_has_fewer_than_ten_nearest() -> None:
    """Three products, all found: 1."""
    exact = ExactIndex(np.eye(3, dtype=np.float32))

    assert 1.0 == ann_recall(np.array([2, 0, 1, -1]), nearest(exact, np.ones((1, 3), np.float32))[0])


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return product_vectors(6_000, dim=DIM)


@pytest.fixture(scope="module")
def ann(vectors: np.ndarray) -> FaissIndex:
    return faiss_index("IVF64,PQ8x4fsr,RFlat", vectors)


@pytest.fixture(scope="module")
def tuning(ann: FaissIndex, vectors: np.ndarray) -> Tuning:
    return tune(ann, ExactIndex(vectors), query_vectors(60, dim=DIM))


def test_tuned_points_reach_their_targets(tuning: Tuning) -> None:
    """On the queries it was tuned on, low finds 0.95 and high 0.99 of the exact nearest, in strictly more lists."""
    points = tuning.points

    assert [] == tuning.notes
    assert points["low"].ann_recall_at_10 >= 0.95
    assert points["high"].ann_recall_at_10 >= 0.99
    assert points["minimal"].nprobe <= points["low"].nprobe <= points["balanced"].nprobe <= points["high"].nprobe
    assert points["low"].nprobe < points["high"].nprobe
    assert points["high"].candidates >= MAX_DEPTH
    assert points["low"].candidates >= MAX_SIZE


def test_a_reported_recall_can_be_repeated(tuning: Tuning, ann: FaissIndex, vectors: np.ndarray) -> None:
    """Recounted with sets on the same queries, it is the same figure."""
    queries = query_vectors(60, dim=DIM)
    low = tuning.points["low"]
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]

    found = ann.search(queries, nprobe=low.nprobe, candidates=low.candidates).numbers[:, :10]

    shares = [len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]
    assert low.ann_recall_at_10 == pytest.approx(np.mean(shares), abs=2e-3)


def test_the_result_says_how_it_was_measured(tuning: Tuning, tmp_path: Path) -> None:
    """Conditions, grid and Pareto set go into the file with the points."""
    tuning.points.save(tmp_path / "points.json")
    record = OperatingPoints.load(tmp_path / "points.json").tuning

    assert 60 == record["conditions"]["queries"]
    assert 1 == record["conditions"]["threads"]
    assert {"cpu", "faiss", "seconds", "measured_at"} <= record["conditions"].keys()
    assert len(tuning.grid) == len(record["grid"]) >= len(record["pareto"]) > 0


def test_exact_is_measured_too(tuning: Tuning) -> None:
    """It compares all vectors and finds everything."""
    exact = tuning.points["exact"]

    assert (None, 1.0, 6_000) == (exact.nprobe, exact.ann_recall_at_10, exact.codes_scanned)


def test_codes_alone_cannot_reach_the_targets(vectors: np.ndarray) -> None:
    """Without re-scoring, coarse codes stop short of 0.95: points are still given, and the notes say it."""
    coarse = faiss_index("IVF16,PQ4x4fs", vectors)

    tuning = tune(coarse, ExactIndex(vectors), query_vectors(40, dim=DIM))

    assert "low cannot reach ann_recall@10 0.95" in tuning.notes[0]
    assert tuning.points["low"].nprobe < tuning.points["high"].nprobe


def test_a_flat_index_is_tuned_without_nprobe(vectors: np.ndarray) -> None:
    """Everything is found at any effort."""
    flat = faiss_index("Flat", vectors[:500])

    points = tune(flat, ExactIndex(vectors[:500]), query_vectors(10, dim=DIM)).points

    assert {None} == {points[effort].nprobe for effort in EFFORTS}
    assert 1.0 == points["minimal"].ann_recall_at_10


class EmptyIndex:
    """An index that finds nothing."""

    dim, count, nlist = 2, 3, 4

    def search(self, queries: np.ndarray, *, nprobe: int | None, candidates: int) -> Hits:  # noqa: ARG002
        shape = (len(queries), candidates)
        return Hits(np.full(shape, -1), np.full(shape, -np.inf, dtype=np.float32))

    def codes_scanned(self, queries: np.ndarray, *, nprobe: int | None) -> np.ndarray:  # noqa: ARG002
        return np.zeros(len(queries), dtype=np.int64)


def test_an_index_that_finds_nothing_is_reported_not_hung() -> None:
    """The sweep ends and the notes say that no target was reached."""
    exact = ExactIndex(np.ones((3, 2), np.float32))

    tuning = tune(EmptyIndex(), exact, np.ones((5, 2), np.float32))

    assert "the best is 0.000" in tuning.notes[0]


@pytest.mark.parametrize("targets", [(0.99, 0.95), (0, 0.9), (0.9, 1.1)])
def test_impossible_targets_are_refused(ann: FaissIndex, vectors: np.ndarray, targets: tuple[float, float]) -> None:
    """low above high, or no share at all."""
    with pytest.raises(TuneError, match=f"low={targets[0]}"):
        tune(ann, ExactIndex(vectors), query_vectors(3, dim=DIM), low_target=targets[0], high_target=targets[1])


def test_tuning_needs_queries(ann: FaissIndex, vectors: np.ndarray) -> None:
    """An empty golden set is an error, not a silent default."""
    with pytest.raises(TuneError, match="no golden queries"):
        tune(ann, ExactIndex(vectors), np.empty((0, DIM), np.float32))


def test_progress_is_told(ann: FaissIndex, vectors: np.ndarray) -> None:
    """Cells done, of at most all; never backwards."""
    seen: list[tuple[int, int]] = []
    tune(ann, ExactIndex(vectors), query_vectors(3, dim=DIM), progress=lambda done, total: seen.append((done, total)))

    assert seen == sorted(seen)
    assert seen[-1][0] <= seen[-1][1]
