"""A live index: whatever was published and deleted, searches equal brute force over what is searchable."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from index.ann import ranked
from index.errors import FilterError
from index.expression import parse
from index.generations import Generation
from index.live import LiveIndex
from index.log import LogEnd
from index.operating_points import EFFORTS, OperatingPoint
from tests.helpers import product_vectors, query_vectors
from tests.index.living import BruteForce, Log, Product, Record, generation_of

DIM = 8
NUMBERS = 16
TITLES = ("red shoes", "red lamp", "blue shoes", "big blue lamp", "guitar", "zither", "red red shoes with laces")
CATEGORIES = ("Fashion > Shoes", "Home > Lamps", "Music", "Music > Guitars > Old", None)
PRICES = (None, 5.0, 20.0, 20.0, 80.0)
SELLERS = ("ann", "Bob", None)
COLOURS = ("red", "blue", None)
QUERIES = ("red shoes", "zither", "lamq", '"blue lamp"', "laces with guitars", "nothing")
VECTORS = product_vectors(NUMBERS, dim=DIM)  # few, so that some are equal
CONDITIONS = [
    condition
    for text in (
        "price >= 20", "price < 80 AND price > 4", "price != 20", "NOT price = 5", "seller = BOB",
        "seller IN (ann, cy)", "NOT seller = ann", "category = Music", "category = 'Music > Guitars'",
        "category != 'Home > Lamps'", "colour = red AND price <= 20", "tokens(shoes) OR tokens(zither)",
        'NOT tokens("red shoes")', "created_at >= 2025-01-02", "created_at = 2025-01-01", "brand = none",
    )
    for condition in [parse(text).condition]
    if condition is not None
]  # fmt: skip


def record(at: int) -> Record:
    """One of many products; equal numbers give equal ones."""
    draw = np.random.default_rng(at)

    def one_of(values: tuple[object, ...]) -> object:
        return values[draw.integers(len(values))]

    return {
        "title": one_of(TITLES),
        "description": one_of((None, "with laces", "blue zither", "a lamp for a guitar")),
        "category": one_of(CATEGORIES),
        "price": one_of(PRICES),
        "seller_id": one_of(SELLERS),
        "created_at": one_of((None, "2025-01-01T10:00:00", "2025-01-02", "no time")),
        "attributes": one_of((None, {"colour": one_of(COLOURS)})),
    }


PRODUCTS = [Product(record(at), VECTORS[at]) for at in range(NUMBERS // 2)]
LOOKS = st.builds(Product, st.integers(0, 60).map(record), st.sampled_from(list(VECTORS)))


def point(effort: str, *, candidates: int, nlist: int | None) -> OperatingPoint:
    nprobe = None if nlist is None or effort == "exact" else min(nlist, EFFORTS.index(effort) + 1)
    return OperatingPoint(effort=effort, nprobe=nprobe, candidates=candidates)


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Generation:
    return generation_of(tmp_path_factory.mktemp("flat"), PRODUCTS)


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Generation:
    return generation_of(tmp_path_factory.mktemp("lists"), PRODUCTS, factory="IVF3,Flat")


class HesitatingLog(Log):
    """Its last transaction can be told before readers see it, as LMDB's can."""

    seen: LogEnd | None = None  # what readers see; None: everything

    def log_end(self) -> LogEnd:
        return super().log_end() if self.seen is None else self.seen


def test_a_transaction_that_readers_do_not_see_yet_is_looked_at_again(flat: Generation) -> None:
    """The look in between finds nothing, and forgets nothing."""
    log = HesitatingLog(PRODUCTS, sequence=flat.manifest.sequence)
    live = LiveIndex(flat, log)
    before = log.log_end()
    log.put(NUMBERS, PRODUCTS[0])

    log.seen = before
    assert 0 == live.refresh()
    log.seen = None

    assert 1 == live.refresh()
    assert 0 == live.refresh()


class Histories(RuleBasedStateMachine):
    """Products are put, put again, deleted and put back, and the view is refreshed now and then."""

    generation: Generation

    @initialize()
    def begin(self) -> None:
        self.log = Log(PRODUCTS, sequence=self.generation.manifest.sequence)
        self.live = LiveIndex(self.generation, self.log)
        self.compared = -1  # the sequence number of the last comparison

    @rule(number=st.integers(0, NUMBERS - 1), product=LOOKS)
    def put(self, number: int, product: Product) -> None:
        self.log.put(number, product)

    @rule(number=st.integers(0, NUMBERS - 1))
    def delete(self, number: int) -> None:
        self.log.delete(number)

    @rule(limit=st.integers(1, 4))
    def refresh(self, limit: int) -> None:
        self.live.refresh(limit)

    @rule()
    def catch_up(self) -> None:
        self.live.catch_up()

    @invariant()
    def no_product_twice(self) -> None:
        """At any effort, whatever of the log has been applied."""
        for effort in EFFORTS:
            found = self._found(effort, candidates=5)
            assert len(found) == len(set(found.tolist()))
            if self.live.applied == self.log.sequence:
                assert set(found.tolist()) <= self.log.products.keys()

    @invariant()
    def equals_brute_force(self) -> None:
        """Once all is applied: by vectors, under filters, by words and by both."""
        if self.live.applied != self.log.sequence or self.compared == self.log.sequence or not self.log.products:
            return
        self.compared = self.log.sequence
        truth = BruteForce(self.log.products, self.generation.lexical)
        assert len(truth.numbers) == self.live.count
        for k in (3, NUMBERS):
            self._check_vectors(truth, k)
            self._check_words(truth, k)
            self._check_filters(truth, k)

    def _found(self, effort: str, *, candidates: int) -> np.ndarray:
        one = point(effort, candidates=candidates, nlist=self.generation.ann.nlist)
        return ranked(self.live.vectors.search(QUERY, one).hits).numbers

    def _check_vectors(self, truth: BruteForce, k: int) -> None:
        exact = point("exact", candidates=k, nlist=None)
        hits = ranked(self.live.vectors.search(QUERY, exact).hits)
        check_best(truth.nearest(QUERY), hits.numbers, hits.scores, k=k)
        again = ranked(self.live.vectors.rescore(QUERY, hits.numbers))
        np.testing.assert_allclose(hits.scores, again.scores, atol=1e-6)

    def _check_words(self, truth: BruteForce, k: int) -> None:
        for query in QUERIES:
            found = self.live.words.search(query, k=k)
            assert truth.by_words(query, k=k) == list(zip(found.numbers.tolist(), found.scores.tolist(), strict=True))
            assert found.scores.tolist() == self.live.words.scores(query, found.numbers).tolist()

    def _check_filters(self, truth: BruteForce, k: int) -> None:
        nearest = truth.nearest(QUERY)
        for condition in CONDITIONS:
            try:
                allowed = truth.allowed(condition)
            except FilterError:  # nobody has the category any more: it is known as long as the generation lasts
                continue
            only = self.live.filters.rows(condition)
            assert len(allowed) == only.allowed
            exact = point("exact", candidates=k, nlist=None)
            hits = ranked(self.live.vectors.search_among(QUERY, exact, only).hits)
            check_best({number: nearest[number] for number in allowed}, hits.numbers, hits.scores, k=k)
            words = self.live.words.search(QUERIES[0], k=k, only=only)
            assert [number for number, _ in truth.by_words(QUERIES[0], k=k, only=allowed)] == words.numbers.tolist()


QUERY = query_vectors(1, dim=DIM)


def check_best(expected: dict[int, float], numbers: np.ndarray, scores: np.ndarray, *, k: int) -> None:
    """The k highest, in order; which of those that score alike but for rounding may differ."""
    best = sorted(expected.values(), reverse=True)[:k]
    np.testing.assert_allclose(best, scores, atol=1e-6)
    np.testing.assert_allclose([expected[number] for number in numbers.tolist()], scores, atol=1e-6)
    assert len(set(numbers.tolist())) == len(numbers)


@pytest.mark.parametrize("kind", ["flat", "lists"])
def test_any_history_ends_as_if_written_at_once(kind: str, request: pytest.FixtureRequest) -> None:
    """Exact, filtered, lexical; over a base of 8 products and at most 16 numbers."""
    generation = request.getfixturevalue(kind)
    machine = type("Histories", (Histories,), {"generation": generation})

    run_state_machine_as_test(machine, settings=settings(max_examples=30, stateful_step_count=15, deadline=None))
