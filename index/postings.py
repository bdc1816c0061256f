"""Which products hold a term, how well it fits each, and where it stands: the arrays behind BM25.

A product's texts are kept apart in two fields, and a term scores by the better one (best field): adding them up would
count a title again for every word that the description repeats. That score depends on nothing but the generation, so it
is worked out when the generation is written, and a search only adds.
"""

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from index.bm25 import frequency, rarity
from index.errors import IndexFileError
from index.files import mapped_array
from index.sums import Posting
from index.typos import letter_sets
from index.words import GAP

FIELDS = 2


_REMEDY = "run `que2search build` again"
_NOWHERE = Posting(np.empty(0, np.uint32), np.empty(0, np.float32), 0.0)


class Postings(NamedTuple):
    """All terms of a generation; v terms, p pairs of a term and a product, t places of a term in a text."""

    words: np.ndarray  # (v,) the terms as UTF-8 bytes, ascending
    letters: np.ndarray  # (v,) uint64, the letters of each term, for `index.typos`
    starts: np.ndarray  # (v + 1,) int64: term i has the pairs starts[i] to starts[i + 1]
    rows: np.ndarray  # (p,) uint32
    scores: np.ndarray  # (p,) float32
    best: np.ndarray  # (v,) float32
    place_starts: np.ndarray  # (v + 1,) int64: as `starts`, of the places
    places: np.ndarray  # (t,) uint32, ascending per term: counted through all texts, with a gap behind each
    row_starts: np.ndarray  # (n + 1,) uint32: the first place of each row
    held: np.ndarray  # (FIELDS, v) uint32: products that hold each term in each field
    lengths: np.ndarray  # (FIELDS,) float64: mean terms of the field, 1 at least

    @staticmethod
    def of(products: Iterable[Sequence[Sequence[str]]]) -> "Postings":
        """From the terms of each product's fields, product by product in the order of rows."""
        number_of = {GAP: 0}
        stream, lengths = array("I"), array("I")
        for fields in products:
            for terms in fields:
                stream.extend([number_of.setdefault(term, len(number_of)) for term in terms])
                stream.append(number_of[GAP])
                lengths.append(len(terms) + 1)
        return _inverted(list(number_of), _numpy(stream), _numpy(lengths))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map what `save` wrote: processes share its pages.

        Raises:
            IndexFileError: missing or damaged.
        """
        opened = cls(*(mapped_array(path / f"{name}.npy", remedy=_REMEDY) for name in cls._fields))
        if (len(opened.rows), len(opened.places)) != (opened.starts[-1], opened.place_starts[-1]):
            raise IndexFileError(f"the lexical index {path} is cut short; {_REMEDY}")
        return opened

    def save(self, path: Path) -> None:
        """Write one array per file.

        Raises:
            IndexFileError: the directory cannot be written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            for name, values in self._asdict().items():
                np.save(path / f"{name}.npy", values)
        except OSError as exc:
            raise IndexFileError(f"cannot write the lexical index to {path}: {exc}") from exc

    @property
    def products(self) -> int:
        return len(self.row_starts) - 1

    def posting(self, term: str) -> Posting:
        """The products that hold a term, whichever the field."""
        at = self._number_of(term)
        if at is None:
            return _NOWHERE
        pairs = slice(self.starts[at], self.starts[at + 1])
        return Posting(self.rows[pairs], self.scores[pairs], float(self.best[at]))

    def rarities(self, term: str) -> tuple[float, ...]:
        """What a term is worth in each field; most of all one that no product holds."""
        at = self._number_of(term)
        held = [0] * FIELDS if at is None else self.held[:, at].tolist()
        return tuple(float(rarity(count, products=self.products)) for count in held)

    def rows_with_phrase(self, terms: Sequence[str]) -> np.ndarray:
        """(r,) uint32, ascending: the rows where the terms stand side by side in one field."""
        (distance, places), *others = sorted(enumerate(map(self._places, terms)), key=lambda pair: len(pair[1]))
        begins = places - np.uint32(distance)
        for other, elsewhere in others:
            begins = begins[are_in(begins + np.uint32(other), elsewhere)]
        return np.unique(self.row_starts.searchsorted(begins, side="right") - 1).astype(np.uint32)

    def _places(self, term: str) -> np.ndarray:
        at = self._number_of(term)
        if at is None:
            return self.places[:0]
        return self.places[self.place_starts[at] : self.place_starts[at + 1]]

    def _number_of(self, term: str) -> int | None:
        word = term.encode()
        if len(word) > self.words.itemsize:  # numpy would widen the whole array to compare it
            return None
        at = int(self.words.searchsorted(word))
        return at if at < len(self.words) and self.words[at] == word else None


def _numpy(numbers: "array[int]") -> np.ndarray:
    return np.frombuffer(numbers, dtype=np.uint32) if numbers else np.empty(0, np.uint32)


def _inverted(names: list[str], stream: np.ndarray, lengths: np.ndarray) -> Postings:
    """From all texts one behind the other as numbers of terms, 0 being a gap, and how many numbers each text has."""
    words = np.array([name.encode() for name in names[1:]], dtype=np.bytes_)
    ascending = np.argsort(words)
    rank = np.empty(len(names), dtype=np.uint32)
    rank[1 + ascending] = np.arange(len(words))
    places = np.flatnonzero(stream).astype(np.uint32)
    places = places[np.argsort(rank[stream[places]], kind="stable")]
    term = rank[stream[places]]
    place_starts = np.searchsorted(term, np.arange(len(words) + 1))
    # One run per pair of a term and a text, and of those one or two per pair of a term and a product.
    text = np.repeat(np.arange(len(lengths), dtype=np.uint32), lengths)[places]
    first = _run_starts(term, text)
    term, text, times = term[first], text[first], np.diff(first, append=len(places))
    held, means = _statistics(term, text, lengths - 1, terms=len(words))
    scores = _bm25(term, text, times, lengths - 1, held, means)
    row = text // FIELDS
    pairs = _run_starts(term, row)
    scores = np.maximum.reduceat(scores, pairs) if len(pairs) else scores
    starts = np.searchsorted(term[pairs], np.arange(len(words) + 1))
    return Postings(
        words=words[ascending],
        letters=letter_sets(names[1:])[ascending],
        starts=starts,
        rows=row[pairs],
        scores=scores,
        best=np.maximum.reduceat(scores, starts[:-1]) if len(words) else scores,
        place_starts=place_starts,
        places=places,
        row_starts=np.concatenate([[0], np.cumsum(lengths)[FIELDS - 1 :: FIELDS]]).astype(np.uint32),
        held=held.astype(np.uint32),
        lengths=means,
    )


def _run_starts(*keys: np.ndarray) -> np.ndarray:
    """Where a run of equal keys begins."""
    changes = np.zeros(len(keys[0]), dtype=bool)
    changes[:1] = True
    for key in keys:
        changes[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changes)


def _statistics(
    term: np.ndarray, text: np.ndarray, lengths: np.ndarray, *, terms: int
) -> tuple[np.ndarray, np.ndarray]:
    """How many texts of each field hold each term, (FIELDS, terms), and how many terms they have on average."""
    held = np.stack([np.bincount(term[text % FIELDS == field], minlength=terms) for field in range(FIELDS)])
    means = lengths.reshape(-1, FIELDS).sum(axis=0) / max(1, len(lengths) // FIELDS)
    return held, np.maximum(1.0, means)


def _bm25(
    term: np.ndarray, text: np.ndarray, times: np.ndarray, lengths: np.ndarray, held: np.ndarray, means: np.ndarray
) -> np.ndarray:
    """(runs,) float32: the score of each term in each text that holds it, field by field."""
    scores = np.empty(len(term), dtype=np.float32)
    for field in range(FIELDS):
        here = np.flatnonzero(text % FIELDS == field)
        worth = rarity(held[field], products=len(lengths) // FIELDS)
        scores[here] = worth[term[here]] * frequency(times[here], lengths[text[here]] / means[field])
    return scores


def are_in(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(len(values),) bool, for ascending `among`: one look-up per value, however long the other list."""
    if not len(among):
        return np.zeros(len(values), dtype=bool)
    at = among.searchsorted(values)
    at[at == len(among)] = 0
    found: np.ndarray = among[at] == values
    return found
