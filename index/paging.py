"""Pages as slices of fixed lists: no product twice, none lost, and a signed cursor to go on from.

Page 1 is the start of the first effort's list. Later pages are slices of ONE list: the later effort's, minus what
page 1 showed, cut so that all pages together hold `MAX_DEPTH` hits at most. Raising the effort after page 1 can thus
neither repeat a product nor lose one.
"""

from typing import NamedTuple

import numpy as np

from index.ann import Ranked
from index.operating_points import MAX_DEPTH


class Page(NamedTuple):
    """What one page shows."""

    numbers: np.ndarray  # (at most size,) int64
    scores: np.ndarray  # (at most size,) float32
    next_position: int | None  # where the next page starts in the later list; None when nothing follows


def first_page(first: Ranked, *, size: int, same_list: bool, total: int) -> Page:
    """The start of the first effort's list.

    Args:
        first: that list.
        size: hits per page, at least 1.
        same_list: whether later pages come from this very list (a named effort), so that its end is the end.
        total: products that can match at all. When another effort serves later pages, its list is not known yet:
            something may follow as long as fewer than `total` products were shown. Following the cursor then may
            find an empty page, which ends the walk.
    """
    shown = len(first.numbers[:size])
    end = len(first.numbers) if same_list else total
    follows = shown < min(end, MAX_DEPTH)
    return Page(first.numbers[:size], first.scores[:size], 0 if follows else None)


def later_page(later: Ranked, *, shown: np.ndarray, position: int, size: int) -> Page:
    """The page that starts at `position` of the later list minus `shown`, the product numbers of page 1."""
    unseen = np.flatnonzero(~np.isin(later.numbers, shown))[: MAX_DEPTH - len(shown)]
    rows = unseen[position : position + size]
    end = position + len(rows)
    return Page(later.numbers[rows], later.scores[rows], end if end < len(unseen) else None)


def position_of_page(page: int, *, size: int) -> int:
    """Where page n >= 2 starts in the later list, for a request without a cursor."""
    return (page - 2) * size
