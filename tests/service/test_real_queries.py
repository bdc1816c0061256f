"""English, Spanish and Japanese queries as people typed them, through every mode."""

import csv
import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service.pipeline import Pipeline
from service.schemas import MAX_QUERY, MODES, SearchRequest
from tests.market import market_catalogue, products
from tests.service.walking import opened, page_of

COUNTRIES = {"us": "US", "es": "ES", "jp": "JP"}
PER_LOCALE = 120


@pytest.fixture(scope="module")
def queries() -> list[tuple[str, str]]:
    """Texts and countries, spread evenly over each locale's queries in the order of their text."""
    if "Q2S_TEST_DATA" not in os.environ:
        pytest.skip("Q2S_TEST_DATA is unset: no queries that people typed")
    path = Path(os.environ["Q2S_TEST_DATA"]) / "queries" / "shopping_queries_us_es_jp.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = sorted((row["locale"], row["query"]) for row in csv.DictReader(file))
    spread = []
    for locale, same in groupby(rows, key=lambda row: row[0]):
        texts = [text for _, text in same if text.strip()]
        spread += [(text, COUNTRIES[locale]) for text in texts[:: max(1, len(texts) // PER_LOCALE)]]
    return spread


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory, release_path: Path, queries: list[Any]) -> Iterator[Pipeline]:
    """Products of which some are called as a query is, so that words find something in every language."""
    titles = [text for text, _ in queries[::2]]
    records = [{**product, "title": title} for product, title in zip(products(len(titles)), titles, strict=True)]
    path = market_catalogue(tmp_path_factory.mktemp("market"), release_path, records, factory="IVF8,Flat")
    with opened(release_path, path) as pipeline:
        yield pipeline


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wanted", [None, 'price < 150 AND NOT country = "FR"'])
def test_every_query_is_answered(
    pipeline: Pipeline, queries: list[tuple[str, str]], mode: Any, wanted: str | None
) -> None:
    """Two pages of each, with and without a filter; no product twice, and never a hit that the filter refuses."""
    locales = {country for _, country in queries}
    assert {"US", "ES", "JP"} == locales
    for text, country in queries:
        request = SearchRequest(q=text[:MAX_QUERY], country=country, mode=mode, filter=wanted, size=10)
        first = page_of(pipeline, request)
        shown = first.products
        if first.answer.cursor is not None:
            second = page_of(pipeline, msgspec.structs.replace(request, cursor=first.answer.cursor))
            shown = [*shown, *second.products]

        assert len(shown) == len(set(shown))
        assert mode == first.answer.mode
        if wanted is not None:
            assert all(number < 150 and number % 3 != 2 for number in shown)
        if mode == "vector":
            assert 10 == len(first.products)


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_words_find_the_product_that_is_called_so(
    pipeline: Pipeline, queries: list[tuple[str, str]], mode: Any
) -> None:
    """In any of the three languages, nearly always first; queries of signs alone have no words."""
    called = [(number, text, country) for number, (text, country) in enumerate(queries[::2])]
    found = {
        where: [
            number in page_of(pipeline, SearchRequest(q=text, country=where, mode=mode, size=3)).products
            for number, text, country in called
            if country == where
        ]
        for where in COUNTRIES.values()
    }

    for country, hits in found.items():
        assert sum(hits) / len(hits) >= 0.95, country
