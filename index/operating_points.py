"""The named efforts: how much one search spends, what that was measured to find and to cost."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from index.errors import IndexFileError
from index.files import read_sealed_json, write_sealed_json
from index.hybrid import FusionTuning, RankFusion
from index.intervals import Interval

EFFORTS = ("minimal", "low", "balanced", "high", "exact")  # cheapest first
MAX_SIZE = 100  # hits on a page: no effort may list fewer candidates
MAX_DEPTH = 1_000  # hits over all pages: what `high` and `exact` list
FORMAT = 3

# Untuned: the share of the lists to probe. Rules of thumb, until `tune` has measured.
_DEFAULT_SHARES = {"minimal": 1 / 256, "low": 1 / 64, "balanced": 1 / 32, "high": 1 / 8}
_DEFAULT_CANDIDATES = {"minimal": MAX_SIZE, "low": 200, "balanced": 400, "high": MAX_DEPTH, "exact": MAX_DEPTH}


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """One effort's settings; the measured members are None until `tune` has run."""

    effort: str
    nprobe: int | None  # None: the index has no lists, or all vectors are compared (`exact`)
    candidates: int
    min_score: float | None = None
    ann_recall_at_10: float | None = None
    ann_recall_at_100: float | None = None
    ann_recall_at_10_interval: Interval | None = None  # over the golden queries
    ann_recall_at_100_interval: Interval | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    codes_scanned: float | None = None  # mean over the golden queries


@dataclass(frozen=True)
class OperatingPoints:
    """An operating point for every effort, and how they were found.

    Args:
        points: by effort, every name of `EFFORTS`.
        fusion: of vectors and words in hybrid search.
        tuning: grid, Pareto set, notes and conditions of the measurement; None when untuned.
    """

    points: Mapping[str, OperatingPoint]
    fusion: RankFusion = field(default=RankFusion())
    tuning: Mapping[str, Any] | None = field(default=None)

    def __getitem__(self, effort: str) -> OperatingPoint:
        return self.points[effort]

    def fused_by(self, tuned: FusionTuning) -> "OperatingPoints":
        """The same points with the chosen fusion."""
        return OperatingPoints(self.points, tuned.fusion, {**(self.tuning or {}), "fusion": tuned.record()})

    @classmethod
    def default(cls, *, nlist: int | None) -> "OperatingPoints":
        """Untuned points for an index of `nlist` lists (None: flat)."""
        nprobes = {effort: _default_nprobe(effort, nlist) for effort in EFFORTS}
        return cls(
            {
                effort: OperatingPoint(effort=effort, nprobe=nprobe, candidates=_DEFAULT_CANDIDATES[effort])
                for effort, nprobe in nprobes.items()
            }
        )

    def save(self, path: Path) -> None:
        """Replace the file at `path` atomically."""
        points = [asdict(self.points[effort]) for effort in EFFORTS]
        fusion = self.fusion.record()
        write_sealed_json(path, {"format": FORMAT, "points": points, "fusion": fusion, "tuning": self.tuning})

    @classmethod
    def load(cls, path: Path) -> "OperatingPoints":
        """Read what `save` wrote.

        Raises:
            IndexFileError: missing, altered or of another format.
        """
        remedy = "run `que2search build` and `que2search tune` again"
        content = read_sealed_json(path, remedy=remedy)
        if content.get("format") != FORMAT:
            raise IndexFileError(f"{path} has format {content.get('format')}, this version reads {FORMAT}; {remedy}")
        try:
            points = [_read_point(point) for point in content["points"]]
            by_effort = {point.effort: point for point in points}
            return cls(by_effort, fusion=RankFusion.of(content["fusion"]), tuning=content["tuning"])
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise IndexFileError(f"{path} holds no operating points: {exc}; {remedy}") from exc


def _read_point(members: Mapping[str, Any]) -> OperatingPoint:
    """JSON knows lists alone, so the intervals have to be made again."""
    found = {name: members[name] for name in ("ann_recall_at_10_interval", "ann_recall_at_100_interval")}
    intervals = {name: None if ends is None else Interval(*ends) for name, ends in found.items()}
    return OperatingPoint(**{**members, **intervals})


def _default_nprobe(effort: str, nlist: int | None) -> int | None:
    if nlist is None or effort == "exact":
        return None
    floor = EFFORTS.index(effort) + 1  # keeps the efforts apart where a share is less than one list
    return min(nlist, max(floor, round(nlist * _DEFAULT_SHARES[effort])))
