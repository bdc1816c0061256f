"""Hybrid search: the lists of vectors and of words become one, by weighted reciprocal rank fusion.

Ranks are fused and not scores: a cosine and a BM25 score have no common scale, and either changes with the release.
The weights are chosen on judgements; without enough of them they stay even.

v, w: listed products, q: judged queries, m: settings, either list alone and then the sweep
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, log2
from typing import Any, NamedTuple, Self

import numpy as np

from index.ann import Ranked
from index.errors import TuneError
from index.intervals import Interval, mean_intervals

K = 10  # results that settings are judged by
LEAST_QUERIES = 30  # judged ones; fewer decide nothing
VECTOR_WEIGHTS = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9)  # the more even first: the first of equals is chosen
CONSTANTS = (60, 30, 100, 10)

# Both sorts are of plain int64, more than twice as fast as indirect ones for lists of a thousand: a product number has
# 32 bits, and what stands before or behind it has 31.
_NUMBER_BITS, _OTHER_BITS = 32, 31
_NUMBER, _OTHER = (1 << _NUMBER_BITS) - 1, (1 << _OTHER_BITS) - 1


@dataclass(frozen=True, kw_only=True)
class RankFusion:
    """The weights of both lists, and the constant that says how much more a first place counts than a tenth.

    A product scores the sum of weight / (constant + rank) over the lists that hold it, ranks from 1; 60 is the constant
    of Cormack, Clarke and Buettcher (2009). A list of weight 0 is left out.
    """

    vector: float = 0.5
    lexical: float = 0.5
    constant: int = 60

    def __post_init__(self) -> None:
        weights = (self.vector, self.lexical)
        if not all(isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
            raise TuneError(
                "hybrid weights must be 0 or more, and one of them above 0; "
                f"got vector={self.vector}, lexical={self.lexical}"
            )
        if self.constant < 0:
            raise TuneError(f"the hybrid constant must be 0 or more, got {self.constant}; 60 is usual")

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """From a `record`."""
        return cls(**record)

    def record(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)

    def fuse(self, vector: np.ndarray, lexical: np.ndarray) -> Ranked:
        """One list of all products that either holds.

        Args:
            vector: (v,) integer product numbers, distinct, best first.
            lexical: (w,) the same, found by words.

        Returns:
            At most v + w products; their scores are the fused ones.
        """
        legs = [leg for leg in ((vector, self.vector), (lexical, self.lexical)) if leg[1]]
        shares = np.concatenate([weight / self._ranks(len(numbers)) for numbers, weight in legs])
        listed = np.concatenate([numbers for numbers, _ in legs], dtype=np.int64)
        listed = listed << _OTHER_BITS | np.arange(len(shares))
        listed.sort()  # by number, so that the two places of a product in both lists meet
        numbers, shares = listed >> _OTHER_BITS, shares[listed & _OTHER]
        first = np.ones(len(numbers), dtype=bool)
        np.not_equal(numbers[1:], numbers[:-1], out=first[1:])
        again = np.flatnonzero(~first)
        shares[again - 1] += shares[again]
        return _sorted(numbers[first], shares[first].astype(np.float32))

    def _ranks(self, count: int) -> np.ndarray:
        """(count,) the ranks of a list with the constant added."""
        return np.arange(self.constant + 1, self.constant + 1 + count)


def joined(listed: Ranked, others: Ranked) -> Ranked:
    """A list, and what it lacks of another whose scores are of the same kind.

    The vectors' list is joined by the exact scores of what words have found: probing a few lists misses some of that,
    and a product ranked by words alone falls behind those of both lists, however near it is. On Chorus nDCG@10 at
    nprobe 4 of 256 rises from 0.718 to 0.769, which is what exact search has.
    """
    numbers, first = np.unique(np.concatenate([listed.numbers, others.numbers]), return_index=True)
    scores = np.concatenate([listed.scores, others.scores])[first]
    order = np.lexsort((numbers, -scores))
    return Ranked(numbers[order], scores[order])


def _sorted(numbers: np.ndarray, scores: np.ndarray) -> Ranked:
    """By (-score, number). The bits of floats above 0, read as an integer, are in the order of the floats."""
    order = (_OTHER - scores.view(np.int32).astype(np.int64)) << _NUMBER_BITS | numbers
    order.sort()
    return Ranked(order & _NUMBER, (_OTHER - (order >> _NUMBER_BITS)).astype(np.int32).view(np.float32))


class RatedLists(NamedTuple):
    """What vectors and words list for one query, and its ratings."""

    vector: np.ndarray  # (v,) product numbers, best first, as many as a first page is made of
    lexical: np.ndarray  # (w,)
    ratings: Mapping[int, int]  # product number -> 0 to 3


@dataclass(frozen=True, kw_only=True)
class FusionRow:
    """What a setting finds; products that nobody has rated count as wrong."""

    fusion: RankFusion
    ndcg_at_10: float | None  # mean over the queries with a rating above 0; a rating r gains 2^r - 1
    recall_at_10: float | None  # mean over the queries with a relevant product; None: there are none


class Gain(NamedTuple):
    """How much more nDCG@10 one setting has than another, over the same queries."""

    mean: float
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class FusionTuning:
    """The chosen setting, and what it was chosen from."""

    fusion: RankFusion
    queries: int  # with a rating above 0
    alone: Sequence[FusionRow]  # vectors, then words
    rows: Sequence[FusionRow]  # the sweep; the first is the default
    gain: Gain | None  # over the better list alone
    held_out_ndcg_at_10: float | None  # each query by the best setting of all others: what choosing promises
    held_out_recall_at_10: float | None
    notes: list[str]

    def record(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


_ALONE = (RankFusion(vector=1.0, lexical=0.0), RankFusion(vector=0.0, lexical=1.0))
_SWEEP = tuple(
    RankFusion(vector=weight, lexical=round(1 - weight, 2), constant=constant)
    for weight in VECTOR_WEIGHTS
    for constant in CONSTANTS
)
_DEFAULT = len(_ALONE)  # place of the sweep's first among both


def tune_fusion(judged: Sequence[RatedLists], *, relevant: int) -> FusionTuning:
    """Choose the weights and the constant of the best mean nDCG@10; among equals the more even weights.

    The default stays unless the gain over it is above zero with all of its interval: the best of many settings is
    always a little better by chance.

    Args:
        judged: the lists of each judged query, as deep as they are when serving.
        relevant: the lowest rating of a product that answers.
    """
    rated = [each for each in judged if any(each.ratings.values())]
    if len(rated) < LEAST_QUERIES:
        return _untuned(len(rated))
    fusions = [*_ALONE, *_SWEEP]
    ndcg, recall = _measured(rated, fusions, relevant=relevant)  # (q, m)
    rows = [
        FusionRow(fusion=fusion, ndcg_at_10=_mean(ndcg[:, at]), recall_at_10=_mean(recall[:, at]))
        for at, fusion in enumerate(fusions)
    ]
    leg, best = int(ndcg[:, :_DEFAULT].mean(axis=0).argmax()), int(_best(ndcg.mean(axis=0)))
    improvement = _gain(ndcg, best, over=_DEFAULT)
    chosen = best if improvement.interval.low > 0 else _DEFAULT
    gain = _gain(ndcg, chosen, over=leg)
    others_choice = _best(ndcg.sum(axis=0) - ndcg)  # (q,)
    return FusionTuning(
        fusion=fusions[chosen],
        queries=len(rated),
        alone=rows[:_DEFAULT],
        rows=rows[_DEFAULT:],
        gain=gain,
        held_out_ndcg_at_10=_mean(ndcg[np.arange(len(rated)), others_choice]),
        held_out_recall_at_10=_mean(recall[np.arange(len(rated)), others_choice]),
        notes=[_chosen_note(rows[best], improvement), _leg_note(rows[chosen], rows[leg], gain)],
    )


def _untuned(queries: int) -> FusionTuning:
    return FusionTuning(
        fusion=RankFusion(),
        queries=queries,
        alone=[],
        rows=[],
        gain=None,
        held_out_ndcg_at_10=None,
        held_out_recall_at_10=None,
        notes=[f"hybrid weights even: {queries} judged queries, {LEAST_QUERIES} are needed"],
    )


def _measured(
    rated: Sequence[RatedLists], fusions: Sequence[RankFusion], *, relevant: int
) -> tuple[np.ndarray, np.ndarray]:
    """nDCG@10 and recall@10 (q, m) of every query and setting; recall is NaN where nothing is relevant."""
    ndcg, recall = np.zeros((2, len(rated), len(fusions)))
    for at, (vector, lexical, ratings) in enumerate(rated):
        wanted = {number for number, rating in ratings.items() if rating >= relevant}
        ideal = _dcg(sorted(ratings.values(), reverse=True)[:K])
        for setting, fusion in enumerate(fusions):
            first = fusion.fuse(vector, lexical).numbers[:K].tolist()
            ndcg[at, setting] = _dcg([ratings.get(number, 0) for number in first]) / ideal
            recall[at, setting] = len(wanted.intersection(first)) / min(K, len(wanted)) if wanted else np.nan
    return ndcg, recall


def _dcg(ratings: Sequence[int]) -> float:
    return sum((2.0**rating - 1) / log2(rank + 1) for rank, rating in enumerate(ratings, start=1))


def _best(ndcg: np.ndarray) -> np.ndarray:
    """Places of the sweep's best settings along the last axis; the first of equals."""
    best: np.ndarray = _DEFAULT + ndcg[..., _DEFAULT:].round(9).argmax(axis=-1)
    return best


def _mean(values: np.ndarray) -> float | None:
    """Of what is a number; None where nothing is."""
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 6) if len(known) else None


def _gain(ndcg: np.ndarray, setting: int, *, over: int) -> Gain:
    gains = ndcg[:, setting] - ndcg[:, over]
    return Gain(round(float(gains.mean()), 6), mean_intervals(gains[:, None])[0])


def _chosen_note(best: FusionRow, improvement: Gain) -> str:
    """The weights, and why they are not others."""
    if best.fusion == RankFusion():
        return "hybrid weights even: no setting of the sweep finds more"
    tried = f"vector {best.fusion.vector:g}, lexical {best.fusion.lexical:g}, constant {best.fusion.constant}"
    if improvement.interval.low > 0:
        return f"hybrid weights {tried}: nDCG@10 rises by {_shown(improvement)} over even ones"
    return (
        f"hybrid weights even: the best of the sweep ({tried}) raises nDCG@10 by {_shown(improvement)}; "
        "above zero with all of its interval is needed"
    )


def _leg_note(chosen: FusionRow, leg: FusionRow, gain: Gain) -> str:
    name = "vectors" if leg.fusion.vector else "words"
    if gain.interval.high < 0:
        sure = f": {name} alone find more here"
    else:
        sure = "" if gain.interval.low > 0 else "; another sample of queries might not show it"
    return f"hybrid nDCG@10 {chosen.ndcg_at_10:.3f}, {_shown(gain)} over {name} alone{sure}"


def _shown(gain: Gain) -> str:
    return f"{gain.mean:+.3f} ({gain.interval.low:+.3f} to {gain.interval.high:+.3f})"
