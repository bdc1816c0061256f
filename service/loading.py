"""Opens what a worker serves from, and warms it up with real queries."""

import asyncio
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

from index.catalogue import Catalogue
from index.conditions import Compare
from index.errors import CatalogueError, SearchIndexError
from index.generations import generation_path, open_current, open_generation
from models.errors import ModelsError
from models.runtime import GoldenQuery, Release, open_release
from service.clock import Clock
from service.effort import Budget
from service.errors import NotReadyError
from service.pipeline import Pipeline
from service.query_vectors import QueryVectors
from service.releases import release_for
from service.rendering import render
from service.schemas import HYBRID, LEXICAL, MAX_QUERY, SearchRequest, from_query_string
from service.settings import Settings

Load = Callable[[Settings], Pipeline]
UNHURRIED = Budget(deadline_ns=math.inf, overloaded=False)  # the first searches are the slowest


def load_pipeline(settings: Settings) -> Pipeline:
    """Open and verify the catalogue, its current generation and the release it was built for.

    That is the release of the settings, or, after another one was activated, one that lies beside it.

    Raises:
        NotReadyError: one is not configured, missing, altered, or they do not belong together.
    """
    if settings.release is None or settings.catalogue is None:
        missing = "Q2S_RELEASE" if settings.release is None else "Q2S_CATALOGUE"
        raise NotReadyError(f"{missing} is not set: there is nothing to serve")
    try:
        generation = open_current(settings.catalogue)
        release = _release(settings, settings.release, generation.manifest.release)
        if generation.manifest.release != release.id:
            raise NotReadyError(
                f"generation {generation.number} of {settings.catalogue} was built for release "
                f"{generation.manifest.release!r}, not {release.id!r}, and no release of that id lies beside it; "
                "run `que2search build` with this one"
            )
        pipeline = Pipeline(
            release=release,
            generation=generation,
            catalogue=_open_catalogue(settings.catalogue, writes=settings.writes),
            max_effort=settings.max_effort,
            timeout_ms=settings.timeout_ms,
            query_vectors=_query_vectors(settings),
        )
        pipeline.live.catch_up()
    except (ModelsError, SearchIndexError) as exc:
        raise NotReadyError(str(exc)) from exc
    return pipeline


def next_pipeline(settings: Settings, present: Pipeline, number: int) -> Pipeline:
    """Open another generation beside the one that is served, and its release if it is another one.

    What became of its products since is not applied yet: that is for the event loop, a little at a time.

    Raises:
        ModelsError: its release is missing or broken.
        SearchIndexError: a file of the generation is missing or of another format.
    """
    path = present.catalogue.path
    generation = open_generation(generation_path(path, number), verify=False)  # by whoever proposed it
    same = generation.manifest.release == present.release.id
    release = present.release if same else _release(settings, present.release.path, generation.manifest.release)
    pipeline = Pipeline(
        release=release,
        generation=generation,
        catalogue=present.catalogue,
        max_effort=settings.max_effort,
        timeout_ms=settings.timeout_ms,
        query_vectors=present.query_vectors if same else _query_vectors(settings),
    )
    pipeline.live.prepare()
    return pipeline


async def warm_up(pipeline: Pipeline, *, limit: int, rest_s: float = 0) -> int:
    """Answer golden queries in every mode, from query string to JSON; the answers are thrown away.

    Args:
        pipeline: what answers.
        limit: golden queries, at most.
        rest_s: after each answer, for others to use the event loop.

    Returns:
        How many golden queries there were.

    Raises:
        NotReadyError: the release has none.
    """
    golden = pipeline.release.golden_queries()[:limit]
    if not golden:
        raise NotReadyError(f"release {pipeline.release.id!r} has no golden queries to warm up with; export it again")
    for query in golden:
        for fields in _searches_for(query):
            request = from_query_string(urlencode(fields).encode(), SearchRequest)
            clock = Clock()
            render(pipeline.search(request, clock=clock, budget=UNHURRIED), clock)
            await asyncio.sleep(rest_s)
    return len(golden)


def _release(settings: Settings, usual: Path, release_id: str) -> Release:
    return open_release(release_for(release_id, usual=usual), engine=settings.engine)


def _open_catalogue(path: Path, *, writes: bool) -> Catalogue:
    """For writing too, where its folder allows it."""
    try:
        return Catalogue.open(path, readonly=not (writes and os.access(path, os.W_OK)))
    except CatalogueError:
        return Catalogue.open(path)  # which says what is wrong, if it is more than that


def _query_vectors(settings: Settings) -> QueryVectors | None:
    if settings.query_cache == 0:
        return None
    return QueryVectors(most=settings.query_cache, seconds=settings.query_cache_hours * 3_600)


def _searches_for(query: GoldenQuery) -> Iterator[dict[str, object]]:
    """Two pages by meaning, one by words, and one by both among the products of the searcher's country."""
    fields: dict[str, object] = {"q": query.query[:MAX_QUERY], "country": query.country or ""}
    own = Compare("country", "=", query.country) if query.country else Compare("price", ">=", 0.0)
    yield fields | {"page": 1}
    yield fields | {"page": 2}
    yield fields | {"mode": LEXICAL}
    yield fields | {"mode": HYBRID, "filter": str(own)}
