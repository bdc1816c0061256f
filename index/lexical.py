"""The lexical leg of a search: BM25 over title, brand and description, words in, product numbers out.

Every term's score for every product is on disk (`index.postings`). A search adds up the lists of its terms
(`index.sums`), and a filter cuts them before that, so what is found is exact, filtered or not.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from index.ann import RowFilter
from index.errors import IndexFileError, SpecError
from index.postings import Postings, are_in
from index.sums import Posting, Sums
from index.typos import Spelling
from index.words import GAP, asked, stored_terms

_PER_EDIT = 0.75  # share of its score that a corrected word keeps


class LexicalProduct(NamedTuple):
    """The words of one product."""

    number: int
    title: str
    description: str | None = None
    brand: str | None = None

    @classmethod
    def of(cls, number: int, record: Mapping[str, Any]) -> Self:
        """The words of a record."""
        return cls(number, record.get("title") or "", record.get("description"), record.get("brand"))


class LexicalHits(NamedTuple):
    """What one query found, sorted by (-score, number); n is at most the k asked for."""

    numbers: np.ndarray  # (n,) int64 product numbers, best first
    scores: np.ndarray  # (n,) float32 BM25, above 0


class Word(NamedTuple):
    """A word to look for."""

    word: str
    weight: float  # 1, or less for a word that one of the query's is taken for
    posting: Posting  # of this index, so weighted


class Wanted(NamedTuple):
    """What a query asks for, as far as anything holds it."""

    words: tuple[Word, ...]  # in the order in which scores are added, rare ones first
    phrases: tuple[tuple[str, ...], ...]


class LexicalIndex:
    """The words of a generation's products. Safe to share between threads: no search changes it.

    Args:
        postings: made by `build` or opened.
        numbers: (n,) uint32, ascending: the product number of each row.
    """

    def __init__(self, postings: Postings, *, numbers: np.ndarray) -> None:
        if len(numbers) != postings.products:
            raise IndexFileError(
                f"the lexical index holds {postings.products} products but {len(numbers)} product numbers were given; "
                "run `que2search build`"
            )
        self._postings = postings
        self._numbers = np.asarray(numbers)
        self._sums = Sums(postings.products)
        self._spelling = Spelling(postings.words, postings.letters, np.diff(postings.starts))

    @classmethod
    def build(cls, products: Iterable[LexicalProduct], *, path: Path | None = None) -> Self:
        """Index products given in ascending order of their numbers, in memory or also in the directory `path`.

        Raises:
            IndexFileError: the directory cannot be written.
        """
        numbers: list[int] = []
        postings = Postings.of(_terms_of(products, numbers))
        if path is not None:
            postings.save(path)
        return cls(postings, numbers=np.array(numbers, dtype=np.uint32))

    @classmethod
    def open(cls, path: Path, *, numbers: np.ndarray | None = None) -> Self:
        """Open what `build` wrote, for the product numbers of its rows; None: rows are numbers.

        Raises:
            IndexFileError: missing, damaged, or of another number of products.
        """
        postings = Postings.open(path)
        return cls(postings, numbers=np.arange(postings.products, dtype=np.uint32) if numbers is None else numbers)

    @property
    def count(self) -> int:
        return self._postings.products

    def search(self, query: str, *, k: int, only: RowFilter | None = None) -> LexicalHits:
        """The best k products that share a term with the query; among equal scores the smaller numbers.

        "Words in double quotes" must stand side by side in the title, brand or description. A word that no product
        holds is taken for the nearest ones that some do, at a lower score.

        Args:
            query: text; nothing in it is syntax but double quotes.
            k: length of the list, at least 1.
            only: the rows that may be found; None: all of them.

        Raises:
            SpecError: k < 1, or `only` is over another number of rows.
        """
        return self.best(self.wanted(query), k=k, only=only)

    def wanted(self, query: str, *, elsewhere: Callable[[str], bool] | None = None) -> Wanted:
        """Read a query, once for any number of searches.

        Args:
            query: text.
            elsewhere: whether products beside those of this index hold a word; none that they hold is a typo.
        """
        terms, phrases = asked(query)
        # Shortest first, whatever the filter: added in one order always, equal products get equal sums to the last bit.
        words = sorted(self._words(terms, elsewhere), key=lambda word: len(word.posting.rows))
        return Wanted(tuple(words), phrases)

    def best(self, wanted: Wanted, *, k: int, only: RowFilter | None = None) -> LexicalHits:
        """`search` for a query that was read."""
        if k < 1:
            raise SpecError(f"k={k} must be at least 1")
        lists = [word.posting for word in wanted.words if len(word.posting.rows)]
        rows, scores = self._sums.best(lists, k=k, allowed=self._allowed(wanted.phrases, only))
        return LexicalHits(self._numbers[rows].astype(np.int64), scores)

    def scores(self, query: str, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n,) float32: the score that `search` gives each of the given products, 0 where it would not find it."""
        return self.scores_of(self.wanted(query), numbers)

    def scores_of(self, wanted: Wanted, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """`scores` for a query that was read."""
        sought = np.asarray(numbers, dtype=np.uint32)
        rows = self._numbers.searchsorted(sought).astype(np.uint32)
        held = are_in(sought, self._numbers)
        scores = np.zeros(len(sought), dtype=np.float32)
        for word in wanted.words:
            scores[held] += word.posting.scores_of(rows[held])
        for phrase in wanted.phrases:
            scores[~are_in(rows, self._postings.rows_with_phrase(phrase))] = 0
        return scores

    def rows_with(self, text: str) -> np.ndarray:
        """(r,) int64, ascending: the rows that hold every word of the text, as it is spelt, and its phrases.

        Empty where the text has no words.
        """
        wanted = asked(text)
        lists = sorted((self._postings.posting(term).rows for term in wanted.terms), key=len)
        if not lists:
            return np.empty(0, dtype=np.int64)
        rows = lists[0]
        for others in (*lists[1:], *map(self._postings.rows_with_phrase, wanted.phrases)):
            rows = rows[np.isin(rows, others, kind="table")]
        return rows.astype(np.int64)

    def corrections(self, query: str, *, elsewhere: Callable[[str], bool] | None = None) -> dict[str, list[str]]:
        """The words of a query that no product holds, each with those it is taken for, the frequent ones first.

        See `wanted` for `elsewhere`.
        """
        terms = (term for term in asked(query).terms if not len(self._postings.posting(term).rows))
        unheld = [term for term in terms if elsewhere is None or not elsewhere(term)]
        taken = {term: list(self._spelling.corrections(term)) for term in unheld}
        return {term: words for term, words in taken.items() if words}

    @property
    def lengths(self) -> tuple[float, ...]:
        """The mean length of each of a product's two texts, in terms."""
        return tuple(self._postings.lengths.tolist())

    def rarities(self, term: str) -> tuple[float, ...]:
        """What a term is worth in each of a product's two texts."""
        return self._postings.rarities(term)

    def _words(self, terms: Sequence[str], elsewhere: Callable[[str], bool] | None) -> Iterator[Word]:
        for term in terms:
            posting = self._postings.posting(term)
            if len(posting.rows) or (elsewhere is not None and elsewhere(term)):
                yield Word(term, 1.0, posting)
                continue
            for word, edits in self._spelling.corrections(term).items():
                weight = _PER_EDIT**edits
                yield Word(word, weight, self._postings.posting(word).times(weight))

    def _allowed(self, phrases: Sequence[tuple[str, ...]], only: RowFilter | None) -> np.ndarray | None:
        """(n,) bool: the rows that pass the filter and hold the phrases; None: all."""
        if only is not None and only.count != self.count:
            raise SpecError(f"the filter is over {only.count} rows; this index has {self.count}")
        allowed = None if only is None else only.mask()
        for phrase in phrases:
            holds = np.zeros(self.count, dtype=bool)
            holds[self._postings.rows_with_phrase(phrase)] = True
            allowed = holds if allowed is None else allowed & holds
        return allowed


def _terms_of(products: Iterable[LexicalProduct], numbers: list[int]) -> Iterator[tuple[list[str], ...]]:
    """The terms of each product's two texts; its number goes to `numbers`."""
    for product in products:
        numbers.append(product.number)
        yield texts_of(product)


def texts_of(product: LexicalProduct) -> tuple[list[str], list[str]]:
    """The terms of a product's two texts, title with brand, and description; gaps between what no phrase may join."""
    return (
        [*stored_terms(product.title), GAP, *stored_terms(product.brand or "")],
        stored_terms(product.description or ""),
    )
