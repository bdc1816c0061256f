import pytest

from benchmarks.answers import content_length, is_degraded, server_total_us, status_of

HEAD = b"HTTP/1.1 200 OK\r\nserver-timing: ann;dur=0.110, total;dur=0.345\r\nContent-Length: 12"


def test_a_head_is_read_whatever_the_case_of_its_names() -> None:
    """0.345 ms are 345 us."""
    assert (200, 12) == (status_of(HEAD), content_length(HEAD))
    assert 345.0 == pytest.approx(server_total_us(HEAD))
    assert 345.0 == pytest.approx(server_total_us(HEAD.upper().replace(b"TOTAL;DUR", b"total;dur")))


def test_what_a_head_does_not_say_is_none() -> None:
    """Stages without a total are no total, nor is another stage whose name ends like it."""
    head = b"HTTP/1.1 429 Too Many Requests\r\nserver-timing: ann;dur=1, subtotal;dur=2"

    assert (429, None, None) == (status_of(head), content_length(head), server_total_us(head))


def test_a_degraded_search_is_recognised() -> None:
    """As the service writes it."""
    assert is_degraded(b'{"search":{"effort":"minimal","degraded":true}}')
    assert not is_degraded(b'{"search":{"effort":"low","degraded":false}}')
