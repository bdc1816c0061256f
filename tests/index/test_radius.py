"""The radius: what thresholds take and leave, and when judgements may set one."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.errors import TuneError
from index.exact import ExactIndex
from index.operating_points import EFFORTS
from index.radius import ALL, Judged, JudgedLists, Radius, RadiusRow, RadiusRule, choose_radius, radius_table

GUITAR, STRINGS, AMPLIFIER, SOFA, LAMP = range(5)
SCORES = np.array([0.9, 0.7, 0.6, 0.4, 0.3], dtype=np.float32)  # of the five, for any query of 1.0


def radius_of(*judged: Judged, rule: RadiusRule | None = None) -> Radius:
    """Chosen by queries that find the five products in this order."""
    return choose_radius(ExactIndex(SCORES[:, None]), np.ones((len(judged), 1), np.float32), judged, rule=rule)


def row_at(radius: Radius, min_score: float | None, *, country: str = ALL) -> RadiusRow:
    (table,) = (table for table in radius.tables if table.country == country)
    (row,) = (row for row in table.rows if row.min_score == min_score)
    return row


CLEAR = Judged("GB", relevant=[GUITAR, STRINGS], others=[AMPLIFIER, SOFA])  # and nobody has judged the lamp


def test_the_radius_is_the_highest_that_loses_nothing_relevant() -> None:
    """Both relevant products score 0.7 or more, and what is not relevant less: precision rises from 2/4 to 1."""
    radius = radius_of(*[CLEAR] * 30)

    assert (0.7, 0.7) == (radius.first, radius.later)
    assert {0.7} == set(radius.min_scores().values())
    assert set(EFFORTS) == radius.min_scores().keys()
    assert (
        "radius of first pages 0.7: precision among judged results 0.500 -> 1.000, 0.0% of the relevant"
        in radius.notes[0]
    )


def test_a_row_counts_what_its_threshold_leaves() -> None:
    """From 0.5 on three of five results are left: two of them relevant; from 0.8 on one, and the other is lost."""
    radius = radius_of(*[CLEAR] * 2)

    without, half, high = (row_at(radius, min_score) for min_score in (None, 0.5, 0.8))
    assert (0.5, 0.0, 5, 0.0) == (without.precision, without.lost, without.results, without.without_results)
    assert (pytest.approx(2 / 3), 0.0, 3) == (half.precision, half.lost, half.results)
    assert (1.0, 0.5, 1, 1) == (high.precision, high.lost, high.results, high.results_p10)
    assert (1.0, 1.0, None) == ((end := row_at(radius, 0.92)).without_results, end.lost, end.precision)


def test_later_pages_may_lose_more() -> None:
    """Of 200 relevant products three score 0.4, the others 0.9: losing those three, 1.5 %, is for later pages only."""
    found = Judged("GB", relevant=[GUITAR], others=[AMPLIFIER, LAMP])
    far = Judged("GB", relevant=[SOFA], others=[AMPLIFIER, LAMP])

    radius = radius_of(*[found] * 197, *[far] * 3)

    assert (0.4, 0.9) == (radius.first, radius.later)
    assert {"low": 0.4, "high": 0.9} == {effort: radius.min_scores()[effort] for effort in ("low", "high")}
    assert pytest.approx(0.015) == row_at(radius, 0.9).lost


def test_few_judged_queries_decide_nothing() -> None:
    """Twelve, however clear; those whose products the catalogue lacks do not count."""
    radius = radius_of(*[CLEAR] * 12, *[Judged("GB", relevant=[77], others=[])] * 30)

    assert {None} == set(radius.min_scores().values())
    assert "radius of first pages off: 12 judged queries, 30 are needed" == radius.notes[0]
    assert 12 == radius.tables[0].queries


def test_without_judgements_there_is_no_radius() -> None:
    """No ratings at all, or none of a listed product."""
    assert ["radius off: there are no judgements"] == radius_of().notes
    assert ["radius off: no list has a judged product"] == radius_of(Judged(None, [77], [78])).notes


def test_a_radius_has_to_raise_precision() -> None:
    """What is not relevant scores highest, so that every threshold makes it worse."""
    radius = radius_of(*[Judged("GB", relevant=[SOFA, LAMP], others=[GUITAR, STRINGS])] * 40)

    assert (None, None) == (radius.first, radius.later)
    assert "losing 2.0% of the relevant products at most raises precision by 0.000" in radius.notes[1]


def test_a_gain_that_another_sample_might_not_show_is_no_gain() -> None:
    """One query of forty has the only noise; resampled, it is often not there."""
    quiet = Judged("GB", relevant=[GUITAR], others=[])
    noisy = Judged("GB", relevant=[GUITAR], others=[STRINGS, AMPLIFIER, SOFA])

    radius = radius_of(*[quiet] * 39, noisy)

    assert row_at(radius, 0.9).gain == pytest.approx(1 - 40 / 43, abs=1e-6)
    assert 0 == row_at(radius, 0.9).gain_interval.low
    assert radius.first is None


def test_a_country_of_its_own_mind_is_noted() -> None:
    """What FR wants scores 0.6 and what GB wants 0.9: for both together it is 0.6, GB alone would go higher."""
    british = Judged("GB", relevant=[GUITAR], others=[SOFA, LAMP])
    french = Judged("FR", relevant=[AMPLIFIER], others=[SOFA, LAMP])
    rule = RadiusRule(loss_first=0.0, loss_later=0.0)

    radius = radius_of(*[british] * 360, *[french] * 40, rule=rule)

    assert 0.6 == radius.later
    assert "radius of GB alone would be 0.9 on later pages instead of 0.6" == radius.notes[-1]
    assert [ALL, "FR", "GB"] == [table.country for table in radius.tables]


@pytest.mark.parametrize("losses", [(-0.1, 0.1), (0.03, 0.02), (0.0, 1.0)])
def test_impossible_losses_are_refused(losses: tuple[float, float]) -> None:
    """Later pages may lose as much as the first or more, and never everything."""
    with pytest.raises(TuneError, match=f"first={losses[0]}, later={losses[1]}"):
        RadiusRule(loss_first=losses[0], loss_later=losses[1])


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 12))
def test_a_higher_threshold_loses_more_and_leaves_less(seed: int, queries: int, listed: int) -> None:
    """Whatever the scores and ratings; and no figure leaves its range."""
    draw = np.random.default_rng(seed)
    scores = -np.sort(-draw.uniform(-1, 1, (queries, listed)).astype(np.float32), axis=1)
    relevance = draw.integers(-1, 2, (queries, listed))
    relevance[:, 0] = 1  # every list has a judged product

    rows = radius_table(ALL, JudgedLists(scores, relevance)).rows

    for looser, tighter in pairwise(rows):
        assert looser.lost <= tighter.lost
        assert looser.without_results <= tighter.without_results
        assert looser.results >= tighter.results
        assert looser.results_p10 >= tighter.results_p10
    assert all(row.precision is None or 0 <= row.precision <= 1 for row in rows)
    assert all(0 <= row.lost <= 1 and 0 <= row.without_results <= 1 for row in rows)
    assert (0.0, 0.0, listed) == (rows[0].lost, rows[0].gain, rows[0].results)
