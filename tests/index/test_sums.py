import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from index.sums import Posting, Sums

ROWS = 40


def posting(scores: dict[int, float]) -> Posting:
    rows = np.array(sorted(scores), dtype=np.uint32)
    values = np.array([scores[int(row)] for row in rows], dtype=np.float32)
    return Posting(rows, values, float(values.max()))


# Few different scores make ties; thirds make sums that depend on the order of adding.
POSTINGS = st.dictionaries(st.integers(0, ROWS - 1), st.sampled_from([1 / 3, 0.7, 1.0, 2.0, 9.1]), min_size=1).map(
    posting
)


def in_order(lists: list[Posting]) -> list[Posting]:
    """Shortest first, as a search adds them."""
    return sorted(lists, key=lambda one: len(one.rows))


def brute_force(lists: list[Posting], *, k: int, allowed: np.ndarray) -> tuple[list[int], list[float]]:
    """Every sum, sorted, filtered, cut."""
    sums = np.zeros(ROWS, np.float32)
    for one in in_order(lists):
        sums[one.rows] += one.scores
    order = [row for row in np.lexsort((np.arange(ROWS), -sums)) if sums[row] > 0 and allowed[row]][:k]
    return order, sums[order].tolist()


@given(st.lists(POSTINGS, max_size=6), st.integers(1, ROWS), st.lists(st.booleans(), min_size=ROWS, max_size=ROWS))
def test_the_best_are_those_of_brute_force(lists: list[Posting], k: int, mask: list[bool]) -> None:
    """Rows, order and sums to the last bit, filtered and not, and again on the same object."""
    sums = Sums(ROWS)

    for allowed in (np.array(mask), np.ones(ROWS, dtype=bool)):
        rows, scores = sums.best(in_order(lists), k=k, allowed=allowed)
        assert brute_force(lists, k=k, allowed=allowed) == (rows.tolist(), scores.tolist())
    assert brute_force(lists, k=k, allowed=allowed)[0] == sums.best(in_order(lists), k=k)[0].tolist()


@given(st.lists(POSTINGS, max_size=3), st.integers(1, 4), st.lists(st.booleans(), min_size=ROWS, max_size=ROWS))
def test_lists_that_are_only_looked_up_change_nothing(lists: list[Posting], k: int, mask: list[bool]) -> None:
    """Two words that are in every product and score 0.1 at most: the rare words decide, and the sums hold all."""
    everywhere = [posting({row: scores[row % 2] for row in range(ROWS)}) for scores in ((0.02, 0.1), (0.1, 0.07))]
    lists = [*everywhere, *lists]

    for allowed in (np.array(mask), np.ones(ROWS, dtype=bool)):
        rows, scores = Sums(ROWS).best(in_order(lists), k=k, allowed=allowed)
        assert brute_force(lists, k=k, allowed=allowed) == (rows.tolist(), scores.tolist())


def test_the_order_of_the_lists_does_not_matter() -> None:
    """The shortest is added first, whichever word is typed first."""
    lists = [posting({1: 0.7, 2: 0.7, 3: 0.7}), posting({1: 1 / 3, 2: 1 / 3}), posting({2: 9.1})]

    assert Sums(ROWS).best(in_order(lists), k=3)[1].tolist() == Sums(ROWS).best(in_order(lists[::-1]), k=3)[1].tolist()


def test_each_thread_adds_for_itself() -> None:
    """Four threads at once get the sequential answers."""
    sums, lists = Sums(ROWS), [posting({row: 1.0 + row for row in range(ROWS)}), posting({3: 2.0, 5: 1.0})]
    expected = sums.best(in_order(lists), k=5)[0].tolist()
    answers: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: answers.extend(sums.best(in_order(lists), k=5)[0].tolist() for _ in range(200)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [expected] * 800 == answers
