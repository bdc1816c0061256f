"""Pages of a pipeline, one by one or all of a walk, without HTTP around them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from index.catalogue import Catalogue
from index.generations import open_current
from index.paging import MAX_DEPTH
from models.runtime import open_release
from service.clock import Clock
from service.effort import Budget
from service.pipeline import Answer, Pipeline
from service.schemas import SearchRequest

AT_EASE = Budget(deadline_ns=math.inf, overloaded=False)
OVERLOADED = Budget(deadline_ns=math.inf, overloaded=True)


@contextmanager
def opened(release_path: Path, catalogue_path: Path) -> Iterator[Pipeline]:
    """The pipeline that a service of these has."""
    pipeline = Pipeline(
        release=open_release(release_path),
        generation=open_current(catalogue_path),
        catalogue=Catalogue.open(catalogue_path),
        max_effort="exact",
        timeout_ms=60_000,
    )
    try:
        yield pipeline
    finally:
        pipeline.close()


class Shown(NamedTuple):
    """One page."""

    products: list[int]  # the number in each id: 7 of "7" and of "p7"
    scores: list[float]
    answer: Answer


def page_of(pipeline: Pipeline, request: SearchRequest, *, budget: Budget = AT_EASE) -> Shown:
    answer = pipeline.search(request, clock=Clock(), budget=budget)
    hits: list[dict[str, Any]] = [msgspec.json.decode(hit) for hit in answer.hits]
    return Shown([int(hit["id"].removeprefix("p")) for hit in hits], [hit["score"] for hit in hits], answer)


def follow(pipeline: Pipeline, request: SearchRequest, loads: Iterator[Budget] | None = None) -> list[Shown]:
    """All pages, from the first cursor to the last."""
    pages = [page_of(pipeline, request, budget=next(loads) if loads else AT_EASE)]
    while (cursor := pages[-1].answer.cursor) is not None:
        going_on = msgspec.structs.replace(request, page=None, cursor=cursor)
        pages.append(page_of(pipeline, going_on, budget=next(loads) if loads else AT_EASE))
        assert len(pages) <= MAX_DEPTH + 2, "the walk does not end"
    return pages
