from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.postings import Postings, are_in
from index.words import GAP

WORDS = ("red", "dress", "long", "zara")
TEXTS = st.lists(st.sampled_from((*WORDS, GAP)), max_size=6)


def test_a_score_is_that_of_the_formula() -> None:
    """One of three titles of equal length: ln(1 + 2.5 / 1.5). Two of three: ln(1 + 1.5 / 2.5)."""
    postings = Postings.of([[["case"], []], [["case"], []], [["lens"], []]])

    assert [2] == postings.posting("lens").rows.tolist()
    assert [pytest.approx(log(1 + 2.5 / 1.5))] == postings.posting("lens").scores.tolist()
    assert [pytest.approx(log(1 + 1.5 / 2.5))] * 2 == postings.posting("case").scores.tolist()


def test_repeated_words_saturate_and_long_texts_count_less() -> None:
    """Twice in 2 of on average 2 words: 2 * 2.2 / (2 + 1.2); once in 3 words: 2.2 / (1 + 1.2 * (0.25 + 0.75 * 1.5))."""
    postings = Postings.of([[["bag", "bag"], []], [["bag", "red", "old"], []], [["cup"], []]])
    rarity = log(1 + 1.5 / 2.5)

    assert [
        pytest.approx(rarity * 2 * 2.2 / (2 + 1.2)),
        pytest.approx(rarity * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 1.5))),
    ] == postings.posting("bag").scores.tolist()


def test_a_term_scores_by_its_better_field() -> None:
    """In a title and its description it scores as in the rarer place, not the sum of both."""
    postings = Postings.of([[["lamp"], ["lamp"]], [["vase"], ["lamp"]], [["vase"], ["vase"]]])
    title, description = log(1 + 2.5 / 1.5), log(1 + 1.5 / 2.5)

    assert [pytest.approx(title), pytest.approx(description)] == postings.posting("lamp").scores.tolist()
    assert pytest.approx(title) == postings.posting("lamp").best


def test_a_term_that_nothing_holds_has_no_rows() -> None:
    """Longer ones than any that is held too, and the gap."""
    postings = Postings.of([[["red", GAP, "dress"], ["long"]]])

    for term in ("blue", "dresses of great length", GAP):
        assert (0, 0.0) == (len(postings.posting(term).rows), postings.posting(term).best)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=8), st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))
def test_a_phrase_is_found_where_its_terms_stand_side_by_side(
    products: list[tuple[list[str], list[str]]], phrase: list[str]
) -> None:
    """As a walk through every text has it: not across a gap, nor from one field or product into the next."""
    expected = [
        row
        for row, fields in enumerate(products)
        if any(text[at : at + len(phrase)] == phrase for text in fields for at in range(len(text)))
    ]

    assert expected == Postings.of(products).rows_with_phrase(phrase).tolist()


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=8), st.sampled_from(WORDS))
def test_a_posting_lists_the_rows_that_hold_the_term(products: list[tuple[list[str], list[str]]], term: str) -> None:
    """Each once, in order, with scores above 0 of which `best` is the highest."""
    posting = Postings.of(products).posting(term)

    assert [row for row, fields in enumerate(products) if any(term in text for text in fields)] == posting.rows.tolist()
    assert all(posting.scores > 0)
    assert posting.best == max(posting.scores, default=0)


@given(st.lists(st.integers(0, 20)), st.lists(st.integers(0, 20), unique=True))
def test_membership_is_that_of_sets(values: list[int], among: list[int]) -> None:
    """One look-up per value."""
    found = are_in(np.array(values, dtype=np.uint32), np.array(sorted(among), dtype=np.uint32))

    assert [value in among for value in values] == found.tolist()


def test_rarity_is_kept_field_by_field() -> None:
    """Of three products, two have "red" in the title and one in the description; none has "blue"."""
    postings = Postings.of([[["red", "lamp"], []], [["red"], ["red", "sofa"]], [["desk"], []]])

    assert [2, 1] == postings.held[:, 2].tolist()  # desk, lamp, red, sofa
    assert [4 / 3, 1.0] == postings.lengths.tolist()  # 0.67 terms of description count as one
    assert pytest.approx((log(1 + 1.5 / 2.5), log(1 + 2.5 / 1.5))) == postings.rarities("red")
    assert pytest.approx((log(1 + 3.5 / 0.5),) * 2) == postings.rarities("blue")
