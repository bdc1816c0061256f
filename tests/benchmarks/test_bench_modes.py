"""Search by mode on a small catalogue: what is asked, and that each mode and page has its row. No time is judged."""

from pathlib import Path

import pytest

from benchmarks.modes import queries_of, run, target
from models.errors import DataError
from service.errors import InvalidFieldError
from service.schemas import MAX_QUERY, SearchRequest
from tests.helpers import small_featurizer
from tests.small_release import small_catalogue, small_release


@pytest.fixture(scope="module")
def release_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_release(tmp_path_factory.mktemp("releases"), featurizer=small_featurizer())


@pytest.fixture(scope="module")
def catalogue_path(tmp_path_factory: pytest.TempPathFactory, release_path: Path) -> Path:
    """300 products that cost 0.5, 1.5, 2.5 and so on."""
    return small_catalogue(tmp_path_factory.mktemp("home"), release_path)


def test_every_mode_and_page_is_timed_here_and_over_a_socket(
    release_path: Path, catalogue_path: Path, tmp_path: Path
) -> None:
    """Vectors are once as slow as themselves; words need no vectors, and only a filter takes time to filter."""
    result = run(release_path, catalogue_path, expression="price < 50", queries=["red dress"], blocks=1, calls=2)

    rows = {str(row["name"]): row for row in result.rows}
    modes, pages, filters = ("vector", "lexical", "hybrid"), ("first page", "later page"), ("", ", filtered")
    assert [f"{mode}, {page}{end}" for end in filters for mode in modes for page in pages] == list(rows)
    assert {1.0} == {row["http_p50_over_vector"] for name, row in rows.items() if name.startswith("vector")}
    assert {0.0} == {row["ann_us"] for name, row in rows.items() if name.startswith("lexical")}
    assert {0.0} == {row["lexical_us"] for name, row in rows.items() if name.startswith("vector")}
    assert all(row["rank_us"] > 0 for name, row in rows.items() if name.startswith("hybrid"))
    assert all((row["filter_us"] > 0) == name.endswith("filtered") for name, row in rows.items())
    assert all(row["http_p50_over_floor"] > 0 for row in rows.values())
    assert (50, "price < 50") == (result.conditions["allowed"], result.conditions["filter"])
    assert 3 == len([path for path in result.save(tmp_path) if path.exists()])


def test_a_query_without_a_later_page_has_none(release_path: Path, catalogue_path: Path) -> None:
    """No product holds the word, so words find nothing to page through; vectors always find something."""
    result = run(release_path, catalogue_path, expression="price < 5", queries=["zzzz"], blocks=1, calls=1)

    names = [row["name"] for row in result.rows]
    assert {"vector, later page", "lexical, first page"} <= set(names)
    assert "lexical, later page" not in names
    assert "vector, later page, filtered" not in names


def test_a_filter_that_makes_no_sense_is_refused(release_path: Path, catalogue_path: Path) -> None:
    """Before anything is measured."""
    with pytest.raises(InvalidFieldError, match="there is no field 'prize'"):
        run(release_path, catalogue_path, expression="prize < 50", queries=["red dress"])


def test_a_request_is_sent_with_what_was_asked() -> None:
    """What is left out stays out."""
    asked = SearchRequest(q="red dress", country="GB", mode="hybrid", filter="price < 50")

    assert "/search?q=red+dress&country=GB&mode=hybrid&filter=price+%3C+50" == target(asked)
    assert "/search?q=%E9%9D%B4" == target(SearchRequest(q="靴"))


def test_queries_are_the_lines_of_a_file(tmp_path: Path) -> None:
    """Empty lines are no queries, and one of 600 characters is cut to what a request may say."""
    path = tmp_path / "queries.txt"
    path.write_text(f"red dress\n\n  zapatos niña \n靴\n{'x' * 600}\n", "utf-8")

    assert ["red dress", "zapatos niña", "靴", "x" * MAX_QUERY] == queries_of(path)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
def test_a_file_without_queries_is_refused(tmp_path: Path, content: bytes) -> None:
    """Nothing in it, or no text."""
    path = tmp_path / "queries.txt"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"queries\.txt"):
        queries_of(path)
    with pytest.raises(DataError, match="no file of queries"):
        queries_of(tmp_path / "none.txt")
