import threading
from pathlib import Path

import numpy as np
import pytest
import tantivy
from hypothesis import given
from hypothesis import strategies as st

from index.errors import IndexFileError
from index.lexical import LexicalIndex, LexicalProduct, _document, _schema, terms

PRODUCTS = [
    LexicalProduct(2, "Red dress", "A long evening dress", "Zara"),
    LexicalProduct(5, "Blue dress", None, None),
    LexicalProduct(7, "Teléfono móvil", "Pantalla grande", "Nokia"),
    LexicalProduct(8, "赤いワンピース", "夏の服", None),
    LexicalProduct(9, "Schwarze Schuhe", "Größe 42", "adidas"),
    LexicalProduct(11, "傘 折りたたみ", None, None),
]


@pytest.fixture(scope="module")
def lexical() -> LexicalIndex:
    return LexicalIndex.build(PRODUCTS)


def found(lexical: LexicalIndex, query: str, k: int = 10) -> list[int]:
    return lexical.search(query, k=k).numbers.tolist()


def test_the_product_with_more_of_the_words_comes_first(lexical: LexicalIndex) -> None:
    """Both dresses match; only one is red."""
    hits = lexical.search("red dress", k=10)

    assert [2, 5] == hits.numbers.tolist()
    assert hits.scores[0] > hits.scores[1] > 0


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("DRESSES dresses dress", 2),
        ("telefono movil", 7),
        ("nokias", 7),
        ("GROSSE", 9),
        ("ワンピース", 8),
        ("\uff9c\uff9d\uff8b\uff9f\uff70\uff7d", 8),  # the same in half-width kana
        ("傘", 11),
        ("夏服 ワンピース", 8),
    ],
)
def test_case_accents_plurals_and_width_do_not_matter(lexical: LexicalIndex, query: str, number: int) -> None:
    """People type less carefully than sellers write."""
    assert number == found(lexical, query)[0]


@pytest.mark.parametrize(
    "query", ['"red', "title:red", "-red +dress", "red AND (", "red*~2^3", "/red/", "[b TO z]", "\\", "dress\0red", "'"]
)
def test_query_syntax_is_only_text(lexical: LexicalIndex, query: str) -> None:
    """Nothing that a shopper types raises, negates or names a field."""
    numbers = found(lexical, query)

    assert (2 in numbers) == ("red" in query)


@pytest.mark.parametrize("query", ["", "  ", "!?", "😀", "zzz"])
def test_no_shared_term_finds_nothing(lexical: LexicalIndex, query: str) -> None:
    """An empty answer, not an error."""
    hits = lexical.search(query, k=5)

    assert (0, 0) == (len(hits.numbers), len(hits.scores))


def test_scores_of_given_products_are_those_of_the_search(lexical: LexicalIndex) -> None:
    """In the order asked for, and 0 for products without a shared term."""
    hits = lexical.search("red dress", k=2)

    np.testing.assert_allclose([0.0, hits.scores[1], hits.scores[0]], lexical.scores("red dress", [7, 5, 2]), rtol=1e-6)


def test_scores_without_terms_or_products_are_zero_or_none(lexical: LexicalIndex) -> None:
    """The two empty cases keep their shapes."""
    assert [0.0, 0.0] == lexical.scores("", [2, 5]).tolist()
    assert [] == lexical.scores("red", []).tolist()


def test_a_rare_word_weighs_more_than_a_common_one() -> None:
    """The I of IDF: of two one-word matches, the one that fewer products have wins."""
    lexical = LexicalIndex.build([LexicalProduct(0, "case"), LexicalProduct(1, "case"), LexicalProduct(2, "lens")])

    assert [2, 0, 1] == found(lexical, "case lens")


def test_ties_come_in_the_order_of_numbers_across_segments() -> None:
    """Eleven equal products in eleven segments: every k is a prefix of the same list."""
    inverted = tantivy.Index(_schema())
    writer = inverted.writer(15_000_000, num_threads=1)
    for number in (8, 3, 10, 1, 0, 7, 9, 2, 6, 5, 4):
        writer.add_document(_document(LexicalProduct(number, "red shoe")))
        writer.commit()
    inverted.reload()
    lexical = LexicalIndex(inverted)

    assert lexical._searcher.num_segments > 1
    for k in range(1, 13):
        assert list(range(min(k, 11))) == found(lexical, "red", k=k)


def test_a_saved_index_answers_as_it_did(lexical: LexicalIndex, tmp_path: Path) -> None:
    """Build on disk, open again: same hits."""
    LexicalIndex.build(PRODUCTS, path=tmp_path / "lexical")
    opened = LexicalIndex.open(tmp_path / "lexical")

    assert len(PRODUCTS) == opened.count
    for query in ("dress", "ワンピース", "telefono"):
        assert found(lexical, query) == found(opened, query)


def test_a_missing_or_damaged_index_says_how_to_get_one(tmp_path: Path) -> None:
    """The error names the directory and the command."""
    (tmp_path / "meta.json").write_text("{}")

    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(IndexFileError, match=r"que2search build"):
            LexicalIndex.open(path)


def test_threads_get_the_sequential_answers(lexical: LexicalIndex) -> None:
    """Searches share the index without changing it."""
    queries = ["red dress", "dress", "movil", "ワンピース", "schuhe 42"] * 20
    expected = [found(lexical, query) for query in queries]
    answers: list[list[list[int]]] = []
    threads = [
        threading.Thread(target=lambda: answers.append([found(lexical, query) for query in queries])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [expected] * 4 == answers


def test_unspaced_text_becomes_pairs() -> None:
    """A product also gives its single characters, so that a query of one character finds it."""
    assert ["ポー", "ーチ", "usb"] == list(terms("ポーチUSB", query=True))
    assert ["ポ", "ー", "チ", "ポー", "ーチ"] == list(terms("ポーチ"))
    assert ["傘"] == list(terms("傘", query=True))


@given(st.text(max_size=60))
def test_any_text_gives_terms_without_spaces_and_is_searchable(text: str) -> None:
    """No text raises, a term never holds white space, and a product is found by its own title."""
    assert all(term and not any(map(str.isspace, term)) for term in terms(text))
    lexical = LexicalIndex.build([LexicalProduct(1, text)])

    assert ([1] if list(terms(text)) else []) == found(lexical, text)
