"""Tombstones, places and growing arrays: what a live index keeps about rows and numbers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from index.growing import Growing
from index.places import Places
from index.tombstones import Tombstones


@given(st.sets(st.integers(0, 36)))
def test_living_rows_are_those_not_buried(dead: set[int]) -> None:
    """As a mask, as bits, as a filter; burying twice counts once."""
    tombstones = Tombstones(37)
    assert 37 == tombstones.living().allowed
    for row in [*dead, *dead]:
        tombstones.bury(row)

    living = sorted(set(range(37)) - dead)
    assert (living, len(dead)) == (np.flatnonzero(tombstones.alive).tolist(), tombstones.count)
    assert (living, len(living)) == (tombstones.living().rows().tolist(), tombstones.living().allowed)


def test_a_search_asks_for_what_the_dead_will_take() -> None:
    """100 of 1,000 rows are dead: 90 living ones come with 10 dead, give or take three deviations of 3.2."""
    tombstones = Tombstones(1_000)
    assert 0 == tombstones.spare(90)
    for row in range(100):
        tombstones.bury(row)

    assert 20 == tombstones.spare(90)
    assert 100 == tombstones.spare(900)


def test_places_grow_with_the_numbers() -> None:
    """A number that nothing was said about is unchanged, however large."""
    places = Places(3)
    places.put(1, 7)
    places.put(2, None)
    places.put(3_000_000, 8)

    numbers = np.array([0, 1, 2, 3_000_000, 2**32 - 1])
    assert [True, False, False, False, True] == places.unchanged(numbers).tolist()
    assert [False, True, False, True, False] == (places.rows(numbers) >= 0).tolist()
    assert [7, 8] == places.rows(numbers[[1, 3]]).tolist()
    assert [None, 7, None, None] == [places.row(number) for number in (0, 1, 2, 2**32 - 1)]


def test_rows_survive_growth() -> None:
    """Three rows of two values, where there was room for two."""
    growing = Growing(np.float32, 2, capacity=2)
    for row in range(3):
        growing.append([row, -row])

    assert [[0, 0], [1, -1], [2, -2]] == growing.rows.tolist()
    assert 3 == len(growing)
