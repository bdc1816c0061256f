"""The adaptive losses against second formulas, written with loops, and against numbers worked by hand."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.adaptive_losses import (
    adap_tau,
    adap_tau_base,
    adaptive_margin,
    adaptive_softmax,
    difficulty_softmax,
    lambert_w,
    mixed_negatives_softmax,
)
from models.losses import scaled_softmax

SEEDS = st.integers(0, 10_000)
Form = Literal["mul", "add"]
Place = Literal["pair", "neg"]


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Cosines and item cosines (b, n), n >= b, and the known positives: none given, few, or all."""
    draw = np.random.default_rng(seed)
    b = int(draw.integers(2, 6))
    n = b + int(draw.integers(0, 4))
    known = [None, draw.random((b, n)) < 0.3, np.ones((b, n), dtype=bool)][draw.choice(3, p=[0.4, 0.5, 0.1])]
    return draw.uniform(-1, 1, (b, n)), draw.uniform(-1, 1, (b, n)), known


def negatives_of(i: int, n: int, known: np.ndarray | None) -> list[int]:
    return [j for j in range(n) if j != i and not (known is not None and known[i, j])]


def tensor(known: np.ndarray | None) -> Tensor | None:
    return None if known is None else torch.from_numpy(known)


# JD's margin


def test_margins_by_hand() -> None:
    """alpha 0.5, delta_0 0.01: 0.5 x 0.2 + 0.01 = 0.11 for an item at cosine 0.8, 0.51 for one at 0."""
    cosines = torch.zeros(1, 3)  # a positive and two negatives, all at cosine 0: the hinges are the margins
    item_cosines = torch.tensor([[1.0, 0.8, 0.0]])

    loss = adaptive_margin(cosines, item_cosines, alpha=0.5, delta_0=0.01, symmetric_weight=0.0)

    assert 0.11 + 0.51 == pytest.approx(float(loss), abs=1e-6)


def test_the_symmetric_margin_by_hand() -> None:
    """The negative at 0.6 from the query and 0.8 from the positive item, which is 0.7 from the query.

    L_q = 0.11 + 0.6 - 0.7 = 0.01; its margin seen from the item is 0.5 x 0.4 + 0.01, so L_v = 0.21 + 0.8 - 0.7 = 0.31.
    """
    cosines, item_cosines = torch.tensor([[0.7, 0.6]]), torch.tensor([[1.0, 0.8]])

    loss = adaptive_margin(cosines, item_cosines, alpha=0.5, delta_0=0.01, symmetric_weight=0.05)

    assert 0.01 + 0.05 * 0.31 == pytest.approx(float(loss), abs=1e-6)


@given(SEEDS, st.floats(0.1, 2), st.floats(0.001, 0.2), st.floats(0, 1), st.booleans())
def test_the_adaptive_margin_written_with_loops(
    seed: int, alpha: float, delta_0: float, weight: float, stop_gradient: bool
) -> None:
    """Sums over negatives, means over rows; whether the margins have a gradient does not change the value."""
    cosines, item_cosines, known = random_case(seed)
    b, n = cosines.shape
    total = 0.0
    for i in range(b):
        for j in negatives_of(i, n, known):
            seen_from_item = alpha * (1 - item_cosines[i, j]) + delta_0
            seen_from_query = alpha * (1 - cosines[i, j]) + delta_0
            total += max(0.0, seen_from_item + cosines[i, j] - cosines[i, i])
            total += weight * max(0.0, seen_from_query + item_cosines[i, j] - cosines[i, i])

    loss = adaptive_margin(
        torch.from_numpy(cosines),
        torch.from_numpy(item_cosines),
        alpha=alpha,
        delta_0=delta_0,
        stop_gradient=stop_gradient,
        symmetric_weight=weight,
        known_positives=tensor(known),
    )

    assert total / b == pytest.approx(float(loss), abs=1e-9)


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_the_margin_turns_the_items_gradients_unless_stopped(stop_gradient: bool) -> None:
    """One active negative u: dL/dv = -q and dL/du = q; without the stop alpha u and alpha v are taken off them.

    Going down the gradient, v then moves toward u and u toward v: this is why items gather.
    """
    alpha = 0.5
    q, v, u = (torch.tensor(row, requires_grad=True) for row in ([1.0, 0.0], [0.0, 1.0], [0.6, 0.8]))
    items = torch.stack([v, u])
    cosines, item_cosines = (q @ items.T).unsqueeze(0), (v @ items.T).unsqueeze(0)
    adaptive_margin(
        cosines, item_cosines, alpha=alpha, delta_0=0.01, stop_gradient=stop_gradient, symmetric_weight=0.0
    ).backward()

    pull = 0.0 if stop_gradient else alpha
    torch.testing.assert_close(v.grad, (-q - pull * u).detach())
    torch.testing.assert_close(u.grad, (q - pull * v).detach())
    torch.testing.assert_close(q.grad, (u - v).detach())


def test_learnt_margins_have_gradients_behind_the_stop() -> None:
    """dL/d delta_0 counts the active negatives, 2; dL/d alpha adds up their distances to the positive item, 0.2 + 1."""
    alpha, delta_0 = torch.tensor(0.5, requires_grad=True), torch.tensor(0.01, requires_grad=True)
    item_cosines = torch.tensor([[1.0, 0.8, 0.0]])
    adaptive_margin(torch.zeros(1, 3), item_cosines, alpha=alpha, delta_0=delta_0, symmetric_weight=0.0).backward()

    assert alpha.grad is not None
    assert delta_0.grad is not None
    assert (1.2, 2.0) == pytest.approx((alpha.grad.item(), delta_0.grad.item()))


# JD's temperature


@given(SEEDS, st.sampled_from(["mul", "add"]), st.sampled_from(["pair", "neg"]), st.floats(0, 1))
def test_the_adaptive_softmax_written_with_loops(seed: int, form: Form, place: Place, weight: float) -> None:
    cosines, item_cosines, known = random_case(seed)
    alpha, tau_0 = 0.5, 1 / 10
    b, n = cosines.shape

    def side(scores: np.ndarray, closeness: np.ndarray) -> float:
        total = 0.0
        for i in range(b):
            positive, rivals = cosines[i, i], 0.0
            for j in negatives_of(i, n, known):
                far = 1 - closeness[i, j]
                tau = tau_0 * (1 + alpha * far) if form == "mul" else alpha * far + tau_0
                if place == "pair":
                    rivals += math.exp((scores[i, j] - positive) / tau)
                else:
                    rivals += math.exp(scores[i, j] / tau) / math.exp(positive / tau_0)
            total += math.log(1 + rivals)
        return total / b

    loss = adaptive_softmax(
        torch.from_numpy(cosines),
        torch.from_numpy(item_cosines),
        alpha=alpha,
        tau_0=tau_0,
        tau_form=form,
        tau_place=place,
        symmetric_weight=weight,
        known_positives=tensor(known),
    )

    assert side(cosines, item_cosines) + weight * side(item_cosines, cosines) == pytest.approx(float(loss), abs=1e-9)


@given(SEEDS, st.sampled_from(["mul", "add"]), st.sampled_from(["pair", "neg"]))
def test_a_constant_temperature_is_the_plain_softmax(seed: int, form: Form, place: Place) -> None:
    """alpha = 0 leaves tau_0 everywhere."""
    cosines, item_cosines, known = random_case(seed)
    given_cosines = torch.from_numpy(cosines)

    loss = adaptive_softmax(
        given_cosines,
        torch.from_numpy(item_cosines),
        alpha=0.0,
        tau_0=1 / 20,
        tau_form=form,
        tau_place=place,
        symmetric_weight=0.0,
        known_positives=tensor(known),
    )
    plain = scaled_softmax(given_cosines, scale=20.0, known_positives=tensor(known))

    assert float(plain) == pytest.approx(float(loss), abs=1e-9)


@pytest.mark.parametrize(
    ("alpha", "form", "place", "share", "value"),
    [
        (0.0, "mul", "pair", 1.000, 2.5e-3),
        (0.5, "add", "pair", 0.011, 4.37),
        (0.5, "add", "neg", 0.509, 1.7e-8),
        (0.5, "mul", "pair", 0.993, 4.3e-3),
        (0.5, "mul", "neg", 1.000, 4.8e-4),
    ],
)
def test_how_much_of_the_gradient_a_hard_negative_gets(
    alpha: float, form: Form, place: Place, share: float, value: float
) -> None:
    """348 easy negatives at 0, one hard one at 0.6 whose item is 0.8 from the positive's, the positive at 0.8.

    By hand, for `add` and `pair`: e^-1.5 / 0.133 on the hard one against 348 e^-1.5 / 0.533 on the easy ones is 1.1 %,
    the opposite of what the temperature is for; multiplied, the hard one keeps 99 %.
    """
    cosines = torch.zeros(1, 350, dtype=torch.float64)
    item_cosines = torch.zeros(1, 350, dtype=torch.float64)
    cosines[0, :2], item_cosines[0, :2] = torch.tensor([0.8, 0.6]), torch.tensor([1.0, 0.8])
    cosines.requires_grad_()
    loss = adaptive_softmax(
        cosines, item_cosines, alpha=alpha, tau_0=1 / 30, tau_form=form, tau_place=place, symmetric_weight=0.0
    )
    loss.backward()

    assert cosines.grad is not None
    of_negatives = cosines.grad[0, 1:]
    assert share == pytest.approx((of_negatives[0] / of_negatives.sum()).item(), abs=6e-4)
    assert value == pytest.approx(loss.item(), rel=0.03)


# Adap-tau


def by_bisection(x: float) -> float:
    """Lambert's W: the w from -1 up with w e^w = x."""
    low, high = -1.0, 10.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if middle * math.exp(middle) < x else (low, middle)
    return low


@given(st.floats(-1 / math.e, 1000))
def test_lambert_w_undoes_w_times_e_to_the_w(x: float) -> None:
    """On the branch from -1 up."""
    w = float(lambert_w(torch.tensor(x, dtype=torch.float64)))

    assert w >= -1 - 1e-9
    assert x == pytest.approx(w * math.exp(w), rel=1e-9, abs=1e-12)


def test_lambert_w_by_hand() -> None:
    """W(0) = 0, W(e) = 1, W(-1/e) = -1; below that it stays -1."""
    x = torch.tensor([0.0, math.e, -1 / math.e, -5.0])

    assert [0.0, 1.0, -1.0, -1.0] == pytest.approx(lambert_w(x).tolist(), abs=1e-6)


def test_equal_queries_have_the_base_temperature() -> None:
    """Two queries as hard as each other: W(0) = 0, so -log( e^(w0 0.5) / e^(w0 0) ) with w0 = 10 is -5."""
    cosines = torch.tensor([[0.5, 0.0], [0.0, 0.5]])

    assert -5.0 == pytest.approx(float(adap_tau(cosines, base=10.0, smoothing=1.0, query_rows=torch.arange(2))))


def test_a_harder_query_gets_a_higher_temperature_by_hand() -> None:
    """Losses at temperature 1 are 0.2 and -0.2; W(0.2) = 0.1689 softens the first, whose negative is at 0.2.

    Row 0: 10 e^-0.1689 x 0.2 - 10 x 0; row 1: 0, whatever its temperature, - 10 x 0.2.
    """
    cosines = torch.tensor([[0.0, 0.2], [0.0, 0.2]])

    loss = adap_tau(cosines, base=10.0, smoothing=1.0, query_rows=torch.arange(2))

    assert (2 * math.exp(-0.168916) - 2) / 2 == pytest.approx(float(loss), abs=1e-5)


@given(SEEDS, st.floats(1, 20), st.floats(0.3, 3))
def test_adap_tau_written_with_loops(seed: int, base: float, smoothing: float) -> None:
    """Rows of the same query share the mean of their losses; rows without a negative are left out of everything."""
    cosines, _, known = random_case(seed)
    b, n = cosines.shape
    query_rows = np.random.default_rng(seed).integers(0, 3, b) * 7
    rivals = {i: negatives_of(i, n, known) for i in range(b) if negatives_of(i, n, known)}
    plain = {i: math.log(sum(math.exp(cosines[i, j]) for j in js)) - cosines[i, i] for i, js in rivals.items()}
    by_query: dict[int, float] = {}
    for query in {int(query_rows[i]) for i in rivals}:
        by_query[query] = float(np.mean([plain[i] for i in rivals if query_rows[i] == query]))
    total = 0.0
    for i, js in rivals.items():
        relative = (by_query[int(query_rows[i])] - float(np.mean(list(by_query.values())))) / smoothing
        inverse_tau = base * math.exp(-by_bisection(max(-1 / math.e, relative)))
        total += math.log(sum(math.exp(inverse_tau * cosines[i, j]) for j in js)) - base * cosines[i, i]

    loss = adap_tau(
        torch.from_numpy(cosines),
        base=base,
        smoothing=smoothing,
        query_rows=torch.from_numpy(query_rows),
        known_positives=tensor(known),
    )

    assert total / max(1, len(rivals)) == pytest.approx(float(loss), rel=1e-6, abs=1e-6)


def base_case() -> dict[str, Tensor]:
    """Four queries with 3, 1, 1, 1 pairs over six documents: only the first is above the 20 % quantile, which is 1."""
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    documents = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    rows = torch.tensor([0, 0, 0, 1, 2, 3]), torch.tensor([0, 1, 2, 3, 4, 5])
    return {"queries": queries, "documents": documents.repeat(50, 1), "query_rows": rows[0], "document_rows": rows[1]}


def test_the_base_by_hand() -> None:
    """U = 1, I = 300, |D| = 3; positives at (1 + 0.8 + 0.6) / 3 = 0.8, the mean item at 2.4 / 6 = 0.4.

    w0 = log(1 x 300 / (2 x 3)) / (0.8 - 0.4) = log(50) / 0.4.
    """
    assert math.log(50) / 0.4 == pytest.approx(adap_tau_base(**base_case()), rel=1e-5)


def test_before_anything_is_learnt_the_base_has_the_authors_gap() -> None:
    """All documents alike: no gap to divide by, so 0.7 stands in."""
    case = base_case() | {"documents": torch.tensor([[1.0, 0.0]]).repeat(300, 1)}

    assert math.log(50) / 0.7 == pytest.approx(adap_tau_base(**case), rel=1e-5)


def test_queries_with_as_many_pairs_as_all_others_count_all() -> None:
    """Four queries of one pair each, at cosine 1, over six documents: w0 = log(4 x 6 / (2 x 4)) / gap.

    The mean item is at 2.4 / 6 from the first query and at 4.4 / 6 from the other three.
    """
    case = base_case()
    case |= {
        "documents": case["documents"][:6],
        "query_rows": torch.arange(4),
        "document_rows": torch.tensor([0, 3, 4, 5]),
    }
    mean_item = (2.4 / 6 + 3 * 4.4 / 6) / 4

    assert math.log(3) / (1 - mean_item) == pytest.approx(adap_tau_base(**case), rel=1e-5)


def test_dense_pairs_give_a_base_of_one() -> None:
    """One query that wants every one of six documents: log(1 x 6 / (2 x 6)) is negative."""
    case = base_case()
    case |= {
        "queries": case["queries"][:1],
        "documents": case["documents"][:6],
        "query_rows": torch.zeros(6, dtype=torch.int64),
        "document_rows": torch.arange(6),
    }

    assert 1.0 == adap_tau_base(**case)


# difficulty weights


def test_difficulty_weights_by_hand() -> None:
    """Negatives at 0 and log 2 with strength 1 are in proportion 1 : 2, with mean 1 so 2/3 and 4/3; the scale is 1.

    -log( 1 / (1 + 2/3 x 1 + 4/3 x 2) ) = log(13/3).
    """
    cosines = torch.tensor([[0.0, 0.0, math.log(2)]])

    assert math.log(13 / 3) == pytest.approx(float(difficulty_softmax(cosines, scale=1.0, strength=1.0)), abs=1e-6)


@given(SEEDS, st.floats(1, 30), st.floats(0, 20))
def test_the_difficulty_softmax_written_with_loops(seed: int, scale: float, strength: float) -> None:
    cosines, _, known = random_case(seed)
    losses = []
    for i, row in enumerate(cosines):
        rivals = row[negatives_of(i, len(row), known)]
        weights = np.exp(strength * rivals)
        weighted = (weights / weights.mean() * np.exp(scale * rivals)).sum() if len(rivals) else 0.0
        losses.append(-math.log(math.exp(scale * row[i]) / (math.exp(scale * row[i]) + weighted)))

    loss = difficulty_softmax(torch.from_numpy(cosines), scale=scale, strength=strength, known_positives=tensor(known))

    assert np.mean(losses) == pytest.approx(float(loss), abs=1e-9)


@given(SEEDS)
def test_without_strength_it_is_the_plain_softmax_to_the_last_bit(seed: int) -> None:
    cosines, _, known = random_case(seed)
    given_cosines = torch.from_numpy(cosines.astype(np.float32))

    weighted = difficulty_softmax(given_cosines, scale=20.0, strength=0.0, known_positives=tensor(known))

    assert torch.equal(scaled_softmax(given_cosines, scale=20.0, known_positives=tensor(known)), weighted)


def test_difficulty_weights_are_constants() -> None:
    """The gradient at the negatives is s w p: for the numbers above s = 1 and shares of 2/13 and 8/13."""
    cosines = torch.tensor([[0.0, 0.0, math.log(2)]], requires_grad=True)
    difficulty_softmax(cosines, scale=1.0, strength=1.0).backward()

    assert cosines.grad is not None
    assert [-10 / 13, 2 / 13, 8 / 13] == pytest.approx(cosines.grad[0].tolist(), abs=1e-6)


# mixed negatives


def unit_rows(draw: np.random.Generator, rows: int) -> np.ndarray:
    vectors = draw.normal(size=(rows, 4))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(SEEDS, st.integers(1, 4), st.floats(0, 0.99))
def test_mixed_negatives_written_with_vectors(seed: int, hardest: int, share: float) -> None:
    """With a fixed share every I_mix is built as a vector and scored; the loss computes from scores alone."""
    cosines, _, known = random_case(seed)
    b, n = cosines.shape
    draw = np.random.default_rng(seed)
    queries, documents = unit_rows(draw, b), unit_rows(draw, n)
    losses = []
    for i in range(b):
        scores = queries[i] @ documents.T
        rivals = sorted(negatives_of(i, n, known), key=lambda j: -scores[j])
        mixed = [share * documents[i] + (1 - share) * documents[j] for j in rivals[:hardest]]
        others = [scores[j] for j in rivals] + [queries[i] @ vector for vector in mixed]
        losses.append(math.log(1 + sum(math.exp(10 * (other - scores[i])) for other in others)))

    loss = mixed_negatives_softmax(
        torch.from_numpy(queries),
        torch.from_numpy(documents),
        scale=10.0,
        hardest=hardest,
        mix_low=share,
        mix_high=share,
        known_positives=tensor(known),
    )

    assert np.mean(losses) == pytest.approx(float(loss), abs=1e-9)


def test_shares_are_drawn_between_the_bounds_by_torchs_generator() -> None:
    """One pair and one negative at right angles, s = 1: the loss is log(1 + e^-1 + e^(a - 1)), which gives a away."""
    queries, documents = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])

    def share(seed: int) -> float:
        torch.manual_seed(seed)
        loss = mixed_negatives_softmax(queries, documents, scale=1.0, hardest=5, mix_low=0.4, mix_high=0.6)
        return 1 + math.log(math.exp(float(loss)) - 1 - math.exp(-1))

    shares = [share(seed) for seed in range(50)]

    assert all(0.4 - 1e-5 <= a <= 0.6 + 1e-5 for a in shares)
    assert max(shares) - min(shares) > 0.1
    assert share(3) == share(3)


# all of them


@pytest.mark.parametrize(
    "loss",
    [
        lambda c, i, known: adaptive_margin(c, i, alpha=0.5, delta_0=0.01, known_positives=known),
        lambda c, i, known: adaptive_softmax(c, i, alpha=0.5, tau_0=1 / 30, known_positives=known),
        lambda c, i, known: adaptive_softmax(c, i, alpha=0.5, tau_0=1 / 30, tau_place="neg", known_positives=known),
        lambda c, i, known: adap_tau(  # noqa: ARG005 (a loss without item cosines)
            c, base=10.0, smoothing=1.0, query_rows=torch.tensor([0, 1, 1]), known_positives=known
        ),
        lambda c, i, known: difficulty_softmax(c, scale=20.0, strength=1.0, known_positives=known),  # noqa: ARG005
        lambda c, i, known: mixed_negatives_softmax(  # noqa: ARG005
            c, torch.eye(5), scale=20.0, hardest=4, mix_low=0.4, mix_high=0.6, known_positives=known
        ),
    ],
    ids=["margin", "softmax", "softmax neg", "adap_tau", "difficulty", "mixed"],
)
def test_gradients_are_finite_and_zero_at_known_positives(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> None:
    """Row 0 knows every document, row 1 one besides its own: what is masked gets a gradient of 0, never NaN."""
    cosines = (torch.rand(3, 5, generator=torch.Generator().manual_seed(1)) - 0.5).requires_grad_()
    item_cosines = cosines.detach().flip(0)
    known = torch.zeros(3, 5, dtype=torch.bool)
    known[0], known[1, 2] = True, True
    kept = known.clone()
    value = loss(cosines, item_cosines, known)
    value.backward()

    assert value.isfinite()
    assert cosines.grad is not None
    assert cosines.grad.isfinite().all()
    assert (cosines.grad[known & ~torch.eye(3, 5, dtype=torch.bool)] == 0).all()
    assert cosines.grad[2].any()
    assert torch.equal(kept, known)
