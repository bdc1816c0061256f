"""Recall by stratum: whether an effort finds as much for every kind of query as it does for all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile

import numpy as np

from index.errors import TuneError
from index.intervals import Interval, mean_intervals
from index.sweep import RECALLS_AT, Measured

LEAST_QUERIES = 20  # fewer say nothing about their stratum
_AT_10 = RECALLS_AT.index(10)

Strata = Mapping[str, Sequence[str]]  # such as language -> the label of each golden query


@dataclass(frozen=True, kw_only=True)
class StratumRecall:
    """What one effort finds for the golden queries of one stratum."""

    stratum: str
    label: str
    queries: int
    effort: str
    ann_recall_at_10: float
    ann_recall_at_10_interval: Interval


def by_stratum(chosen: Mapping[str, Measured], strata: Strata, *, queries: int) -> list[StratumRecall]:
    """Every effort's ann_recall@10 for every label of every stratum.

    Raises:
        TuneError: a stratum has more or fewer labels than there are queries.
    """
    found = []
    recalls = np.stack([cell.recalls[:, _AT_10] for cell in chosen.values() if cell.recalls is not None], axis=1)
    for stratum, labels in strata.items():
        if len(labels) != queries:
            raise TuneError(f"stratum {stratum!r} labels {len(labels)} queries, but there are {queries}")
        for label in sorted(set(labels), key=_in_order):
            shares = recalls[np.array(labels) == label]  # (queries of the stratum, efforts)
            found += [
                StratumRecall(
                    stratum=stratum,
                    label=label,
                    queries=len(shares),
                    effort=effort,
                    ann_recall_at_10=round(float(mean), 6),
                    ann_recall_at_10_interval=interval,
                )
                for effort, mean, interval in zip(chosen, shares.mean(axis=0), mean_intervals(shares), strict=True)
            ]
    return found


def notes_on(recalls: Sequence[StratumRecall], promised: Mapping[str, float]) -> list[str]:
    """The strata whose whole interval lies below what an effort promises; those of few queries are passed over."""
    behind = [
        found
        for found in recalls
        if found.queries >= LEAST_QUERIES and found.ann_recall_at_10_interval.high < promised[found.effort]
    ]
    return [
        f"{stratum} {label} ({queries} queries) is left behind, ann_recall@10: "
        + ", ".join(_against(found, promised[found.effort]) for found in same)
        for (stratum, label, queries), same in groupby(behind, key=lambda row: (row.stratum, row.label, row.queries))
    ]


def _against(found: StratumRecall, promised: float) -> str:
    low, high = found.ann_recall_at_10_interval
    return f"{found.effort} {found.ann_recall_at_10:.3f} ({low:.3f}-{high:.3f}) instead of {promised:.3g}"


def _in_order(label: str) -> tuple[int, str]:
    """Bands by their first number, words by the alphabet."""
    digits = "".join(takewhile(str.isdigit, label))
    return int(digits or 0), label
