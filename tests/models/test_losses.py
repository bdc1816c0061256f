"""Losses against a second formula, written with loops, and against numbers worked by hand."""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.losses import (
    distil_similarities,
    distil_vectors,
    hardest_negatives,
    head_query_loss,
    margin_rank,
    scaled_bce,
    scaled_softmax,
    symmetric_scaled_softmax,
)

SEEDS = st.integers(0, 10_000)


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Cosines (b, n) with n >= b, and the known positives: none given, few, or all, so that rows have no negatives."""
    draw = np.random.default_rng(seed)
    b = int(draw.integers(2, 6))
    n = b + int(draw.integers(0, 4))
    known = [None, draw.random((b, n)) < 0.3, np.ones((b, n), dtype=bool)][draw.choice(3, p=[0.4, 0.5, 0.1])]
    return draw.uniform(-1, 1, (b, n)), known


def negatives_of(i: int, n: int, known: np.ndarray | None) -> list[int]:
    return [j for j in range(n) if j != i and not (known is not None and known[i, j])]


def triplets(cosines: np.ndarray, known: np.ndarray | None, count: int) -> Iterator[tuple[float, float]]:
    """The positive's cosine and that of each of the `count` hardest negatives, row by row."""
    for i, row in enumerate(cosines):
        for c in sorted((row[j] for j in negatives_of(i, len(row), known)), reverse=True)[:count]:
            yield float(row[i]), float(c)


def tensors(cosines: np.ndarray, known: np.ndarray | None) -> tuple[Tensor, Tensor | None]:
    return torch.from_numpy(cosines), None if known is None else torch.from_numpy(known)


def plain_softmax(cosines: np.ndarray, known: np.ndarray | None, scale: float) -> float:
    losses = []
    for i, row in enumerate(cosines):
        rivals = sum(math.exp(scale * row[j]) for j in negatives_of(i, len(row), known))
        positive = math.exp(scale * row[i])
        losses.append(-math.log(positive / (positive + rivals)))
    return sum(losses) / len(losses)


def test_two_by_two_by_hand() -> None:
    """C = [[1, 0], [0.5, 0.5]], s = 2: rows lose log(1 + e^-2) and log 2."""
    cosines = torch.tensor([[1.0, 0.0], [0.5, 0.5]])

    expected = (math.log(1 + math.exp(-2)) + math.log(2)) / 2

    assert expected == pytest.approx(float(scaled_softmax(cosines, scale=2.0)), abs=1e-6)


def test_a_known_positive_is_no_negative() -> None:
    """With its only rival masked, a row loses nothing: log(e^s / e^s) = 0."""
    cosines = torch.tensor([[0.2, 0.9], [0.1, 0.3]])
    known = torch.tensor([[True, True], [False, True]])

    expected = math.log(1 + math.exp(20 * (0.1 - 0.3))) / 2

    assert expected == pytest.approx(float(scaled_softmax(cosines, scale=20.0, known_positives=known)), abs=1e-6)


@given(SEEDS, st.floats(1, 30))
def test_the_softmax_is_minus_the_log_of_the_positives_share(seed: int, scale: float) -> None:
    cosines, known = random_case(seed)
    given_cosines, given_known = tensors(cosines, known)

    loss = scaled_softmax(given_cosines, scale=scale, known_positives=given_known)

    assert plain_softmax(cosines, known, scale) == pytest.approx(float(loss), abs=1e-9)


@given(SEEDS, st.floats(1, 30))
def test_the_symmetric_loss_adds_the_other_direction(seed: int, scale: float) -> None:
    """Half of the loss over documents and half of that over queries; mined documents have no query, so no row."""
    cosines, known = random_case(seed)
    b = len(cosines)
    turned = plain_softmax(cosines[:, :b].T, None if known is None else known[:, :b].T, scale)
    given_cosines, given_known = tensors(cosines, known)

    loss = symmetric_scaled_softmax(given_cosines, scale=scale, known_positives=given_known)

    assert (plain_softmax(cosines, known, scale) + turned) / 2 == pytest.approx(float(loss), abs=1e-9)


def test_hardest_negatives_by_hand() -> None:
    """Row 0 wants documents 0 and 2, so 0.5 and 0.1 are left; row 1 has only document 0 and is filled up with -inf."""
    cosines = torch.tensor([[0.9, 0.1, 0.8, 0.5], [0.3, 0.2, 0.7, 0.6]])
    known = torch.tensor([[True, False, True, False], [False, True, True, True]])

    assert [[0.5, 0.1], [0.3, -math.inf]] == [
        pytest.approx(row) for row in hardest_negatives(cosines, count=2, known_positives=known).tolist()
    ]


def test_more_negatives_than_documents_are_as_many_as_there_are() -> None:
    assert (2, 2) == hardest_negatives(torch.zeros(2, 2), count=5).shape


def test_margin_rank_by_hand() -> None:
    """Margin 0.1: row 0 leads by 0.4 and loses nothing, row 1 trails its hardest by 0.2 and loses 0.3."""
    cosines = torch.tensor([[0.9, 0.5, 0.1], [0.4, 0.3, 0.5]])

    assert 0.3 == pytest.approx(float(margin_rank(cosines, margin=0.1)), abs=1e-6)
    assert 0.15 == pytest.approx(float(margin_rank(cosines, margin=0.1, reduction="mean")), abs=1e-6)
    # with two negatives row 1 loses 0.2 more on document 0, and the mean is over four triplets
    assert 0.5 == pytest.approx(float(margin_rank(cosines, margin=0.1, negatives=2)), abs=1e-6)
    assert 0.125 == pytest.approx(float(margin_rank(cosines, margin=0.1, negatives=2, reduction="mean")), abs=1e-6)


@given(SEEDS, st.floats(0, 0.5), st.integers(1, 3))
def test_margin_rank_sums_hinges_over_triplets(seed: int, margin: float, count: int) -> None:
    cosines, known = random_case(seed)
    hinges = [max(0.0, negative - positive + margin) for positive, negative in triplets(cosines, known, count)]
    given_cosines, given_known = tensors(cosines, known)

    def loss(reduction: Literal["sum", "mean"]) -> float:
        return margin_rank(
            given_cosines, margin=margin, reduction=reduction, negatives=count, known_positives=given_known
        ).item()

    assert sum(hinges) == pytest.approx(loss("sum"), abs=1e-9)
    assert sum(hinges) / max(1, len(hinges)) == pytest.approx(loss("mean"), abs=1e-9)


def test_bce_by_hand() -> None:
    """s = 1, C = [[0, 0], [0, 0]]: every term is -log(1/2), two per row. The printed sign would give 0."""
    assert 2 * math.log(2) == pytest.approx(float(scaled_bce(torch.zeros(2, 2), scale=1.0)), abs=1e-6)


@given(SEEDS, st.floats(1, 10), st.integers(1, 3))
def test_bce_is_two_logistic_losses_per_triplet(seed: int, scale: float, count: int) -> None:
    cosines, known = random_case(seed)
    losses = [
        -math.log(1 / (1 + math.exp(-scale * positive))) - math.log(1 - 1 / (1 + math.exp(-scale * negative)))
        for positive, negative in triplets(cosines, known, count)
    ]
    given_cosines, given_known = tensors(cosines, known)

    loss = scaled_bce(given_cosines, scale=scale, negatives=count, known_positives=given_known)

    assert sum(losses) / max(1, len(losses)) == pytest.approx(float(loss), rel=1e-6, abs=1e-9)


def test_bce_stays_finite_where_a_sigmoid_would_round_to_one() -> None:
    """A negative at cosine 1 and scale 1000 loses 1000, where log(1 - sigma) in float32 is -inf."""
    cosines = torch.tensor([[1.0, 1.0]], requires_grad=True)
    loss = scaled_bce(cosines, scale=1000.0)
    loss.backward()

    assert 1000.0 == pytest.approx(loss.item())
    assert cosines.grad is not None
    assert [0.0, 1000.0] == pytest.approx(cosines.grad[0].tolist())


def test_labels_share_the_target_evenly() -> None:
    """Even logits over 4 head queries lose log 4 whatever the labels; the row without labels does not count."""
    labels = torch.tensor([[0, 3], [1, -1], [-1, -1]])

    assert math.log(4) == pytest.approx(float(head_query_loss(torch.zeros(3, 4), labels)), abs=1e-6)


@given(SEEDS)
def test_the_class_loss_is_the_cross_entropy_to_shared_targets(seed: int) -> None:
    """Written with a dense target matrix that has 1/k at each of a row's k labels."""
    draw = np.random.default_rng(seed)
    rows, classes, most = 4, 6, 3
    logits = draw.normal(size=(rows, classes))
    labels = np.full((rows, most), -1)
    targets = np.zeros((rows, classes))
    for i in range(rows):
        chosen = draw.choice(classes, size=draw.integers(0, most + 1), replace=False)
        labels[i, : len(chosen)] = chosen
        targets[i, chosen] = 1 / max(1, len(chosen))
    log_shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    labelled = targets.any(axis=1).sum()

    loss = head_query_loss(torch.from_numpy(logits), torch.from_numpy(labels))

    assert -(targets * log_shares).sum() / max(1, labelled) == pytest.approx(float(loss), abs=1e-9)


def test_no_labels_at_all_is_a_loss_of_zero_with_a_gradient_of_zero() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = head_query_loss(logits, torch.full((2, 1), -1))
    loss.backward()

    assert 0.0 == loss.item()
    assert logits.grad is not None
    assert torch.equal(torch.zeros(2, 3), logits.grad)


def test_distilled_vectors_lose_one_minus_the_cosine() -> None:
    """The same direction loses 0 at any length, a right angle 1, the opposite 2."""
    student = torch.tensor([[3.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])

    assert [0.0, 1.0, 2.0] == [float(distil_vectors(student[i : i + 1], teacher[i : i + 1])) for i in range(3)]
    assert 1.0 == float(distil_vectors(student, teacher))


@given(SEEDS, st.floats(1, 30))
def test_distilled_similarities_lose_the_divergence_from_the_teacher(seed: int, scale: float) -> None:
    draw = np.random.default_rng(seed)
    student, teacher = draw.uniform(-1, 1, (2, 3, 5))
    divergences = []
    for s, t in zip(np.exp(scale * student), np.exp(scale * teacher), strict=True):
        p, q = t / t.sum(), s / s.sum()
        divergences.append(sum(p[j] * math.log(p[j] / q[j]) for j in range(5)))

    loss = distil_similarities(torch.from_numpy(student), torch.from_numpy(teacher), scale=scale)

    assert np.mean(divergences) == pytest.approx(float(loss), abs=1e-9)


def test_a_student_like_its_teacher_has_nothing_to_learn() -> None:
    cosines = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))

    assert 0.0 == pytest.approx(float(distil_similarities(cosines, cosines, scale=20.0)), abs=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        lambda cosines, known: scaled_softmax(cosines, scale=20.0, known_positives=known),
        lambda cosines, known: symmetric_scaled_softmax(cosines, scale=20.0, known_positives=known),
        lambda cosines, known: margin_rank(cosines, margin=0.1, negatives=3, known_positives=known),
        lambda cosines, known: margin_rank(cosines, margin=0.1, reduction="mean", known_positives=known),
        lambda cosines, known: scaled_bce(cosines, scale=20.0, negatives=3, known_positives=known),
    ],
    ids=["softmax", "symmetric", "margin sum", "margin mean", "bce"],
)
def test_gradients_are_finite_and_zero_at_known_positives(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Row 0 knows every document, row 1 one besides its own: what is masked gets a gradient of 0, never NaN."""
    cosines = (torch.rand(3, 5, generator=torch.Generator().manual_seed(1)) - 0.5).requires_grad_()
    known = torch.zeros(3, 5, dtype=torch.bool)
    known[0], known[1, 2], known[2, 1] = True, True, True
    kept = known.clone()
    loss(cosines, known).backward()

    assert cosines.grad is not None
    assert cosines.grad.isfinite().all()
    assert (cosines.grad[known & ~torch.eye(3, 5, dtype=torch.bool)] == 0).all()
    assert cosines.grad[2].any()
    assert torch.equal(kept, known)
