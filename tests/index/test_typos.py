import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from index.typos import Spelling, letter_sets

LETTERS = st.text(alphabet="abcé", max_size=7)


def spelling(**held: int) -> Spelling:
    words = sorted(word.encode() for word in held)
    letters = letter_sets(word.decode() for word in words)
    return Spelling(np.array(words), letters, np.array([held[word.decode()] for word in words]))


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("lamo", {"lamp": 1}),
        ("lam", {}),  # three letters: too short
        ("sofs", {"sofa": 1}),
        ("lapm", {"lamp": 1}),  # two neighbours that swap places are one edit
        ("headphoness", {"headphone": 2}),
        ("cofa", {}),  # the first letter counts
        ("headhpons", {"headphone": 2}),
        ("lammpp", {}),  # two edits, but short
        ("sofa2", {}),  # a model number is not a misspelt word
    ],
)
def test_how_far_a_word_may_be(word: str, found: dict[str, int]) -> None:
    """One edit from four letters on, two from eight on."""
    assert found == spelling(lamp=3, sofa=1, sofa1=5, headphone=2).corrections(word)


def test_nearer_words_come_alone_and_frequent_ones_first() -> None:
    """One edit beats two; of those with one, the two in the most products."""
    words = spelling(chargers=1, charge=9, charged=4, charges=7, charger=2)

    assert ["charge", "charges"] == list(words.corrections("chargex"))


def test_letters_beyond_latin_are_compared_too() -> None:
    """Cyrillic, one letter dropped."""
    assert {"куртка": 1} == spelling(куртка=1, юбка=2).corrections("курка")


def test_no_words_correct_nothing() -> None:
    """An empty generation."""
    assert {} == Spelling(np.empty(0, np.bytes_), letter_sets([]), np.empty(0, int)).corrections("dress")


@given(st.sets(LETTERS.filter(len), min_size=1), LETTERS.filter(lambda word: len(word) >= 4))
def test_what_is_near_is_found(words: set[str], word: str) -> None:
    """Comparing the letters first rules out nothing that counting edits alone would find."""
    assume(word not in words)
    near = {other for other in words if other[0] == word[0] and OSA.distance(word, other) == 1}
    found = spelling(**dict.fromkeys(words, 1)).corrections(word)

    assert set(found) <= near
    assert min(len(near), 2) == len(found)
