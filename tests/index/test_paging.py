"""Pages: no product twice, none lost, and an end that is clean."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from index.ann import AnnIndex, Hits, Ranked, ranked
from index.operating_points import MAX_DEPTH, MAX_SIZE
from index.paging import Page, first_page, later_page, position_of_page
from tests.helpers import faiss_index


def as_list(numbers: list[int]) -> Ranked:
    """A list with falling scores."""
    return Ranked(np.array(numbers, np.int64), -np.arange(len(numbers), dtype=np.float32))


def walk(first: Ranked, later: Ranked, sizes: list[int], *, same_list: bool, total: int) -> list[Page]:
    """Follow the cursors from page 1 to the end, one size per page, the last size repeated."""
    page = first_page(first, size=sizes[0], same_list=same_list, total=total)
    pages = [page]
    while page.next_position is not None:
        size = sizes[min(len(pages), len(sizes) - 1)]
        page = later_page(later, shown=pages[0].numbers, position=page.next_position, size=size)
        pages.append(page)
    return pages


def definition(first: list[int], later: list[int], size: int) -> list[int]:
    """What all pages together must show: page 1's slice, then the later list minus it, to the depth limit."""
    shown = first[:size]
    return (shown + [number for number in later if number not in shown])[:MAX_DEPTH]


def found(ann: AnnIndex, query: np.ndarray, *, nprobe: int, candidates: int) -> Ranked:
    return ranked(ann.search(query, nprobe=nprobe, candidates=candidates))


numbers = st.lists(st.integers(0, 60), unique=True, max_size=40)
page_sizes = st.integers(1, 12)


@given(numbers, numbers, st.lists(page_sizes, min_size=1, max_size=8))
def test_following_cursors_shows_every_product_once(first: list[int], later: list[int], sizes: list[int]) -> None:
    """Whatever the two lists and however the size changes on the way."""
    pages = walk(as_list(first), as_list(later), sizes, same_list=False, total=61)

    assert definition(first, later, sizes[0]) == [n for page in pages for n in page.numbers]


@given(numbers, st.lists(page_sizes, min_size=1, max_size=8))
def test_one_list_is_simply_cut_into_pages(the_list: list[int], sizes: list[int]) -> None:
    """A named effort serves all pages: their union is its list, and the last page is never empty."""
    pages = walk(as_list(the_list), as_list(the_list), sizes, same_list=True, total=61)

    assert the_list == [n for page in pages for n in page.numbers]
    assert len(pages) == 1 or len(pages[-1].numbers) > 0


@given(numbers, numbers, page_sizes, st.integers(2, 50))
def test_a_page_by_number_is_the_page_the_cursors_lead_to(
    first: list[int], later: list[int], size: int, page: int
) -> None:
    """Same size, same page; beyond the last there is nothing, and no cursor."""
    followed = walk(as_list(first), as_list(later), [size], same_list=False, total=61)

    direct = later_page(
        as_list(later), shown=np.array(first[:size]), position=position_of_page(page, size=size), size=size
    )

    if page <= len(followed):
        assert followed[page - 1].numbers.tolist() == direct.numbers.tolist()
        assert followed[page - 1].next_position == direct.next_position
    else:
        assert [] == direct.numbers.tolist()
        assert direct.next_position is None


@given(st.data(), st.integers(1, MAX_SIZE), st.lists(st.integers(1, MAX_SIZE), min_size=1, max_size=4))
def test_pages_end_at_the_depth_limit(data: st.DataObject, size: int, later_sizes: list[int]) -> None:
    """Lists of 1,200: exactly 1,000 are shown, page 1 among them."""
    shuffle = np.random.default_rng(data.draw(st.integers(0, 99))).permutation
    first, later = shuffle(1_200).tolist(), shuffle(1_200).tolist()

    pages = walk(as_list(first), as_list(later), [size, *later_sizes], same_list=False, total=5_000)

    shown = [n for page in pages for n in page.numbers]
    assert MAX_DEPTH == len(shown) == len(set(shown))
    assert definition(first, later, size) == shown


def test_scores_stay_with_their_products() -> None:
    """Page 2 of 9, 8, 7 against 9, 5, 8, 7: it holds 5 with the second score of its list."""
    page = later_page(as_list([9, 5, 8, 7]), shown=np.array([9, 8]), position=0, size=1)

    assert ([5], [-1.0], 1) == (page.numbers.tolist(), page.scores.tolist(), page.next_position)


def test_a_catalogue_shown_whole_has_no_second_page() -> None:
    """Three products, three shown: nothing can follow, whatever effort would look."""
    assert first_page(as_list([1, 2, 3]), size=10, same_list=False, total=3).next_position is None


def test_a_short_first_list_may_still_be_continued() -> None:
    """The later effort may find what the first did not; if it does not, the walk ends on an empty page."""
    page = first_page(as_list([1, 2]), size=10, same_list=False, total=3)
    assert 0 == page.next_position

    end = later_page(as_list([2, 1]), shown=page.numbers, position=0, size=10)
    assert ([], None) == (end.numbers.tolist(), end.next_position)


def test_a_page_that_ends_exactly_at_the_end_is_the_last() -> None:
    """Four left, pages of two: after the second there is no cursor to an empty page."""
    later = as_list([1, 2, 3, 4])

    assert 2 == later_page(later, shown=np.array([], int), position=0, size=2).next_position
    assert later_page(later, shown=np.array([], int), position=2, size=2).next_position is None


def test_the_radius_and_empty_places_cut_the_tail() -> None:
    """Of 3, 1, 2 and a place left empty, a radius of 0.5 keeps two."""
    hits = Hits(np.array([[3, 1, 2, -1]]), np.array([[0.9, 0.5, 0.4, -np.inf]], np.float32))

    assert [3, 1, 2] == ranked(hits).numbers.tolist()
    assert [3, 1] == ranked(hits, min_score=0.5).numbers.tolist()
    assert [] == ranked(hits, min_score=2).numbers.tolist()


@settings(max_examples=25)
@given(
    count=st.integers(1, 2_500),
    seed=st.integers(0, 2**32 - 1),
    low=st.tuples(st.integers(1, 16), st.integers(MAX_SIZE, 300)),
    high_nprobe=st.integers(1, 16),
    size=st.integers(1, MAX_SIZE),
)
def test_a_walk_over_a_real_index_goes_down_to_the_depth_limit(
    count: int, seed: int, low: tuple[int, int], high_nprobe: int, size: int
) -> None:
    """Any catalogue, any two efforts: page 1 from `low`, the rest of `high` behind it, a thousand products at most."""
    nlist = min(16, count)
    draw = np.random.default_rng(seed)
    ann = faiss_index(f"IVF{nlist},Flat", draw.normal(size=(count, 8)).astype(np.float32))
    query = draw.normal(size=(1, 8)).astype(np.float32)
    first = found(ann, query, nprobe=min(low[0], nlist), candidates=low[1])
    later = found(ann, query, nprobe=min(high_nprobe, nlist), candidates=MAX_DEPTH)

    pages = walk(first, later, [size], same_list=False, total=count)

    shown = [n for page in pages for n in page.numbers]
    assert definition(first.numbers.tolist(), later.numbers.tolist(), size) == shown
    assert len(set(shown)) == len(shown) <= MAX_DEPTH
    assert all(len(page.numbers) == size for page in pages[1:-1])
