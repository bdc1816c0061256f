import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.ann import RowFilter
from index.errors import IndexFileError, SpecError
from index.lexical import LexicalIndex, LexicalProduct
from index.words import terms

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
        ("RED DRESSES", 2),
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


def test_ties_come_in_the_order_of_numbers() -> None:
    """Eleven equal products: every k is a prefix of the same list, filtered or not."""
    lexical = LexicalIndex.build(LexicalProduct(number, "red shoe") for number in range(11))
    odd = RowFilter.of(np.arange(11) % 2 == 1)

    for k in range(1, 13):
        assert list(range(min(k, 11))) == found(lexical, "red", k=k)
        assert [1, 3, 5, 7, 9][:k] == lexical.search("red", k=k, only=odd).numbers.tolist()


def test_a_saved_index_answers_as_it_did(lexical: LexicalIndex, tmp_path: Path) -> None:
    """Build on disk, open again: same hits."""
    LexicalIndex.build(PRODUCTS, path=tmp_path / "lexical")
    opened = LexicalIndex.open(
        tmp_path / "lexical", numbers=np.array([one.number for one in PRODUCTS], dtype=np.uint32)
    )

    assert len(PRODUCTS) == opened.count
    for query in ("dress", "ワンピース", "telefono"):
        assert found(lexical, query) == found(opened, query)


def test_rows_are_named_by_the_numbers_of_the_generation(tmp_path: Path) -> None:
    """The index stores rows; opened without numbers, rows are numbers."""
    LexicalIndex.build(PRODUCTS, path=tmp_path)

    assert [1, 0] == found(LexicalIndex.open(tmp_path), "dress")  # the shorter title fits better
    assert [71, 70] == found(LexicalIndex.open(tmp_path, numbers=np.arange(70, 76, dtype=np.uint32)), "dress")
    with pytest.raises(IndexFileError, match="holds 6 products but 2 product numbers"):
        LexicalIndex.open(tmp_path, numbers=np.arange(2, dtype=np.uint32))


def test_a_missing_or_damaged_index_says_how_to_get_one(tmp_path: Path) -> None:
    """The error names the directory and the command."""
    LexicalIndex.build(PRODUCTS, path=tmp_path / "cut")
    (tmp_path / "cut" / "rows.npy").write_bytes(b"\x93NUMPY")
    LexicalIndex.build(PRODUCTS, path=tmp_path / "other")
    np.save(tmp_path / "other" / "rows.npy", np.arange(3, dtype=np.uint32))

    for name in ("none", "cut", "other"):
        with pytest.raises(IndexFileError, match=rf"{name}.*que2search build"):
            LexicalIndex.open(tmp_path / name)


def test_an_index_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    """A file stands where the directory should be."""
    (tmp_path / "lexical").touch()

    with pytest.raises(IndexFileError, match=r"cannot write the lexical index to .*lexical"):
        LexicalIndex.build(PRODUCTS, path=tmp_path / "lexical")


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


def test_a_filter_hides_rows() -> None:
    """Rows 0 and 2 of numbers 2, 5, 7: the filter is over rows, the answer in numbers."""
    lexical = LexicalIndex.build([LexicalProduct(number, "red dress") for number in (2, 5, 7)])

    assert [2, 7] == lexical.search("dress", k=3, only=RowFilter.of(np.array([True, False, True]))).numbers.tolist()
    assert [] == lexical.search("dress", k=3, only=RowFilter.of(np.zeros(3, dtype=bool))).numbers.tolist()


def test_a_filter_of_another_index_is_refused(lexical: LexicalIndex) -> None:
    """And so is an empty list."""
    with pytest.raises(SpecError, match="over 7 rows; this index has 6"):
        lexical.search("red", k=1, only=RowFilter.of(np.ones(7, dtype=bool)))
    with pytest.raises(SpecError, match="k=0"):
        lexical.search("red", k=0)


WORDS = ("red", "blue", "long", "dress", "shoe", "bag")
TITLES = st.lists(st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join), min_size=1, max_size=30)


@given(TITLES, st.lists(st.sampled_from((*WORDS, "dresq", '"red dress"')), max_size=4), st.integers(1, 8), st.data())
def test_a_filtered_search_is_the_search_filtered(
    titles: list[str], query: list[str], k: int, data: st.DataObject
) -> None:
    """All hits, filtered, then cut at k: the same numbers and scores; and `scores` agrees with both."""
    lexical = LexicalIndex.build(LexicalProduct(row, title) for row, title in enumerate(titles))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(titles), max_size=len(titles))))
    text = " ".join(query)
    every = lexical.search(text, k=len(titles))
    kept = mask[every.numbers]

    hits = lexical.search(text, k=k, only=RowFilter.of(mask))

    assert every.numbers[kept][:k].tolist() == hits.numbers.tolist()
    assert every.scores[kept][:k].tolist() == hits.scores.tolist()
    assert hits.scores.tolist() == lexical.scores(text, hits.numbers).tolist()


@given(TITLES, st.lists(st.sampled_from(WORDS), max_size=3))
def test_rows_with_hold_every_word(titles: list[str], words: list[str]) -> None:
    """As counting by hand has it; no words, no rows."""
    lexical = LexicalIndex.build(LexicalProduct(row, title) for row, title in enumerate(titles))
    expected = [row for row, title in enumerate(titles) if words and set(words) <= set(title.split())]

    assert expected == lexical.rows_with(" ".join(words)).tolist()


def test_rows_with_looks_into_every_field_and_at_phrases(lexical: LexicalIndex) -> None:
    """ "zara" is a brand, "evening" in the description; spelling is not corrected."""
    assert [0] == lexical.rows_with("evening red ZARA").tolist()
    assert [0] == lexical.rows_with('"red dress"').tolist()
    assert [] == lexical.rows_with('"dress red"').tolist()
    assert [] == lexical.rows_with("evenin").tolist()
    assert [3] == lexical.rows_with("ワンピース 服").tolist()


PHRASES = [
    LexicalProduct(0, "Red dress", "for the evening", "Zara Home"),
    LexicalProduct(1, "Dress, red", None, "Zara"),
    LexicalProduct(2, "Red long dress", "a red dress", None),
    LexicalProduct(3, "Shoes", "red", "dress"),
    LexicalProduct(4, "USBポーチ", None, None),
]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ('"red dress"', {0, 2}),
        ('"red dress" shoes', {0, 2}),
        ('"red dress" "zara home"', {0}),
        ('"dress evening"', set()),  # the title ends where the description begins
        ('"dress zara"', set()),
        ('"red dresq"', set()),
        ('"USBポーチ"', {4}),
        ('"ポチ"', set()),
        ('"red dress', {0, 1, 2, 3}),
    ],
)
def test_a_phrase_is_required(query: str, numbers: set[int]) -> None:
    """Word beside word in one field; what else is asked for may be there."""
    lexical = LexicalIndex.build(PHRASES)

    assert numbers == set(found(lexical, query))


def test_a_product_without_the_phrase_scores_nothing() -> None:
    """As it would not be found."""
    scores = LexicalIndex.build(PHRASES).scores('"red dress"', [0, 1, 9])

    assert scores[0] > 0
    assert [0, 0] == scores[1:].tolist()


def test_a_misspelt_word_is_taken_for_its_neighbour_at_three_quarters_of_its_score(lexical: LexicalIndex) -> None:
    """ "evning" lacks one letter of "evening"; the word itself would score more."""
    assert {"evning": ["evening"]} == lexical.corrections("evning dress xyzzy")
    assert [2] == found(lexical, "evning")
    assert lexical.search("evning", k=1).scores == lexical.search("evening", k=1).scores * np.float32(0.75)


def test_a_word_that_a_product_holds_is_never_corrected() -> None:
    """One "drees" among many a "dress": whoever types it gets it."""
    lexical = LexicalIndex.build([LexicalProduct(row, "drees" if row == 4 else "dress") for row in range(9)])

    assert [4] == found(lexical, "drees")
    assert {} == lexical.corrections("drees")


@pytest.mark.parametrize(
    "query",
    ["red " * 5_000, " ".join(map(str, range(5_000))), "\x00\x07red\x1b", "!?" * 2_000, "👗" * 500, "\ud800", '"' * 99],
)
def test_odd_text_is_searched_like_any_other(lexical: LexicalIndex, query: str) -> None:
    """Long, of control characters, of signs alone: what words there are count."""
    assert (2 in found(lexical, query)) == ("red" in query)


def test_an_empty_generation_answers_nothing(tmp_path: Path) -> None:
    """No products: no hits, no rows, no corrections, saved or not."""
    LexicalIndex.build([], path=tmp_path)
    lexical = LexicalIndex.open(tmp_path)

    assert 0 == lexical.count
    assert [] == found(lexical, 'red "red dress"')
    assert [] == lexical.rows_with("red").tolist()
    assert [0.0] == lexical.scores("red", [3]).tolist()
    assert {} == lexical.corrections("dresses")


@given(st.text(max_size=60))
def test_any_text_is_searchable(text: str) -> None:
    """No text raises, and a product is found by its own title."""
    lexical = LexicalIndex.build([LexicalProduct(1, text)])

    assert ([1] if list(terms(text)) else []) == found(lexical, text)
