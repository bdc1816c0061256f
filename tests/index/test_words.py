import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.words import GAP, asked, stored_terms, terms


def test_unspaced_text_becomes_pairs() -> None:
    """A product also gives its single characters, behind a gap, so that a query of one character finds it."""
    assert ["ポー", "ーチ", "usb"] == list(terms("ポーチUSB"))
    assert ["ポー", "ーチ", "usb", GAP, "ポ", "ー", "チ"] == stored_terms("ポーチUSB")
    assert ["傘"] == list(terms("傘")) == stored_terms("傘")


def test_words_are_folded_and_lose_a_plural_s() -> None:
    """In "dresses" its e too; "dress" and "gas" have no plural s, and "coche" and "coches" are cut alike."""
    assert ["gross", "telefono", "boot", "gas"] == list(terms("Größe TELÉFONO boots gas"))
    assert ["dress", "dress", "box", "watch", "coch", "coch"] == list(terms("dress dresses boxes watches coche coches"))


def test_ascii_text_is_folded_as_other_text_is() -> None:
    """The short way for plain English gives what the long way gives."""
    assert [*terms("Red-Shoes_42 B2B"), "e"] == list(terms("Red-Shoes_42 B2B é"))


@pytest.mark.parametrize(
    ("query", "phrases"),
    [
        ('"red dress"', [("red", "dress")]),
        ('long "Red Dresses" "zara"', [("red", "dress"), ("zara",)]),
        ("“red dress”", [("red", "dress")]),
        ('"ワンピース"', [("ワン", "ンピ", "ピー", "ース")]),
        ('"red dress', []),
        ('red" dress', []),
        ('""', []),
        ('"!?"', []),
        ('24" x 36" poster', []),
    ],
)
def test_double_quotes_make_phrases(query: str, phrases: list[tuple[str, ...]]) -> None:
    """In pairs, around words; a quote without a partner and inches are plain text."""
    assert phrases == list(asked(query).phrases)


def test_the_words_of_a_phrase_are_terms_too() -> None:
    """Each once, in the order of the text."""
    assert ("dress", "red", "long") == asked('dress "red dress" long').terms


def test_a_pasted_page_is_cut() -> None:
    """The first 64 different terms count."""
    assert tuple(f"w{at}" for at in range(64)) == asked(" ".join(f"w{at} w0" for at in range(5_000))).terms


@given(st.text(max_size=80))
def test_any_text_gives_terms_without_spaces(text: str) -> None:
    """No text raises; a query's terms are among those of a product of the same text, in the same order."""
    found = list(terms(text))

    assert all(term and not any(map(str.isspace, term)) for term in found)
    assert found == stored_terms(text)[: len(found)]
