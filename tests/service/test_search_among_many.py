"""Filters and modes where lists are probed: 9,000 products, too many to compare all that a wide filter leaves."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product as every
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.pipeline import Pipeline
from service.schemas import SearchRequest
from tests.market import market_catalogue, products
from tests.service.reference import Filter, Reference
from tests.service.walking import Shown, opened, page_of

RECORDS = products(9_000)
QUERIES = ("red dress", "green guitar like new", "runing shoes", "wooden chairs 4711")
STRATEGIES = {  # of filters, for most queries, by what they leave
    Filter("condition = used", lambda record: record["attributes"]["condition"] == "used"): "lists",  # 1 of 2
    Filter("NOT country = FR", lambda record: record["country"] != "FR"): "lists",  # 2 of 3
    Filter("price < 8990", lambda record: record["price"] is not None and record["price"] < 8_990): "lists",  # 6 of 7
    Filter("price != 77", lambda record: record["price"] != 77): "post",  # all but one
    Filter("NOT tokens(4711)", lambda record: record["product_id"] != "p4711"): "post",
    Filter('category = "Home > Lamps"', lambda record: "lamp" in record["title"]): "exact",  # 1 of 8
    Filter("seller = ann AND country = GB", lambda r: (r["seller_id"], r["country"]) == ("ann", "GB")): "exact",
}
FILTERS = list(STRATEGIES)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, release_path: Path) -> Path:
    folder = tmp_path_factory.mktemp("wide_market")
    return market_catalogue(folder, release_path, RECORDS, factory="IVF64,PQ8x4fsr,RFlat")


@pytest.fixture(scope="module")
def pipeline(path: Path, release_path: Path) -> Iterator[Pipeline]:
    with opened(release_path, path) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def reference(pipeline: Pipeline) -> Reference:
    return Reference(pipeline.release, pipeline.generation, RECORDS)


def first_pages(pipeline: Pipeline, request: SearchRequest, *, most: int) -> list[Shown]:
    pages = [page_of(pipeline, request)]
    while len(pages) < most and (cursor := pages[-1].answer.cursor) is not None:
        pages.append(page_of(pipeline, msgspec.structs.replace(request, cursor=cursor)))
    return pages


@pytest.mark.parametrize(("wanted", "strategy"), STRATEGIES.items(), ids=lambda case: getattr(case, "text", case))
def test_the_answer_says_how_a_filter_was_applied(pipeline: Pipeline, wanted: Filter, strategy: str) -> None:
    """By the share that it leaves: nearly all, many, or few; and `effort=exact` compares them all."""
    member = page_of(pipeline, SearchRequest(q="red lamp", filter=wanted.text)).answer.filter
    exact = page_of(pipeline, SearchRequest(q="red lamp", filter=wanted.text, effort="exact")).answer

    assert member is not None
    assert sum(map(wanted.holds, RECORDS)) == member.allowed
    assert strategy == member.strategy
    assert exact.filter is not None
    assert ("exact", None) == (exact.filter.strategy, exact.point.nprobe)


@settings(max_examples=60)
@given(
    query=st.sampled_from(QUERIES),
    wanted=st.sampled_from(FILTERS),
    mode=st.sampled_from(["vector", "lexical", "hybrid"]),
    effort=st.sampled_from(["auto", "minimal", "low", "balanced", "high"]),
    min_score=st.sampled_from([None, 0.3]),
    per_seller=st.none() | st.integers(1, 20),
    size=st.integers(5, 100),
)
def test_probing_finds_allowed_products_each_once_with_their_scores(
    pipeline: Pipeline,
    reference: Reference,
    query: str,
    wanted: Filter,
    mode: Any,
    effort: Any,
    min_score: float | None,
    per_seller: int | None,
    size: int,
) -> None:
    """Some may be missing, but none is wrong: three pages at every effort, in every mode."""
    request = SearchRequest(
        q=query, filter=wanted.text, mode=mode, effort=effort, size=size, per_seller=per_seller,
        min_score=None if mode == "lexical" else min_score,
    )  # fmt: skip
    pages = first_pages(pipeline, request, most=3)
    shown = [number for page in pages for number in page.products]
    sellers = Counter(seller for number in shown if (seller := RECORDS[number]["seller_id"]))

    assert len(shown) == len(set(shown))
    assert all(wanted.holds(RECORDS[number]) for number in shown)
    assert max(sellers.values(), default=0) <= (per_seller or len(RECORDS))
    for page in pages:
        assert page.scores == sorted(page.scores, reverse=True)
    if mode != "hybrid":
        scores = reference.bm25(query) if mode == "lexical" else reference.cosines(query, None)
        found = [score for page in pages for score in page.scores]
        assert [scores[number] for number in shown] == pytest.approx(found, abs=2e-6)
        assert min(found, default=1.0) >= (request.min_score or -1.0)


def test_probing_misses_little_of_what_exact_search_finds(pipeline: Pipeline) -> None:
    """Over all queries, filters and modes nine tenths of the exact first ten at the least; measured: 0.93."""
    found, wanted = 0, 0
    for query, condition, mode in every(QUERIES, FILTERS, ("vector", "hybrid")):
        request = SearchRequest(q=query, filter=condition.text, mode=mode)
        exact = page_of(pipeline, msgspec.structs.replace(request, effort="exact")).products
        found += len(set(exact) & set(page_of(pipeline, request).products))
        wanted += len(exact)

    assert found / wanted >= 0.9


def test_threads_with_mixed_filters_modes_and_nprobe_get_the_sequential_results(pipeline: Pipeline) -> None:
    """Eight threads over one pipeline: no search changes what another one sees, whatever each of them asks."""
    legs = ("nn(nprobe=1)", "nn(nprobe=8)", "tokens", "(tokens OR nn(nprobe=3))", "(tokens AND nn(radius=0.2))")
    requests = [
        SearchRequest(q=query, filter=f"({wanted.text}) AND {leg}", effort=effort, per_seller=per_seller)
        for (query, wanted, leg), effort, per_seller in every(
            every(QUERIES, FILTERS, legs), ("minimal", "high"), (None, 3)
        )
    ]
    requests += [SearchRequest(q=query, mode=mode) for query, mode in every(QUERIES, ("vector", "lexical", "hybrid"))]

    def answered(request: SearchRequest) -> tuple[list[bytes], str | None]:
        answer = page_of(pipeline, request).answer
        return answer.hits, answer.cursor

    order = np.random.default_rng(0).permutation(len(requests)).tolist()
    mixed = [requests[at] for at in order]
    sequential = [answered(request) for request in mixed]
    with ThreadPoolExecutor(8) as threads:
        assert sequential == list(threads.map(answered, mixed))
