"""Small parts at the pipeline's seams: lists that a test gives, instead of towers, an index and a store."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from index.ann import Hits, RowFilter
from index.conditions import Condition
from index.filtered import FilterUse, Narrowed
from index.generations import Generation, GenerationManifest
from index.lexical import LexicalHits
from index.log import Backlog, LogEnd
from index.operating_points import EFFORTS, OperatingPoint, OperatingPoints
from models.features import QueryFeatures
from models.runtime import GoldenQuery
from service.pipeline import Pipeline

Lists = Mapping[str, Sequence[int]]  # effort -> product numbers; product n scores 1 - n / 10,000


class ListedAnn:
    """An `AnnIndex`: nprobe n stands for the n-th effort, and finds what the test listed for it."""

    dim = 4
    nlist = len(EFFORTS)

    def __init__(self, lists: Lists, *, count: int) -> None:
        self.count = count
        self._lists = lists

    def search(self, _queries: np.ndarray, *, nprobe: int | None, candidates: int) -> Hits:
        numbers = sorted(self._lists[EFFORTS[(nprobe or len(EFFORTS)) - 1]])[:candidates]
        row = np.array([*numbers, *[-1] * (candidates - len(numbers))], dtype=np.int64)
        scores = np.where(row < 0, -np.inf, 1 - row / 10_000).astype(np.float32)
        return Hits(row[None], scores[None])

    def rescore(self, _query: np.ndarray, rows: np.ndarray) -> Hits:
        return Hits(rows[None], (1 - rows / 10_000).astype(np.float32)[None])

    def rows_of(self, numbers: np.ndarray) -> np.ndarray:
        return numbers


class Wordless:
    """A `LexicalIndex` that finds nothing, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def search(self, query: str, *, k: int, only: RowFilter | None = None) -> LexicalHits:  # noqa: ARG002
        self.asked.append(query)
        return LexicalHits(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


class Permissive:
    """`Filters` and their `FilteredSearch`: whatever the condition, which it keeps, all rows are allowed."""

    def __init__(self, ann: ListedAnn) -> None:
        self.asked: list[Condition] = []
        self._ann = ann

    def rows(self, condition: Condition) -> RowFilter:
        self.asked.append(condition)
        return RowFilter.of(np.ones(self._ann.count, dtype=bool))

    def search(self, queries: np.ndarray, point: OperatingPoint, only: RowFilter) -> Narrowed:
        hits = self._ann.search(queries, nprobe=point.nprobe, candidates=point.candidates)
        return Narrowed(hits, FilterUse("post", only.allowed, point.nprobe))


class NumberedCatalogue:
    """A `Catalogue` of which only the product numbers matter."""

    writable = False
    sequence = last_transaction = 1
    backlog = Backlog(count=0, oldest=None, age_s=0.0)
    failed_count = 0

    def log_end(self) -> LogEnd:
        return LogEnd(self.sequence, self.last_transaction)

    def cursor_key(self) -> bytes:
        return b"k" * 32

    def fragments_if_any(self, numbers: Iterable[int]) -> list[bytes]:
        return [b'"id":"%d"' % number for number in numbers]

    def close(self) -> None:
        pass


class LengthRelease:
    """A `Release`: the embedding is the text's length. `id` is what cursors are bound to."""

    def __init__(self, *, release: str = "small") -> None:
        self.id = release
        self.featurizer = SimpleNamespace(query=self._features, queries=self._batch, spec=SimpleNamespace(image_dim=2))
        self.query_tower = SimpleNamespace(embed=self._embed)

    def golden_queries(self) -> list[GoldenQuery]:
        return [GoldenQuery(query="red dress")]

    def _features(self, text: str, _country: str | None) -> QueryFeatures:
        ids = np.ones((1, len(text)), dtype=np.int64)
        return QueryFeatures(ids, ids, ids[0, :1], truncated=(len(text) > 20,))

    def _batch(self, texts: Sequence[str], countries: Sequence[str | None]) -> QueryFeatures:
        """A text's length is its number of ones."""
        alone = [self._features(*query) for query in zip(texts, countries, strict=True)]
        ids = np.zeros((len(texts), max(map(len, texts))), dtype=np.int64)
        for row, features in zip(ids, alone, strict=True):
            row[: features.token_ids.size] = 1
        return QueryFeatures(ids, ids, ids[:, 0], truncated=tuple(each.truncated[0] for each in alone))

    def _embed(self, features: QueryFeatures) -> np.ndarray:
        lengths = features.token_ids.sum(axis=1, keepdims=True)
        return np.repeat(lengths, ListedAnn.dim, axis=1).astype(np.float32)


def listed_pipeline(
    lists: Lists,
    *,
    count: int | None = None,
    p99_us: Mapping[str, float] | None = None,
    release: str = "small",
    max_effort: str = "exact",
    timeout_ms: float = 60_000.0,
    parts: Mapping[str, Any] | None = None,
) -> Pipeline:
    """A pipeline over lists. `exact` has no nprobe, as in a real generation."""
    ann: Any = ListedAnn(lists, count=count or 1 + max(max(numbers, default=0) for numbers in lists.values()))
    points = {
        effort: OperatingPoint(
            effort=effort,
            nprobe=None if effort == "exact" else place,
            candidates=1_000,
            p99_us=(p99_us or {}).get(effort),
        )
        for place, effort in enumerate(EFFORTS, start=1)
    }
    manifest = GenerationManifest(
        generation=7,
        release=release,
        sequence=1,
        factory="listed",
        dim=ann.dim,
        count=ann.count,
        nlist=ann.nlist,
        created="2025-01-01T00:00:00+00:00",
        faiss_version="none",
        files={},
    )
    wordless: Any = Wordless()
    permissive: Any = Permissive(ann)
    sellerless: Any = SimpleNamespace(columns={"seller": SimpleNamespace(ranks=np.zeros(ann.count), keys=[])})
    generation = Generation(
        path=Path("generations/7"),
        manifest=manifest,
        ann=ann,
        exact=ann,
        numbers=np.arange(ann.count),
        operating_points=OperatingPoints(points),
        columns=sellerless,
        lexical=wordless,
        filters=permissive,
        filtered=permissive,
    )
    given: dict[str, Any] = {
        "release": LengthRelease(release=release),
        "generation": generation,
        "catalogue": NumberedCatalogue(),
        **(parts or {}),
    }
    return Pipeline(**given, max_effort=max_effort, timeout_ms=timeout_ms)
