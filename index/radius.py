"""The radius from judgements: the score below which results are worth less than the noise that they bring along.

What is judged here is the exact list of each rated query, as deep as pages go: a product beyond it is shown at no
radius. q: queries, k: listed products, r: thresholds
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from index.ann import AnnIndex
from index.errors import TuneError
from index.intervals import Interval, intervals, resampled_sums
from index.operating_points import MAX_DEPTH

ALL = "all"  # the table over all countries
THRESHOLDS = np.round(np.arange(0.0, 1.0, 0.02), 2)
FIRST_EFFORTS, LATER_EFFORTS = ("minimal", "low", "balanced"), ("high", "exact")
DIFFERS = 0.1  # of a country's own threshold from the one of all: worth a note
_NOT_JUDGED = -1


@dataclass(frozen=True, kw_only=True)
class RadiusRule:
    """What a radius may cost and has to bring.

    A first page may lose less than later ones: it is what people see, and noise gathers further down.
    """

    loss_first: float = 0.01  # share of the relevant judged products that efforts of first pages may lose
    loss_later: float = 0.02  # that `high` and `exact` may lose
    least_gain: float = 0.01  # of precision
    least_queries: int = 30  # judged ones; fewer decide nothing

    def __post_init__(self) -> None:
        if not 0 <= self.loss_first <= self.loss_later < 1:
            raise TuneError(
                "the radius may lose shares of 0 <= first <= later < 1 of the relevant products, "
                f"got first={self.loss_first}, later={self.loss_later}"
            )


class Judged(NamedTuple):
    """The ratings of one query: product numbers that answer it, and numbers that do not."""

    country: str | None
    relevant: Sequence[int]
    others: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class RadiusRow:
    """What a threshold leaves of the lists."""

    min_score: float | None
    precision: float | None  # relevant among the judged results; None: no judged result is left
    gain: float | None  # of precision, against no radius
    gain_interval: Interval
    lost: float  # share of the relevant products listed without a radius
    results: float  # mean over queries; no list is longer than MAX_DEPTH
    results_p10: float
    without_results: float  # share of the queries


@dataclass(frozen=True, kw_only=True)
class RadiusTable:
    """The ladder of thresholds over the queries of one country, or of all; the first row is without a radius."""

    country: str
    queries: int  # with a judged product in their lists
    rows: Sequence[RadiusRow]


@dataclass(frozen=True, kw_only=True)
class Radius:
    """The thresholds of first and later pages (None: off), and what they were chosen from."""

    first: float | None
    later: float | None
    rule: RadiusRule
    tables: Sequence[RadiusTable]
    notes: list[str]

    def min_scores(self) -> dict[str, float | None]:
        """By effort."""
        return {**dict.fromkeys(FIRST_EFFORTS, self.first), **dict.fromkeys(LATER_EFFORTS, self.later)}

    def record(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


class JudgedLists(NamedTuple):
    """Every query's exact list with its ratings."""

    scores: np.ndarray  # (q, k), -inf where the list has ended
    relevance: np.ndarray  # (q, k) 1 relevant, 0 not, -1 not judged

    def of(self, queries: np.ndarray) -> "JudgedLists":
        return JudgedLists(self.scores[queries], self.relevance[queries])


def choose_radius(
    exact: AnnIndex, queries: np.ndarray, judged: Sequence[Judged], *, rule: RadiusRule | None = None
) -> Radius:
    """Put the radius where the rule finds it best, or leave it off and say why.

    Args:
        exact: exact search over the vectors.
        queries: (q, dim) float32 vectors of the judged queries.
        judged: (q,) their ratings.
        rule: what a radius may cost and has to bring.
    """
    rule = rule or RadiusRule()
    if not judged:
        return Radius(first=None, later=None, rule=rule, tables=[], notes=["radius off: there are no judgements"])
    lists = _lists(exact, queries, judged)
    known = (lists.relevance != _NOT_JUDGED).any(axis=1)
    if not known.any():
        return Radius(first=None, later=None, rule=rule, tables=[], notes=["radius off: no list has a judged product"])
    lists = lists.of(known)
    countries = np.array([each.country or "unknown" for each in judged])[known]
    tables = [radius_table(ALL, lists)]
    tables += [radius_table(country, lists.of(countries == country)) for country in sorted(set(countries))]
    first, later = (best_row(tables[0], rule, loss=loss) for loss in (rule.loss_first, rule.loss_later))
    notes = [_note("first", tables[0], first, rule, rule.loss_first)]
    notes += [_note("later", tables[0], later, rule, rule.loss_later)]
    return Radius(
        first=None if first is None else first.min_score,
        later=None if later is None else later.min_score,
        rule=rule,
        tables=tables,
        notes=notes + _differing(tables, rule),
    )


def radius_table(country: str, lists: JudgedLists) -> RadiusTable:
    """The ladder over some queries, each of which has a judged product in its list."""
    cuts = np.array([-np.inf, *THRESHOLDS], dtype=np.float32)
    results = _left(lists.scores > -np.inf, lists.scores, cuts)  # (q, r), as are the next two
    relevant = _left(lists.relevance == 1, lists.scores, cuts)
    judged = _left(lists.relevance != _NOT_JUDGED, lists.scores, cuts)
    precision = _share(relevant.sum(axis=0), judged.sum(axis=0))  # (r,)
    resampled = _share(resampled_sums(relevant), resampled_sums(judged))  # (rounds, r)
    gains = intervals(np.nan_to_num(resampled - resampled[:, :1]))
    listed = max(1, relevant[:, 0].sum())
    rows = [
        RadiusRow(
            min_score=None if at == 0 else float(THRESHOLDS[at - 1]),
            precision=None if np.isnan(precision[at]) else round(float(precision[at]), 6),
            gain=None if np.isnan(precision[at]) else round(float(precision[at] - precision[0]), 6),
            gain_interval=gains[at],
            lost=round(float(1 - relevant[:, at].sum() / listed), 6) if relevant.any() else 0.0,
            results=round(float(results[:, at].mean()), 2),
            results_p10=round(float(np.quantile(results[:, at], 0.1)), 2),
            without_results=round(float((results[:, at] == 0).mean()), 6),
        )
        for at in range(len(cuts))
    ]
    return RadiusTable(country=country, queries=len(lists.scores), rows=rows)


def best_row(table: RadiusTable, rule: RadiusRule, *, loss: float) -> RadiusRow | None:
    """The highest threshold that loses at most `loss` and raises precision as the rule asks; None where none does."""
    if table.queries < rule.least_queries:
        return None
    fitting = [row for row in table.rows[1:] if row.lost <= loss and _gains(row, rule)]
    return fitting[-1] if fitting else None


def _gains(row: RadiusRow, rule: RadiusRule) -> bool:
    return row.gain is not None and row.gain >= rule.least_gain and row.gain_interval.low > 0


def _lists(exact: AnnIndex, queries: np.ndarray, judged: Sequence[Judged]) -> JudgedLists:
    hits = exact.search(np.ascontiguousarray(queries, dtype=np.float32), nprobe=None, candidates=MAX_DEPTH)
    relevance = np.full(hits.numbers.shape, _NOT_JUDGED, dtype=np.int8)
    for row, numbers, ratings in zip(relevance, hits.numbers, judged, strict=True):
        row[np.isin(numbers, ratings.others)] = 0
        row[np.isin(numbers, ratings.relevant)] = 1
    return JudgedLists(hits.scores, relevance)


def _left(counted: np.ndarray, scores: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """(q, r): how many of the (q, k) counted products each threshold leaves."""
    return np.stack([(counted & (scores >= cut)).sum(axis=1) for cut in cuts], axis=1)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """NaN where there is nothing."""
    shares: np.ndarray = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return shares


def _note(pages: str, table: RadiusTable, chosen: RadiusRow | None, rule: RadiusRule, loss: float) -> str:
    """What the radius of first or later pages does; or why it is off."""
    if chosen is not None:
        return (
            f"radius of {pages} pages {chosen.min_score:g}: precision among judged results "
            f"{table.rows[0].precision:.3f} -> {chosen.precision:.3f}, {chosen.lost:.1%} of the relevant ones lost, "
            f"{chosen.results:,.0f} instead of {table.rows[0].results:,.0f} results a query"
        )
    off = f"radius of {pages} pages off"
    if table.queries < rule.least_queries:
        return f"{off}: {table.queries} judged queries, {rule.least_queries} are needed"
    tried = max(
        (row for row in table.rows[1:] if row.lost <= loss), key=lambda row: row.gain or 0.0, default=table.rows[1]
    )
    if tried.lost > loss:
        return (
            f"{off}: even {tried.min_score:g} loses {tried.lost:.1%} of the relevant products, {loss:.1%} are allowed"
        )
    return (
        f"{off}: losing {loss:.1%} of the relevant products at most raises precision by {tried.gain or 0:.3f} "
        f"({tried.gain_interval.low:.3f} to {tried.gain_interval.high:.3f}); {rule.least_gain:g} is needed, above zero "
        "with all of its interval"
    )


def _differing(tables: Sequence[RadiusTable], rule: RadiusRule) -> list[str]:
    """Countries whose own threshold of later pages lies far from the one of all."""
    bests = {table.country: best_row(table, rule, loss=rule.loss_later) for table in tables}
    own = {country: row.min_score for country, row in bests.items() if row is not None and row.min_score is not None}
    common = own.pop(ALL, None)
    return [
        f"radius of {country} alone would be {least:g} on later pages instead of {common:g}"
        for country, least in own.items()
        if common is not None and abs(least - common) >= DIFFERS
    ]
