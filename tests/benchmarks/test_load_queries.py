from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.load_queries import UNSEEN, QueryMix, read_golden_queries, zipf
from models.errors import ReleaseError
from models.runtime import GoldenQuery
from service.schemas import MAX_QUERY

GOLDEN = [
    GoldenQuery(query=f"{stratum} thing {number}", country="GB", stratum=stratum)
    for stratum, count in (("head", 3), ("torso", 10), ("tail", 30))
    for number in range(count)
]
DRAWN = 20_000


@pytest.fixture(scope="module")
def drawn() -> Counter[str]:
    mix = QueryMix(GOLDEN, seed=1)
    return Counter(mix.draw().query for _ in range(DRAWN))


def test_a_tenth_of_the_queries_was_never_seen(drawn: Counter[str]) -> None:
    """Nine in ten are golden, as they stand."""
    golden = sum(drawn[query.query] for query in GOLDEN)

    assert 1 - UNSEEN == pytest.approx(golden / DRAWN, abs=0.01)


@pytest.mark.parametrize("stratum", ["head", "torso", "tail"])
def test_each_stratum_is_a_third_of_the_golden_ones(stratum: str, drawn: Counter[str]) -> None:
    """However many queries share it."""
    asked = sum(drawn[query.query] for query in GOLDEN if query.stratum == stratum)

    assert 1 / 3 == pytest.approx(asked / DRAWN / (1 - UNSEEN), abs=0.02)


def test_within_a_stratum_the_first_is_asked_twice_as_often_as_the_second(drawn: Counter[str]) -> None:
    """Zipf's law: 1, 1/2, 1/3."""
    first, second, third = (drawn[f"head thing {number}"] for number in range(3))

    assert 2 == pytest.approx(first / second, rel=0.1)
    assert 3 == pytest.approx(first / third, rel=0.1)
    assert [1.0, 1 / 2, 1 / 3] == pytest.approx([1.0, *(later - earlier for earlier, later in pairwise(zipf(3)))])


def test_equal_seeds_ask_the_same() -> None:
    """And another seed something else."""
    first, again, other = (
        [mix.draw() for _ in range(50)] for mix in (QueryMix(GOLDEN, seed=each) for each in (7, 7, 8))
    )

    assert first == again
    assert first != other


def test_made_up_queries_are_never_too_long_nor_empty() -> None:
    """Two golden queries at the limit, of one word each."""
    mix = QueryMix([GoldenQuery(query="x" * MAX_QUERY), GoldenQuery(query="é" * MAX_QUERY)], seed=0)

    assert all(1 <= len(mix.draw().query) <= MAX_QUERY for _ in range(200))


def test_golden_queries_are_read_without_the_towers(tmp_path: Path) -> None:
    """One JSON object a line, more fields than needed or fewer."""
    (tmp_path / "golden_queries.jsonl").write_text(
        '{"query":"lamp","country":"GB","stratum":"head"}\n{"query":"sofa"}\n'
    )

    assert ["lamp", "sofa"] == [query.query for query in read_golden_queries(tmp_path)]


def test_a_release_without_them_is_said(tmp_path: Path) -> None:
    """Missing, broken, or none."""
    with pytest.raises(ReleaseError, match="No such file"):
        read_golden_queries(tmp_path)
    (tmp_path / "golden_queries.jsonl").write_text('{"query": 1}\n')
    with pytest.raises(ReleaseError, match="export the release again"):
        read_golden_queries(tmp_path)
    with pytest.raises(ReleaseError, match="no golden queries"):
        QueryMix([], seed=0)
