"""Which known categories may have been meant by one that nobody has."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from heapq import nlargest
from typing import NamedTuple

from index.fields import path_key, path_parts

AT_MOST = 3
_SHORTLIST = 24  # compared letter by letter, which takes a hundred times as long as comparing sets of pairs
_ALIKE = 0.65  # of 1, as difflib counts
_OF_LAST = 0.9  # what being alike in the last part alone is worth beside being alike as a whole
_MAX_CHARS = 200  # of what was wanted; what comes behind tells no more


class _Known(NamedTuple):
    spelt: str
    whole: str  # folded, as are the others
    last: str
    pairs_of_whole: frozenset[str]
    pairs_of_last: frozenset[str]


class KnownPaths:
    """The paths that products have, and all above them.

    Args:
        paths: as they are spelt, `A > B > C`.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        spelt: dict[tuple[str, ...], str] = {}
        for path in paths:
            key, parts = path_key(path), path_parts(path)
            for depth in range(1, len(key) + 1):
                spelt.setdefault(key[:depth], " > ".join(parts[:depth]))
        self._known = [_known(path, key) for key, path in spelt.items()]

    def nearest(self, wanted: str) -> list[str]:
        """At most three, most alike first; alike as a whole or in the last part."""
        one = _known(wanted, path_key(wanted[:_MAX_CHARS]))
        shortlist = nlargest(_SHORTLIST, self._known, key=lambda known: _shared_pairs(one, known))
        alike = {known.spelt: _alike(one, known) for known in shortlist}
        return nlargest(AT_MOST, [path for path, share in alike.items() if share >= _ALIKE], key=alike.__getitem__)


def _known(spelt: str, key: tuple[str, ...]) -> _Known:
    whole, last = " > ".join(key), key[-1]
    return _Known(spelt, whole, last, _pairs(whole), _pairs(last))


def _pairs(text: str) -> frozenset[str]:
    """Neighbouring characters, with a blank around the text so that its ends count."""
    padded = f" {text} "
    return frozenset(padded[i : i + 2] for i in range(len(padded) - 1))


def _shared_pairs(one: _Known, other: _Known) -> float:
    """The share of pairs in common, of the whole or the last part."""
    whole, last = one.pairs_of_whole, one.pairs_of_last
    return max(
        len(whole & other.pairs_of_whole) / (len(whole) + len(other.pairs_of_whole)),
        _OF_LAST * len(last & other.pairs_of_last) / (len(last) + len(other.pairs_of_last)),
    )


def _alike(one: _Known, other: _Known) -> float:
    return max(
        SequenceMatcher(a=other.whole, b=one.whole, autojunk=False).ratio(),
        _OF_LAST * SequenceMatcher(a=other.last, b=one.last, autojunk=False).ratio(),
    )
