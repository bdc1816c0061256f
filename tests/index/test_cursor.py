"""The cursor: whole, or refused."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.cursor import MAX_CHARS, Cursor, CursorCodec, request_digest
from index.errors import CursorError, CursorGone
from index.operating_points import EFFORTS, MAX_DEPTH, MAX_SIZE

CODEC = CursorCodec(b"k" * 32)
CURSOR = Cursor(release="r1", digest=b"d" * 16, effort="high", shown=(7, 4_294_967_295, 0), position=30)

cursors = st.builds(
    Cursor,
    release=st.text(min_size=1, max_size=30),
    digest=st.binary(min_size=16, max_size=16),
    effort=st.sampled_from(EFFORTS),
    shown=st.lists(st.integers(0, 2**32 - 1), max_size=MAX_SIZE).map(tuple),
    position=st.integers(0, MAX_DEPTH),
)


@given(cursors)
def test_a_cursor_comes_back_as_it_was(cursor: Cursor) -> None:
    """Encoded and decoded; the text needs no escaping in a URL."""
    text = CODEC.encode(cursor)

    assert cursor == CODEC.decode(text)
    assert text.replace("-", "").replace("_", "").isalnum()


def test_the_largest_cursor_fits() -> None:
    """100 products on page 1 and a release name of 128 bytes: below 4 kB."""
    largest = CURSOR._replace(release="r" * 128, shown=tuple(range(2**32 - 100, 2**32)))

    assert len(CODEC.encode(largest)) <= MAX_CHARS


@pytest.mark.parametrize("changes", [{"release": "r" * 129}, {"shown": tuple(range(101))}])
def test_what_does_not_fit_is_refused(changes: dict[str, object]) -> None:
    """Rather than written and not read."""
    with pytest.raises(CursorError, match="at most"):
        CODEC.encode(CURSOR._replace(**changes))


@given(st.data())
def test_any_changed_character_is_noticed(data: st.DataObject) -> None:
    """The signature covers everything, the spelling too."""
    text = CODEC.encode(CURSOR)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("ABCabc019-_=+/ \n").filter(lambda c: c != text[at]))

    with pytest.raises(CursorError, match="altered"):
        CODEC.decode(text[:at] + other + text[at + 1 :])


@given(st.text(max_size=200))
def test_no_text_of_others_is_accepted(text: str) -> None:
    """Whatever arrives, the answer is CursorError."""
    with pytest.raises(CursorError):
        CODEC.decode(text)


@pytest.mark.parametrize("text", ["", "A", "AAAA", "A" * 10_000, "é", base64.urlsafe_b64encode(b"\0" * 60).decode()])
def test_short_long_and_foreign_texts_are_refused(text: str) -> None:
    """Without touching anything inside them."""
    with pytest.raises(CursorError, match="altered or is not of this catalogue"):
        CODEC.decode(text)


def test_another_key_is_another_catalogue() -> None:
    """A cursor signed elsewhere means nothing here."""
    with pytest.raises(CursorError, match="not of this catalogue"):
        CursorCodec(b"x" * 32).decode(CODEC.encode(CURSOR))


def test_a_cursor_of_another_request_is_refused() -> None:
    """The product numbers it hides belong to another list."""
    with pytest.raises(CursorError, match="another query") as caught:
        CURSOR.check(release="r1", digest=b"e" * 16)
    assert not isinstance(caught.value, CursorGone)


def test_a_cursor_of_another_release_is_gone() -> None:
    """Not wrong, but no longer possible: the caller starts again."""
    with pytest.raises(CursorGone, match="'r1', now 'r2'"):
        CURSOR.check(release="r2", digest=b"d" * 16)


def test_its_own_request_passes() -> None:
    """Nothing raised."""
    CURSOR.check(release="r1", digest=b"d" * 16)


def test_a_digest_stands_for_the_values_and_their_places() -> None:
    """Equal values, equal digest; any other value, another; nor may one stand in another's place."""
    digest = request_digest(("red dress", None, "GB", 0.5))

    assert 16 == len(digest)
    assert digest == request_digest(["red dress", None, "GB", 0.5])
    assert digest != request_digest(("red dress", None, "GB", 0.6))
    assert digest != request_digest(("red dress", "GB", None, 0.5))
