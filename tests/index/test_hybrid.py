"""Hybrid search: what two lists become, and when judgements may change the weights."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.ann import Ranked
from index.errors import TuneError
from index.hybrid import FusionTuning, RankFusion, RatedLists, joined, tune_fusion

RELEVANT = 2

lists = st.lists(st.integers(0, 2**32 - 1), unique=True, max_size=30)
weights = st.floats(0.001, 100)


def test_a_product_of_both_lists_scores_in_both() -> None:
    """With constant 1: 7 has 1/2 + 1/3, 5 a first place in one list, 1/2, and 9 a second place, 1/3."""
    fused = RankFusion(vector=1.0, lexical=1.0, constant=1).fuse(np.array([7, 9]), np.array([5, 7]))

    assert [7, 5, 9] == fused.numbers.tolist()
    assert [5 / 6, 1 / 2, 1 / 3] == pytest.approx(fused.scores.tolist())
    assert (np.int64, np.float32) == (fused.numbers.dtype, fused.scores.dtype)


def test_weights_say_whose_first_place_counts_more() -> None:
    """Equal weights leave it to the smaller number; three to one, the words' first place comes before."""
    vector, lexical = np.array([3]), np.array([8])

    assert [3, 8] == RankFusion().fuse(vector, lexical).numbers.tolist()
    assert [8, 3] == RankFusion(vector=0.25, lexical=0.75).fuse(vector, lexical).numbers.tolist()


def test_a_large_constant_prefers_agreement() -> None:
    """1 is first in one list, 2 is third in both: 2/63 against 1/61; with constant 0 it is 2/3 against 1."""
    vector, lexical = np.array([1, 4, 2]), np.array([5, 6, 2])

    assert 2 == RankFusion(constant=60).fuse(vector, lexical).numbers[0]
    assert [1, 5, 2] == RankFusion(constant=0).fuse(vector, lexical).numbers[:3].tolist()


def test_a_list_of_weight_nothing_is_left_out() -> None:
    """Its products do not trail behind the others with a score of 0."""
    assert [3, 1] == RankFusion(lexical=0.0).fuse(np.array([3, 1]), np.array([8, 1])).numbers.tolist()


def test_either_list_may_be_empty() -> None:
    """Words that nobody wrote leave the vectors' list, and two empty lists an empty one."""
    nothing = np.empty(0, dtype=np.int64)

    assert [9, 2] == RankFusion().fuse(np.array([9, 2]), nothing).numbers.tolist()
    assert [9, 2] == RankFusion().fuse(nothing, np.array([9, 2])).numbers.tolist()
    assert [] == RankFusion().fuse(nothing, nothing).numbers.tolist()


@given(lists, lists, weights, weights, st.integers(0, 100))
def test_fusion_is_the_sum_of_reciprocal_ranks(
    vector: list[int], lexical: list[int], vector_weight: float, lexical_weight: float, constant: int
) -> None:
    """Written out product by product: the union, each once, sorted by (-score, number), whatever the numbers."""
    fusion = RankFusion(vector=vector_weight, lexical=lexical_weight, constant=constant)

    fused = fusion.fuse(np.array(vector, dtype=np.uint32), np.array(lexical, dtype=np.int64))

    expected = dict.fromkeys([*vector, *lexical], 0.0)
    for listed, weight in ((vector, vector_weight), (lexical, lexical_weight)):
        for rank, number in enumerate(listed, start=1):
            expected[number] += weight / (constant + rank)
    found = dict(zip(fused.numbers.tolist(), fused.scores.tolist(), strict=True))
    assert len(fused.numbers) == len(expected)
    assert expected == pytest.approx(found, rel=1e-6)
    assert sorted(found, key=lambda number: (-found[number], number)) == fused.numbers.tolist()


@pytest.mark.parametrize("wrong", [(-0.1, 1.0), (0.0, 0.0), (float("nan"), 1.0), (1.0, float("inf"))])
def test_impossible_weights_are_refused(wrong: tuple[float, float]) -> None:
    """Below nothing, nothing at all, or no number: the message names both."""
    with pytest.raises(TuneError, match=f"vector={wrong[0]}, lexical={wrong[1]}"):
        RankFusion(vector=wrong[0], lexical=wrong[1])
    with pytest.raises(TuneError, match="constant must be 0 or more, got -1"):
        RankFusion(constant=-1)


def test_a_setting_goes_through_a_file() -> None:
    fusion = RankFusion(vector=0.4, lexical=0.6, constant=30)

    assert fusion == RankFusion.of(json.loads(json.dumps(fusion.record())))


def test_joining_puts_what_words_found_where_the_vectors_would_have() -> None:
    """6 and 1 were not probed: they come by their own scores, equal ones by number; 5 was found and is there once."""
    listed = Ranked(np.array([5, 2]), np.array([0.9, 0.4], dtype=np.float32))
    others = Ranked(np.array([5, 6, 1]), np.array([0.9, 0.7, 0.4], dtype=np.float32))

    found = joined(listed, others)

    assert [5, 6, 1, 2] == found.numbers.tolist()
    assert [0.9, 0.7, 0.4, 0.4] == pytest.approx(found.scores.tolist())


WANTED, OTHER, NOISE = 2, 3, 1
# Each finds another of the two that are wanted, in the first place.
BY_BOTH = RatedLists(np.array([WANTED, 100]), np.array([OTHER, 101]), {WANTED: 3, OTHER: 3})
# One finds what is wanted, the other noise: even weights put the smaller number first, which is the noise.
BY_WORDS = RatedLists(np.array([NOISE]), np.array([WANTED]), {WANTED: 3})
BY_VECTORS = RatedLists(np.array([WANTED]), np.array([NOISE]), {WANTED: 3})
SECOND = 0.63093  # nDCG of a list that has the one wanted product in its second place: 1 / log2(3)


def tuned(*rated: RatedLists) -> FusionTuning:
    return tune_fusion(rated, relevant=RELEVANT)


def test_together_the_lists_find_what_each_lacks() -> None:
    """Either alone has one of two: recall 1/2, nDCG 1 / (1 + 1/log2(3)) = 0.613; the even default has both, 1."""
    tuning = tuned(*[BY_BOTH] * 30)

    assert [0.5, 0.5] == [row.recall_at_10 for row in tuning.alone]
    assert [0.613147, 0.613147] == [row.ndcg_at_10 for row in tuning.alone]
    assert (1.0, 1.0) == (tuning.rows[0].ndcg_at_10, tuning.rows[0].recall_at_10)
    assert RankFusion() == tuning.fusion == tuning.rows[0].fusion
    assert 1 - 0.613147 == pytest.approx(tuning.gain.mean)
    assert "hybrid weights even: no setting of the sweep finds more" == tuning.notes[0]
    assert "hybrid nDCG@10 1.000, +0.387 (+0.387 to +0.387) over vectors alone" == tuning.notes[1]


def test_weights_move_where_every_sample_would_move_them() -> None:
    """All queries are answered by words: a little more weight on those puts the answer first, from 0.631 to 1."""
    tuning = tuned(*[BY_WORDS] * 30)

    assert RankFusion(vector=0.4, lexical=0.6) == tuning.fusion
    assert (
        "hybrid weights vector 0.4, lexical 0.6, constant 60: nDCG@10 rises by +0.369 (+0.369 to +0.369) over even ones"
        == tuning.notes[0]
    )


def test_what_another_sample_might_not_show_is_said() -> None:
    """Words alone find all of it too: the two lists together are no better."""
    tuning = tuned(*[BY_WORDS] * 30)

    assert 0.0 == tuning.gain.mean
    assert "+0.000 (+0.000 to +0.000) over words alone; another sample of queries might not show it" in tuning.notes[1]


def test_weights_stay_where_another_sample_might_leave_them() -> None:
    """One query of forty would like more weight on words: resampled, it is often not there."""
    agreed = RatedLists(np.array([WANTED]), np.array([WANTED]), {WANTED: 3})

    tuning = tuned(*[agreed] * 39, BY_WORDS)

    assert RankFusion() == tuning.fusion
    assert 1.0 == tuning.rows[4].ndcg_at_10  # of 0.4 and 0.6
    assert tuning.notes[0].endswith("(+0.000 to +0.028); above zero with all of its interval is needed")


def test_the_held_out_figures_are_of_weights_that_have_not_seen_the_query() -> None:
    """Half want words, half vectors: either choice has a mean of 0.815, but a query's others are for the wrong one."""
    tuning = tuned(*[BY_WORDS] * 15, *[BY_VECTORS] * 15)

    assert (1 + SECOND) / 2 == pytest.approx(max(row.ndcg_at_10 for row in tuning.rows), abs=1e-5)
    assert SECOND == pytest.approx(tuning.held_out_ndcg_at_10, abs=1e-5)
    assert 1.0 == tuning.held_out_recall_at_10


def test_too_few_judged_queries_decide_nothing() -> None:
    """Queries whose ratings are all 0 have no ideal list to be compared with, and do not count."""
    tuning = tuned(*[BY_BOTH] * 29, BY_BOTH._replace(ratings={WANTED: 0}))

    assert RankFusion() == tuning.fusion
    assert ["hybrid weights even: 29 judged queries, 30 are needed"] == tuning.notes
    assert ([], None) == (tuning.rows, tuning.held_out_ndcg_at_10)


def test_recall_is_over_the_queries_that_have_something_relevant() -> None:
    """A rating of 1 gains a little and answers nothing: such queries have an nDCG and no recall."""
    faint = RatedLists(np.array([WANTED]), np.array([WANTED]), {WANTED: 1})

    assert (1.0, None) == ((row := tuned(*[faint] * 30).rows[0]).ndcg_at_10, row.recall_at_10)
    assert 1.0 == tuned(*[faint] * 30, BY_BOTH).rows[0].recall_at_10


def test_a_tuning_is_kept_as_json() -> None:
    record = json.loads(json.dumps(tuned(*[BY_BOTH] * 30).record()))

    assert {"vector": 0.5, "lexical": 0.5, "constant": 60} == record["fusion"]
    assert 2 == len(record["alone"])
