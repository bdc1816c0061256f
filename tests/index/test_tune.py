"""Tuning: how points are chosen from a grid, and that the grid measures what it says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index.ann import FaissIndex, Hits
from index.efforts import Targets, choose
from index.errors import TuneError
from index.exact import ExactIndex
from index.operating_points import EFFORTS, MAX_DEPTH, MAX_SIZE, OperatingPoints
from index.radius import Radius, RadiusRule
from index.strata import by_stratum, notes_on
from index.sweep import (
    Measured,
    ann_recall,
    ann_recalls,
    nearest,
    nprobe_grid,
    pareto_set,
    sweep,
    with_intervals,
)
from index.tune import Tuning, tune
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
    chosen, notes = choose(GRID, Targets.of(low=0.95, high=0.99))

    assert [] == notes
    assert (4, 100) == (chosen["minimal"].nprobe, chosen["minimal"].candidates)
    assert (16, 100) == (chosen["low"].nprobe, chosen["low"].candidates)
    assert (64, 100) == (chosen["balanced"].nprobe, chosen["balanced"].candidates)
    assert (64, 1000) == (chosen["high"].nprobe, chosen["high"].candidates)


def test_named_targets_are_kept() -> None:
    """0.60, 0.70, 0.96 and 0.98 of the same grid: one list, four, sixteen, and sixteen with all candidates."""
    chosen, notes = choose(GRID, Targets.of(minimal=0.6, low=0.7, balanced=0.96, high=0.98))

    assert [] == notes
    assert [1, 4, 16, 16] == [chosen[effort].nprobe for effort in EFFORTS[:-1]]


def test_high_is_raised_above_low() -> None:
    """Equal targets make both want 16 lists; later pages then get the next more."""
    chosen, notes = choose(GRID, Targets.of(low=0.96, high=0.96))

    assert [] == notes
    assert (16, 64) == (chosen["low"].nprobe, chosen["high"].nprobe)


def test_low_is_lowered_where_the_grid_ends() -> None:
    """Both want all lists: low steps down and the result says so."""
    grid = [cell(1, 100, 0.5), cell(1, 1000, 0.5), cell(2, 100, 0.96), cell(2, 1000, 0.99)]

    chosen, notes = choose(grid, Targets.of(low=0.95, high=0.99))

    assert (1, 2) == (chosen["low"].nprobe, chosen["high"].nprobe)
    assert "low was lowered to nprobe 1 (ann_recall@10 0.500)" in notes[0]


def test_a_single_list_leaves_no_choice() -> None:
    """nlist 1: low equals high, and the result says so."""
    chosen, notes = choose([cell(1, 100, 1.0), cell(1, 1000, 1.0)], Targets.of(low=0.95, high=0.99))

    assert 1 == chosen["low"].nprobe == chosen["high"].nprobe
    assert "the only choice" in notes[0]


def test_a_target_out_of_reach_is_said() -> None:
    """The best there is, taken at its cheapest."""
    grid = [
        cell(nprobe, candidates, recall)
        for nprobe, recall in ((1, 0.3), (8, 0.5), (9, 0.5))
        for candidates in (100, 1000)
    ]

    chosen, notes = choose(grid, Targets.of(low=0.95, high=0.99))

    assert (8, 100) == (chosen["low"].nprobe, chosen["low"].candidates)
    assert 9 == chosen["high"].nprobe
    assert ["low cannot reach ann_recall@10 0.95", "high cannot reach ann_recall@10 0.99"] == [
        note.partition(":")[0] for note in notes[:2]
    ]
    assert "the best is 0.500" in notes[0]


@pytest.mark.parametrize(
    ("by_candidates", "cause"),
    [
        ((0.70, 0.70, 0.70), "the order that the codes give is final: build with exact re-scoring"),
        ((0.70, 0.94, 0.94), "no longer too little, but inexact: keep exact vectors"),
        ((0.70, 0.90, 0.94), "still lies behind the last candidate: build with finer codes"),
    ],
)
def test_what_it_would_take_is_read_off_the_grid(by_candidates: tuple[float, ...], cause: str) -> None:
    """All lists are probed, so the codes are the limit; what more candidates gained tells which remedy helps."""
    grid = [cell(8, candidates, recall) for candidates, recall in zip((100, 500, 1000), by_candidates, strict=True)]

    _, notes = choose([cell(4, 1000, 0.6), *grid], Targets.of())

    best = by_candidates[-1]
    found = f"8 lists with 1,000 candidates, the most that can be spent, find {best:.3f}"
    assert notes[2].startswith(
        f"{found}, {best - by_candidates[1]:.3f} more than 500 and {best - 0.7:.3f} more than 100"
    )
    assert cause in notes[2]
    assert notes[2].endswith("`que2search build --goal-recall 0.99` measures which")


def test_without_lists_efforts_differ_only_in_candidates() -> None:
    """A flat index finds everything; high still lists to the depth limit."""
    chosen, notes = choose([cell(None, 100, 1.0), cell(None, 1000, 1.0)], Targets.of(low=0.95, high=0.99))

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


def test_all_lists_are_measured_where_the_target_was_missed() -> None:
    """Lists that help no more end the sweep at 3 of 4; one that looks for 0.99 goes on to the last."""
    exact = ExactIndex(np.ones((3, 2), np.float32))
    queries = np.ones((5, 2), np.float32)
    relevant = nearest(exact, queries)

    assert [1, 2, 3] == sorted({cell.nprobe for cell in sweep(EmptyIndex(), queries, relevant)})
    assert [1, 2, 3, 4] == sorted({cell.nprobe for cell in sweep(EmptyIndex(), queries, relevant, wanted=0.99)})


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


def test_recall_at_100_looks_at_more() -> None:
    """Of 200 products in order of score the first fifty and the last: 1 at ten, 0.5 at a hundred."""
    exact = ExactIndex(np.linspace(1, 0.1, 200, dtype=np.float32)[:, None])
    relevant = nearest(exact, np.ones((2, 1), np.float32))
    found = np.array([[*range(50), *range(150, 200)], [*range(100)]])

    assert [1.0, 1.0] == ann_recalls(found, relevant, k=10).tolist()
    assert [0.5, 1.0] == ann_recalls(found, relevant, k=100).tolist()


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


def test_every_recall_has_its_interval(tuning: Tuning) -> None:
    """It holds the figure, and is narrow where all queries agree; equal seeds give equal ones."""
    for measured in tuning.grid:
        low, high = measured.ann_recall_at_10_interval
        assert low <= measured.ann_recall_at_10 <= high
        assert measured.ann_recall_at_100_interval.low <= measured.ann_recall_at_100
    assert tuning.grid == with_intervals(tuning.grid)
    assert (1.0, 1.0) == tuning.points["exact"].ann_recall_at_10_interval


def with_recalls(*shares: float) -> Measured:
    """A cell of one query per share."""
    recalls = np.array([[share, share] for share in shares])
    return replace(cell(1, 100, float(np.mean(shares))), recalls=recalls)


def test_a_stratum_is_measured_by_its_own_queries() -> None:
    """Thirty queries in French find 1 each, thirty in German 0.5; the band of shorter ones comes first."""
    chosen = {"low": with_recalls(*[1.0] * 30, *[0.5] * 30)}
    strata = {"language": ["fr"] * 30 + ["de"] * 30, "length": ["10-19", "5-9"] * 30}

    found = by_stratum(chosen, strata, queries=60)

    assert [("de", 30, 0.5), ("fr", 30, 1.0), ("5-9", 30, 0.75), ("10-19", 30, 0.75)] == [
        (row.label, row.queries, row.ann_recall_at_10) for row in found
    ]
    assert (0.5, 0.5) == found[0].ann_recall_at_10_interval


def test_a_stratum_far_below_is_noted() -> None:
    """German is below 0.7 with all of its interval; five Swedish queries say nothing."""
    chosen = {"low": with_recalls(*[1.0] * 30, *[0.5] * 30, *[0.0] * 5)}
    recalls = by_stratum(chosen, {"language": ["fr"] * 30 + ["de"] * 30 + ["sv"] * 5}, queries=65)

    assert [
        "language de (30 queries) is left behind, ann_recall@10: low 0.500 (0.500-0.500) instead of 0.7"
    ] == notes_on(recalls, {"low": 0.7})


def test_labels_of_other_queries_are_refused(ann: FaissIndex, vectors: np.ndarray) -> None:
    """Two labels for three queries."""
    with pytest.raises(TuneError, match="'country' labels 2 queries, but there are 3"):
        tune(ann, ExactIndex(vectors), query_vectors(3, dim=DIM), strata={"country": ["GB", "US"]})


def test_strata_and_radius_go_into_the_record(ann: FaissIndex, vectors: np.ndarray, tmp_path: Path) -> None:
    """Each effort of each label; min_score of first and of later pages."""
    radius = Radius(first=0.1, later=0.2, rule=RadiusRule(), tables=[], notes=["radius on"])
    strata = {"country": ["GB"] * 10 + ["US"] * 10}

    tuning = tune(ann, ExactIndex(vectors), query_vectors(20, dim=DIM), strata=strata, radius=radius)
    tuning.points.save(tmp_path / "points.json")
    points = OperatingPoints.load(tmp_path / "points.json")

    assert tuning.points.points == points.points
    assert [0.1, 0.1, 0.1, 0.2, 0.2] == [points[effort].min_score for effort in EFFORTS]
    assert "radius on" in points.tuning["notes"]
    assert {("GB", 10), ("US", 10)} == {(row["label"], row["queries"]) for row in points.tuning["strata"]}


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


@pytest.mark.parametrize(
    ("low", "high", "made"),
    [(0.95, 0.99, (0.80, 0.95, 0.97, 0.99)), (0.6, 0.7, (0.6, 0.6, 0.65, 0.7)), (0.97, 0.99, (0.8, 0.97, 0.98, 0.99))],
)
def test_targets_left_out_make_room(low: float, high: float, made: tuple[float, ...]) -> None:
    """`minimal` is 0.80 or less, `balanced` 0.97 or halfway."""
    assert made == pytest.approx(Targets.of(low=low, high=high))


@pytest.mark.parametrize(
    "targets", [{"low": 0.99, "high": 0.95}, {"low": 0}, {"high": 1.1}, {"minimal": 0.96}, {"balanced": 0.9}]
)
def test_impossible_targets_are_refused(targets: dict[str, float]) -> None:
    """Not ascending, or no share at all; all four are named."""
    name, value = next(iter(targets.items()))

    with pytest.raises(TuneError, match=rf"minimal <= low <= balanced <= high.*{name}={value}"):
        Targets.of(**targets)


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
