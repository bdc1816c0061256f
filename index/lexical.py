"""The lexical leg of a search: BM25 over title, brand and description, words in, product numbers out.

Every term's score for every product is on disk (`index.postings`). A search adds up the lists of its terms
(`index.sums`), and a filter cuts them before that, so what is found is exact, filtered or not.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from index.ann import RowFilter
from index.errors import IndexFileError, SpecError
from index.postings import Postings, are_in
from index.sums import Posting, Sums, in_order
from index.typos import Spelling
from index.words import GAP, Asked, asked, stored_terms

_PER_EDIT = 0.75  # share of its score that a corrected word keeps


class LexicalProduct(NamedTuple):
    """The words of one product."""

    number: int
    title: str
    description: str | None = None
    brand: str | None = None


class LexicalHits(NamedTuple):
    """What one query found, sorted by (-score, number); n is at most the k asked for."""

    numbers: np.ndarray  # (n,) int64 product numbers, best first
    scores: np.ndarray  # (n,) float32 BM25, above 0


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
        if k < 1:
            raise SpecError(f"k={k} must be at least 1")
        wanted = asked(query)
        allowed = self._allowed(wanted, only)
        rows, scores = self._sums.best(list(self._lists(wanted.terms)), k=k, allowed=allowed)
        return LexicalHits(self._numbers[rows].astype(np.int64), scores)

    def scores(self, query: str, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n,) float32: the score that `search` gives each of the given products, 0 where it would not find it."""
        wanted = asked(query)
        sought = np.asarray(numbers, dtype=np.uint32)
        rows = self._numbers.searchsorted(sought).astype(np.uint32)
        held = are_in(sought, self._numbers)
        scores = np.zeros(len(sought), dtype=np.float32)
        for posting in in_order(list(self._lists(wanted.terms))):
            scores[held] += posting.scores_of(rows[held])
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

    def corrections(self, query: str) -> dict[str, list[str]]:
        """The words of a query that no product holds, each with those it is taken for, the frequent ones first."""
        unheld = (term for term in asked(query).terms if not len(self._postings.posting(term).rows))
        taken = {term: list(self._spelling.corrections(term)) for term in unheld}
        return {term: words for term, words in taken.items() if words}

    def _lists(self, terms: Sequence[str]) -> Iterator[Posting]:
        for term in terms:
            posting = self._postings.posting(term)
            if len(posting.rows):
                yield posting
                continue
            for word, edits in self._spelling.corrections(term).items():
                yield self._postings.posting(word).times(_PER_EDIT**edits)

    def _allowed(self, wanted: Asked, only: RowFilter | None) -> np.ndarray | None:
        """(n,) bool: the rows that pass the filter and hold the phrases; None: all."""
        if only is not None and only.count != self.count:
            raise SpecError(f"the filter is over {only.count} rows; this index has {self.count}")
        allowed = None if only is None else only.mask()
        for phrase in wanted.phrases:
            holds = np.zeros(self.count, dtype=bool)
            holds[self._postings.rows_with_phrase(phrase)] = True
            allowed = holds if allowed is None else allowed & holds
        return allowed


def _terms_of(products: Iterable[LexicalProduct], numbers: list[int]) -> Iterator[tuple[list[str], ...]]:
    """The terms of each product's two fields; its number goes to `numbers`."""
    for product in products:
        numbers.append(product.number)
        yield (
            [*stored_terms(product.title), GAP, *stored_terms(product.brand or "")],
            stored_terms(product.description or ""),
        )
