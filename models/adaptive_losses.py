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
    """JD: the closer a negative item v_i to the positive item v, the smaller its margin [formulas inferred].

        L_q = sum_i [delta_i + s(q, v_i) - s(q, v)]_+      delta_i = alpha (1 - s(v, v_i)) + delta_0
        L_v = sum_i [delta'_i + s(v, v_i) - s(v, q)]_+     delta'_i = alpha (1 - s(q, v_i)) + delta_0

    L_q + w L_v: sums over a row's negatives, means over the rows. L_v has the positive item as anchor and pushes the
    negatives off it.

    Args:
        cosines: (b, n).
        item_cosines: (b, n).
        alpha, delta_0: above 0. Learnt ones only shrink, for nothing here rewards a margin.
        stop_gradient: margins are constants to the vectors; without it positive and negative items gather.
        symmetric_weight: w.
        known_positives: (b, n) bool.
    """
    excluded = not_negatives(cosines, known_positives)
    positives = cosines.diagonal().unsqueeze(1)  # (b, 1)

    def hinge(negatives: Tensor, closeness: Tensor) -> Tensor:
        margins = alpha * _distances(closeness, stop_gradient) + delta_0  # (b, n)
        return F.relu(margins + negatives - positives).masked_fill(excluded, 0.0).sum(dim=1).mean()

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
    """JD: a softmax with a temperature per negative, lower the closer it is to the positive item [all forms inferred].

    `tau_form`   mul: tau_i = tau_0 (1 + alpha (1 - s(v, v_i)));
                 add: tau_i = alpha (1 - s(v, v_i)) + tau_0, the margin's form, which lets easy negatives dominate.
    `tau_place`  pair: log(1 + sum_i exp((s_i - s+) / tau_i)), Eq. 2 where tau is constant;
                 neg: -log( e^(s+/tau_0) / (e^(s+/tau_0) + sum_i e^(s_i/tau_i)) ).

    The mean over rows, and `symmetric_weight` of the same with the positive item as anchor. For the other arguments see
    `adaptive_margin`.
    """
    excluded = not_negatives(cosines, known_positives)
    positives = cosines.diagonal().unsqueeze(1)  # (b, 1)

    def softmax(negatives: Tensor, closeness: Tensor) -> Tensor:
        widening = alpha * _distances(closeness, stop_gradient)
        taus = tau_0 * (1 + widening) if tau_form == "mul" else widening + tau_0  # (b, n)
        terms = (negatives - positives) / taus if tau_place == "pair" else negatives / taus - positives / tau_0
        with_positive = F.pad(terms.masked_fill(excluded, -torch.inf), (1, 0))  # its own e^0, wherever its tau
        return with_positive.logsumexp(dim=1).mean()

    return softmax(cosines, item_cosines) + symmetric_weight * softmax(item_cosines, cosines)


def _distances(closeness: Tensor, stop_gradient: bool) -> Tensor:
    return 1 - (closeness.detach() if stop_gradient else closeness)


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
    _, place, counts = torch.unique(query_rows, return_inverse=True, return_counts=True)
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
    parts = torch.stack([query_rows[kept], document_rows[kept]]).tensor_split(-(-pairs // PAIRS_AT_ONCE), dim=1)
    wanted = sum(float((queries[rows] * documents[columns]).sum()) for rows, columns in parts) / pairs
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
        mix_low, mix_high: below 1; 0.4 and 0.6 in the paper.
        known_positives: (b, n) bool.
    """
    cosines = queries @ documents.T
    hard = hardest_negatives(cosines, count=hardest, known_positives=known_positives)  # (b, N), -inf where fewer
    a = torch.empty_like(hard).uniform_(mix_low, mix_high)
    mixed = a * cosines.diagonal().unsqueeze(1) + (1 - a) * hard
    known = None if known_positives is None else F.pad(known_positives, (0, mixed.size(1)))
    return positives_loss(torch.cat([cosines, mixed], dim=1) * scale, known)
