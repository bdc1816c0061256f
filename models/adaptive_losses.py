"""Losses that adapt to how hard a negative is: JD's margin and temperature, Adap-tau, PEG's weights, Taobao's mixing.

Shapes and `known_positives` as in `losses`; `item_cosines` (b, n) holds s(v_i, v_j), query i's positive against
document j. JD's formulas are reconstructed from what its text states; docs/model.md says how.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import not_negatives

Knob = float | Tensor  # a constant, or a 0-d tensor that is learnt


def adaptive_margin(
    cosines: Tensor,
    item_cosines: Tensor,
    *,
    alpha: Knob,
    delta_0: Knob,
    stop_gradient: bool = True,
    symmetric_weight: float = 0.05,
    known_positives: Tensor | None = None,
) -> Tensor:
    """JD: the sum over negatives of [delta + s(q, v_i) - s(q, v)]_+, the mean over queries, plus the symmetric term.

    delta = alpha (1 - s(v, v_i)) + delta_0: the closer a negative to the positive, the smaller its margin. The symmetric
    term has the positive item as anchor: [delta' + s(v, v_i) - s(v, q)]_+ with delta' = alpha (1 - s(q, v_i)) + delta_0.

    Args:
        stop_gradient: margins are constants to the gradient; without it positive and negative items gather.
        symmetric_weight: w, 0.05 in the paper.
    """
    excluded = not_negatives(cosines, known_positives)
    positives = cosines.diagonal().unsqueeze(1)  # (b, 1)

    def hinge(anchored: Tensor, opposite: Tensor) -> Tensor:
        closeness = opposite.detach() if stop_gradient else opposite
        margins = alpha * (1 - closeness) + delta_0  # (b, n)
        return F.relu(margins + anchored - positives).masked_fill(excluded, 0.0).sum(dim=1).mean()

    return hinge(cosines, item_cosines) + symmetric_weight * hinge(item_cosines, cosines)


def adaptive_softmax(
    cosines: Tensor,
    item_cosines: Tensor,
    *,
    alpha: Knob,
    tau_0: Knob,
    tau_form: Literal["mul", "add"] = "mul",
    tau_place: Literal["pair", "neg"] = "pair",
    stop_gradient: bool = True,
    symmetric_weight: float = 0.05,
    known_positives: Tensor | None = None,
) -> Tensor:
    """JD's softmax with a temperature per negative, smaller the closer it is to the positive; the mean over queries.

    tau_i is tau_0 (1 + alpha (1 - s(v, v_i))) with `mul`, alpha (1 - s(v, v_i)) + tau_0 with `add`. `pair` is
    log(1 + sum_i exp((s_i - s+) / tau_i)); `neg` is -log of e^(s+/tau_0) over itself and sum_i e^(s_i/tau_i).
    """
    excluded = not_negatives(cosines, known_positives)
    positives = cosines.diagonal().unsqueeze(1)  # (b, 1)

    def softmax(anchored: Tensor, opposite: Tensor) -> Tensor:
        closeness = opposite.detach() if stop_gradient else opposite
        hardness = alpha * (1 - closeness)
        tau = tau_0 * (1 + hardness) if tau_form == "mul" else hardness + tau_0  # (b, n)
        if tau_place == "pair":
            terms = (anchored - positives) / tau
        else:
            terms = anchored / tau - positives / tau_0
        terms = terms.masked_fill(excluded, -torch.inf)
        return torch.logsumexp(F.pad(terms, (1, 0)), dim=1).mean()  # the pad is the positive's own exp(0)

    return softmax(cosines, item_cosines) + symmetric_weight * softmax(item_cosines, cosines)


def adap_tau(
    cosines: Tensor, *, base: float, smoothing: float, query_rows: Tensor, known_positives: Tensor | None = None
) -> Tensor:
    """Adap-tau (WWW'23): -log( e^(w0 s+) / sum_i e^(s_i / tau_u) ), with a temperature per query.

    1/tau_u = w0 exp(-W(max(-1/e, (l_u - mean l) / T2))), W Lambert's, l_u the query's mean loss at temperature 1,
    without gradient. The denominator holds negatives only.

    Args:
        base: w0, from `adap_tau_base`.
        smoothing: T2.
        query_rows: (b,) int64, equal for equal queries.
    """
    excluded = not_negatives(cosines, known_positives)
    positives = cosines.diagonal()
    with torch.no_grad():
        plain = torch.logsumexp(cosines.masked_fill(excluded, -torch.inf), dim=1) - positives  # (b,)
        _, place, counts = query_rows.unique(return_inverse=True, return_counts=True)
        by_query = torch.zeros(len(counts), device=cosines.device).index_add_(0, place, plain) / counts
        relative = (by_query - plain.mean())[place] / smoothing
        inverse_tau = base * torch.exp(-lambert_w(relative.clamp(min=-1 / math.e)))  # (b,)
    logits = (cosines * inverse_tau.unsqueeze(1)).masked_fill(excluded, -torch.inf)
    return (torch.logsumexp(logits, dim=1) - base * positives).mean()


def adap_tau_base(*, queries: int, documents: int, pairs: int, cosine_gap: float) -> float:
    """w0 = log(U I / (2 |D|)) / gap, as Adap-tau's authors compute it; at least 1 where pairs are dense.

    Args:
        cosine_gap: the mean cosine of positive pairs minus the mean cosine of queries to the mean document; 0.7 before
            anything is learnt, and never taken below 0.05.
    """
    return max(1.0, math.log(max(math.e, queries * documents / (2 * pairs))) / max(0.05, cosine_gap))


def lambert_w(x: Tensor) -> Tensor:
    """W with W e^W = x on its principal branch, for x >= -1/e, by Halley's steps."""
    near = torch.sqrt((2 * (math.e * x + 1)).clamp(min=0)) - 1  # close to the branch point at -1/e
    w = torch.where(x < 0, near, torch.log1p(x.clamp(min=0)))
    for _ in range(12):
        power = torch.exp(w)
        error = w * power - x
        slope = power * (w + 1) - (w + 2) * error / (2 * w + 2).clamp(min=1e-6)
        w = w - torch.where(slope.abs() > 1e-9, error / slope, torch.zeros_like(w))
    return w


def difficulty_softmax(
    cosines: Tensor, *, scale: float, strength: float, known_positives: Tensor | None = None
) -> Tensor:
    """A scaled softmax whose negatives weigh exp(strength x their cosine), scaled to a mean of 1, without gradient.

    In the manner of PEG, whose formula is not published [inferred]. Strength 0 is `losses.scaled_softmax`.
    """
    excluded = not_negatives(cosines, known_positives)
    with torch.no_grad():
        hardness = (strength * cosines).masked_fill(excluded, -torch.inf)
        allowed = (~excluded).sum(dim=1, keepdim=True).clamp(min=1)
        log_weights = hardness - torch.logsumexp(hardness, dim=1, keepdim=True) + allowed.log()
    logits = (cosines * scale + log_weights.masked_fill(excluded, 0.0)).masked_fill(excluded, -torch.inf)
    positives = (cosines.diagonal() * scale).unsqueeze(1)
    return (torch.logsumexp(torch.cat([positives, logits], dim=1), dim=1) - positives[:, 0]).mean()


def mixed_negatives_softmax(
    queries: Tensor,
    documents: Tensor,
    *,
    scale: float,
    hardest: int,
    mix_low: float,
    mix_high: float,
    known_positives: Tensor | None = None,
) -> Tensor:
    """Taobao's mixed negatives: Eq. 2 with a i+ + (1 - a) i_hard, a ~ U(low, high), in the denominator too.

    The mixtures are normalised again, since vectors here have norm 1 and Taobao's do not [inferred].

    Args:
        queries: (b, d); documents: (n, d).
        hardest: how many of each query's highest-scoring negatives are mixed.
    """
    cosines = queries @ documents.T
    excluded = not_negatives(cosines, known_positives)
    found = cosines.detach().masked_fill(excluded, -torch.inf).topk(min(hardest, cosines.size(1) - 1), dim=1)
    a = mix_low + (mix_high - mix_low) * torch.rand(*found.indices.shape, 1, device=cosines.device)
    mixed = a * documents[: len(queries)].unsqueeze(1) + (1 - a) * documents[found.indices]  # (b, k, d)
    mixed_cosines = (F.normalize(mixed, dim=-1) @ queries.unsqueeze(2)).squeeze(2)  # (b, k)
    mixed_cosines = mixed_cosines.masked_fill(found.values.isinf(), -torch.inf)  # it has fewer negatives
    positives = cosines.diagonal().unsqueeze(1)
    terms = torch.cat([positives, cosines.masked_fill(excluded, -torch.inf), mixed_cosines], dim=1) * scale
    return (torch.logsumexp(terms, dim=1) - positives[:, 0] * scale).mean()
