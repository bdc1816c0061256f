"""Hits of many sellers instead of one: a list without what comes after a seller's first few products in it."""

import numpy as np

from index.ann import Ranked
from index.live import LiveIndex


class SellerCap:
    """Caps the products of one seller, over all pages together.

    Args:
        live: knows the seller of each product.
    """

    def __init__(self, live: LiveIndex) -> None:
        self._live = live

    def capped(self, hits: Ranked, most: int | None, *, shown: np.ndarray | None = None) -> Ranked:
        """The list with at most `most` products of each seller (None: all), those of page 1 counted.

        Args:
            hits: any list.
            most: products of one seller, 1 or more.
            shown: (s,) int64, the products of page 1, which stay in the list; none for page 1 itself.
        """
        if most is None:
            return hits
        before = np.empty(0, dtype=np.int64) if shown is None else shown
        fresh = ~np.isin(hits.numbers, before)
        numbers = np.concatenate([before, hits.numbers[fresh]])
        sellers = self._live.sellers_of(numbers)
        kept = (occurrence(sellers) < most) | (sellers < 0)  # a product without a seller is never left out
        keep = ~fresh
        keep[fresh] = kept[len(before) :]
        return Ranked(hits.numbers[keep], hits.scores[keep])


def occurrence(values: np.ndarray) -> np.ndarray:
    """(n,) int64: how many equal values come before each of the (n,) values."""
    order = np.argsort(values, kind="stable")
    in_order = values[order]
    first = np.searchsorted(in_order, in_order)
    count = np.empty(len(values), dtype=np.int64)
    count[order] = np.arange(len(values)) - first
    return count
