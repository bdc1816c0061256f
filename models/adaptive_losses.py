"""Losses that adapt to how hard a negative is: JD's margin and temperature, Adap-tau, PEG's weights, Taobao's mixing.

Shapes and `known_positives` as in `losses`; `item_cosines` (b, n) holds s(v_i, v_j), query i's positive against
document j. JD's formulas are reconstructed from what its text states; docs/model.md says how.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import hardest_negatives, not_negatives, positives_loss

Knob = float | Tensor  # a constant, or a 0-d tensor that is learnt
UNTRAINED_GAP = 0.7  # Adap-tau's cosine gap before anything is learnt
LEAST_GAP = 0.1  # a measured one below it is that of an untrained model too [inferred]
PAIRS_AT_ONCE = 65_536  # whose vectors are in memory together


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
    """Adap-tau (WWW'23): the mean of -log( e^(w0 s+) / sum_i e^(s_i / tau_q) ), with a temperature per query.

    1/tau_q = w0 exp(-W(max(-1/e, (l_q - mean l) / T2))), W Lambert's: the harder a query still is, the softer its
    softmax. The denominator holds negatives only; a row without any is left out. l_q is the mean over the query's rows
    of the same loss at temperature 1, a constant. The authors keep it from the last epoch, of users that they all know;
    queries are an open set, so here it is that of this batch [inferred].

    Args:
        cosines: (b, n).
        base: w0, from `adap_tau_base`.
        smoothing: T2; the larger, the more alike the temperatures.
        query_rows: (b,) int64, equal for equal queries.
        known_positives: (b, n) bool.
    """
    excluded = not_negatives(cosines, known_positives)
    contested = ~excluded.all(dim=1)
    negatives = cosines.masked_fill(excluded, -torch.inf)[contested]  # (c, n)
    positives = cosines.diagonal()[contested]  # (c,)
    plain = (negatives.logsumexp(dim=1) - positives).detach()
    inverse_taus = base * _sharpness(plain, query_rows[contested], smoothing)
    losses = (negatives * inverse_taus.unsqueeze(1)).logsumexp(dim=1) - positives * base
    return losses.sum() / contested.sum().clamp(min=1)


def _sharpness(losses: Tensor, query_rows: Tensor, smoothing: float) -> Tensor:
    """tau_0 / tau_q of each row (c,): 1 for a query whose loss is the queries' mean, less for a harder one."""
    _, place, counts = query_rows.unique(return_inverse=True, return_counts=True)
    by_query = losses.new_zeros(len(counts)).index_add(0, place, losses) / counts
    return torch.exp(-lambert_w((by_query - by_query.mean()) / smoothing))[place]


def lambert_w(x: Tensor) -> Tensor:
    """W with W e^W = x on its principal branch, by Halley's steps; an x below -1/e counts as -1/e, where W = -1."""
    wide = x.double().clamp(min=-1 / math.e)  # the branch point is too steep for float32
    w = torch.where(wide < 0, (2 * (math.e * wide + 1)).clamp(min=0).sqrt() - 1, wide.clamp(min=0).log1p())
    for _ in range(8):
        error = w * w.exp() - wide
        beyond = (w + 1).clamp(min=1e-6)  # how far from the branch point, where the slope is 0
        w = w - error / (w.exp() * beyond - (w + 2) * error / (2 * beyond))
    return w.to(x.dtype)


def adap_tau_base(queries: Tensor, documents: Tensor, *, query_rows: Tensor, document_rows: Tensor) -> float:
    """Adap-tau's w0 = log(U I / (2 |D|)) / (mean over D of cos(q, i) - mean over U of cos(q, mean item)).

    U counts the queries with more pairs than the 20 % quantile (every query, where all have the same number), D their
    pairs, I the documents. Before anything is learnt the authors put 0.7 for the cosine gap. Never below 1, which only
    data as dense as no catalogue's would ask for [inferred].

    Args:
        queries: (u, d) rows of norm 1, those of the training pairs.
        documents: (i, d) rows of norm 1, the catalogue.
        query_rows, document_rows: (p,) int64, the training pairs.
    """
    pairs_of = query_rows.bincount(minlength=len(queries))  # (u,)
    active = pairs_of > pairs_of.double().quantile(0.2)
    if not active.any():
        active = pairs_of > 0
    kept = active[query_rows]
    pairs = int(kept.sum())
    rows, columns = query_rows[kept].split(PAIRS_AT_ONCE), document_rows[kept].split(PAIRS_AT_ONCE)
    wanted = sum(float((queries[r] * documents[c]).sum()) for r, c in zip(rows, columns, strict=True)) / pairs
    gap = wanted - float((queries[active] @ documents.mean(dim=0)).mean())
    sparsity = int(active.sum()) * len(documents) / (2 * pairs)
    return max(1.0, math.log(sparsity) / (gap if gap > LEAST_GAP else UNTRAINED_GAP))


def difficulty_softmax(
    cosines: Tensor, *, scale: float, strength: float, known_positives: Tensor | None = None
) -> Tensor:
    """Eq. 2 with weighted negatives: -log( e^(s C_ii) / (e^(s C_ii) + sum_j w_ij e^(s C_ij)) ), the mean over i.

    w_ij is in proportion to exp(strength C_ij), with mean 1 over the row's negatives, and a constant to the gradient.
    PEG (arXiv 2311.11691) says that it weighs negatives by their difficulty, and gives no formula; this is the one of
    Robinson et al. (ICLR'21) [inferred]. As the model changes so do the weights, hence PEG's "progressively".

    Args:
        cosines: (b, n).
        scale: s.
        strength: 0 is `losses.scaled_softmax`.
        known_positives: (b, n) bool.
    """
    excluded = not_negatives(cosines, known_positives)
    with torch.no_grad():
        difficulty = strength * (cosines - cosines.amax(dim=1, keepdim=True))  # at most 0, so exp is safe
        negatives = (~excluded).sum(dim=1, keepdim=True)
        mean = difficulty.exp().masked_fill(excluded, 0.0).sum(dim=1, keepdim=True) / negatives
        log_weights = (difficulty - mean.log()).masked_fill(excluded, 0.0)
    return positives_loss(cosines * scale + log_weights, known_positives)


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
    """Taobao's MGDSPR: Eq. 2 with I_mix = a i+ + (1 - a) i_hard in the denominator too, a ~ U(mix_low, mix_high).

    i_hard are the query's `hardest` negatives; a is drawn for each, by torch's global generator. As in the paper I_mix
    is not normalised, so its score is the mixture of the two scores. Normalised, a mixture could outscore its own
    positive, and the loss would fall where the items come closer to each other [inferred: our vectors have norm 1].

    Args:
        queries: (b, d) rows of norm 1.
        documents: (n, d) rows of norm 1.
        scale: 1/temperature; a low one smooths noisy clicks.
        hardest: N, at most.
        mix_low, mix_high: 0.4 and 0.6 in the paper.
        known_positives: (b, n) bool.
    """
    cosines = queries @ documents.T
    hard = hardest_negatives(cosines, count=hardest, known_positives=known_positives)  # (b, N), -inf where fewer
    a = torch.empty_like(hard).uniform_(mix_low, mix_high)
    mixed = a * cosines.diagonal().unsqueeze(1) + (1 - a) * hard
    nothing_known = torch.zeros_like(mixed, dtype=torch.bool)
    known = torch.zeros_like(cosines, dtype=torch.bool) if known_positives is None else known_positives
    return positives_loss(torch.cat([cosines, mixed], dim=1) * scale, torch.cat([known, nothing_known], dim=1))
