"""An index chosen by measuring: every candidate over the user's vectors, held against stated goals."""

from collections.abc import Iterator

import numpy as np
import pytest

from index.choose import Choice, Goals, Trial, candidate_factories, choose, choose_by_measuring
from index.errors import SpecError
from index.sweep import Measured
from index.vector_tables import VectorBatch
from tests.helpers import product_vectors, query_vectors

COUNT, DIM = 5_000, 16


def trial(factory: str, *, recall: float, size: float, p50: float) -> Trial:
    setting = Measured(
        nprobe=8, candidates=100, ann_recall_at_10=recall, codes_scanned=500.0, p50_us=p50, p99_us=2 * p50
    )
    return Trial(factory=factory, bytes_per_product=size, build_s=1.0, setting=setting)


FAST = trial("fast", recall=0.96, size=536, p50=100)
SMALL = trial("small", recall=0.95, size=176, p50=150)
TINY = trial("tiny", recall=0.50, size=40, p50=90)
ALL = [FAST, SMALL, TINY]


def test_without_further_goals_the_fastest_that_finds_enough_wins() -> None:
    """The quickest of all finds only half."""
    assert Choice(factory="fast", trials=ALL, notes=[]) == choose(ALL, Goals(ann_recall_at_10=0.95))


def test_a_memory_goal_rules_out_the_large() -> None:
    """200 bytes a product leave one that finds enough."""
    assert "small" == choose(ALL, Goals(bytes_per_product=200)).factory


def test_a_latency_goal_makes_size_decide() -> None:
    """Both are under 160 us: the smaller one is enough."""
    assert "small" == choose(ALL, Goals(p50_us=160)).factory


def test_goals_that_cannot_all_be_met_are_said_with_what_is_missing() -> None:
    """100 bytes at a recall of 0.95: `small` needs 176, `tiny` finds 0.50."""
    choice = choose(ALL, Goals(bytes_per_product=100))

    assert "small" == choice.factory
    assert ["no index reaches every goal; small comes nearest", "176 bytes a product instead of 100"] == choice.notes


@pytest.mark.parametrize("goals", [{"ann_recall_at_10": 1.5}, {"bytes_per_product": 0.0}, {"p50_us": -1.0}])
def test_goals_that_make_no_sense_are_refused(goals: dict[str, float]) -> None:
    """The message names the value."""
    with pytest.raises(SpecError, match=str(next(iter(goals.values())))):
        Goals(**goals)


def test_the_first_candidate_is_what_would_be_built_unasked() -> None:
    """A million vectors of 128: codes of 16 and 32 bytes, three ways to keep vectors, and half and twice the lists."""
    factories = candidate_factories(count=1_000_000, dim=128)

    assert "IVF4096,PQ64x4fsr,RFlat" == factories[0]
    assert {"IVF4096,PQ64x4fsr,Refine(SQ8)", "IVF2048,PQ64x4fsr,RFlat", "IVF8192,PQ64x4fsr,RFlat"} < set(factories)
    assert len(factories) == len(set(factories)) == 9


def test_few_vectors_leave_nothing_to_choose() -> None:
    """An exact scan of a thousand is as fast as anything."""
    assert ["Flat"] == candidate_factories(count=1_000, dim=128)


def test_every_candidate_is_measured_on_the_vectors_and_queries() -> None:
    """What is re-scored exactly finds all; 4-byte codes alone do not; and memory is in the order that it must be."""
    vectors, queries = product_vectors(COUNT, dim=DIM), query_vectors(30, dim=DIM)
    numbers = np.arange(COUNT, dtype=np.uint32)
    shown: list[tuple[int, int]] = []

    def batches() -> Iterator[VectorBatch]:
        for start in range(0, COUNT, 4_000):
            yield VectorBatch(numbers[start : start + 4_000], vectors[start : start + 4_000])

    choice = choose_by_measuring(
        batches, queries, count=COUNT, dim=DIM, goals=Goals(), progress=lambda *at: shown.append(at)
    )

    tried = {trial.factory: trial for trial in choice.trials}
    assert candidate_factories(count=COUNT, dim=DIM) == list(tried)
    assert tried[choice.factory].setting.ann_recall_at_10 >= 0.95
    codes_alone = next(trial for factory, trial in tried.items() if factory.startswith("OPQ"))
    assert codes_alone.setting.ann_recall_at_10 < 0.95
    assert codes_alone.bytes_per_product == min(trial.bytes_per_product for trial in choice.trials)
    assert (8 * COUNT, 8 * COUNT) == shown[-1]  # 5,000 vectors are too few for twice the lists
    assert sorted(shown) == shown


def test_without_queries_nothing_can_be_measured() -> None:
    """The message says what to do instead."""
    with pytest.raises(SpecError, match="--factory"):
        choose_by_measuring(list, np.empty((0, DIM), np.float32), count=COUNT, dim=DIM, goals=Goals())
