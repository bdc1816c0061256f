"""Walks over pages: whatever the size, the effort and the lists, no product twice and none lost."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from index.operating_points import EFFORTS
from index.paging import MAX_DEPTH
from service.effort import Budget
from service.schemas import SearchRequest
from tests.service.fakes import Lists, listed_pipeline
from tests.service.walking import AT_EASE, OVERLOADED, follow, page_of

numbers = st.lists(st.integers(0, 60), unique=True, max_size=40)
any_lists = st.fixed_dictionaries(dict.fromkeys(EFFORTS, numbers))
sizes = st.integers(1, 20)
efforts = st.sampled_from(["auto", *EFFORTS])
radii = st.none() | st.integers(0, 60).map(lambda last: 1 - (last + 0.5) / 10_000)  # keeps products 0 to `last`


def definition(lists: Lists, request: SearchRequest) -> tuple[list[int], list[int]]:
    """Page 1 and all later pages together, in the words of the definition."""

    def above_radius(effort: str) -> list[int]:
        ranked = sorted(lists[effort])
        return [n for n in ranked if request.min_score is None or 1 - n / 10_000 >= request.min_score]

    first, later = ("low", "high") if request.effort == "auto" else (request.effort, request.effort)
    page_1 = above_radius(first)[: request.size]
    return page_1, [n for n in above_radius(later) if n not in page_1][: MAX_DEPTH - len(page_1)]


@given(lists=any_lists, size=sizes, effort=efforts, min_score=radii)
def test_following_the_cursors_shows_each_product_of_the_definition_once(
    lists: Lists, size: int, effort: str, min_score: float | None
) -> None:
    """Page 1 is the start of the first list; later pages are the later list without page 1, in order."""
    request = SearchRequest(q="red dress", size=size, effort=effort, min_score=min_score)
    page_1, rest = definition(lists, request)

    pages = follow(listed_pipeline(lists, count=61), request)

    assert page_1 == pages[0].products
    assert rest == [product for page in pages[1:] for product in page.products]


@given(lists=any_lists, size=sizes, effort=efforts)
def test_page_n_by_number_is_the_page_that_the_cursors_reach(lists: Lists, size: int, effort: str) -> None:
    """Without a cursor page 1's products are searched again, so both ways cut the same slice."""
    pipeline = listed_pipeline(lists, count=61)
    request = SearchRequest(q="red dress", size=size, effort=effort)

    for number, followed in enumerate(follow(pipeline, request), start=1):
        by_number = page_of(pipeline, msgspec.structs.replace(request, page=number))

        assert followed.products == by_number.products
        assert followed.answer.cursor == by_number.answer.cursor
        assert number == by_number.answer.page == followed.answer.page


@given(
    order=st.permutations(range(60)),
    lengths=st.lists(st.integers(0, 60), min_size=5, max_size=5).map(sorted),
    size=sizes,
    effort=efforts,
    loads=st.lists(st.sampled_from([AT_EASE, OVERLOADED]), min_size=80, max_size=80),
)
def test_overload_between_pages_repeats_no_product(
    order: list[int], lengths: list[int], size: int, effort: str, loads: list[Budget]
) -> None:
    """A higher effort finds all that a lower one does and more: lowered in mid-walk, it still shows nothing twice."""
    lists = {name: order[:length] for name, length in zip(EFFORTS, lengths, strict=True)}
    request = SearchRequest(q="red dress", size=size, effort=effort)

    pages = follow(listed_pipeline(lists, count=60), request, iter(loads))
    shown = [product for page in pages for product in page.products]

    assert len(shown) == len(set(shown))


@given(lists=any_lists, sizes=st.lists(sizes, min_size=62, max_size=62))
def test_the_size_may_change_from_page_to_page(lists: Lists, sizes: list[int]) -> None:
    """A cursor holds a position, not a page: another size goes on where the last page ended."""
    pipeline = listed_pipeline(lists, count=61)
    request = SearchRequest(q="red dress", size=sizes[0])
    page_1, rest = definition(lists, request)

    page = page_of(pipeline, request)
    shown = list(page.products)
    for size in sizes[1:]:
        if page.answer.cursor is None:
            break
        page = page_of(pipeline, SearchRequest(q="red dress", size=size, cursor=page.answer.cursor))
        shown += page.products

    assert page_1 + rest == shown


def test_a_walk_ends_at_the_depth_limit() -> None:
    """2,000 products match; ten pages of 100 show the first 1,000, and the tenth has no cursor."""
    lists = dict.fromkeys(EFFORTS, range(2_000))

    pages = follow(listed_pipeline(lists), SearchRequest(q="red dress", size=100))

    assert 10 == len(pages)
    assert list(range(1_000)) == [product for page in pages for product in page.products]


def test_a_page_past_the_end_is_empty_and_ends_the_walk() -> None:
    """30 products end on page 3; page 4 and page 10^30 have no hits and no cursor."""
    pipeline = listed_pipeline(dict.fromkeys(EFFORTS, range(30)))

    for number in (4, 101, 10**30):
        past = page_of(pipeline, SearchRequest(q="red dress", page=number))

        assert [] == past.products
        assert past.answer.cursor is None
