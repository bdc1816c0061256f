"""BM25 over title, description and brand: words in, product numbers out.

Text is cut into terms here and not by tantivy, so that a query is data and never query syntax, and so that products and
queries are cut alike. A term scores by its best field (disjunction max): summing the fields would count a product's
title again for every word that its description repeats.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import tantivy

from index.errors import IndexFileError

FIELDS = ("title", "description", "brand")
_LONGEST_TERM = 64  # characters; longer ones are codes or noise
_WRITER_BYTES = 512_000_000  # at most: enough that a million products become one segment

# Ideographs and kana: written without spaces, so a run of them holds several words.
_UNSPACED = "\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_RUNS = re.compile(f"(?P<unspaced>[{_UNSPACED}]+)|[^\\W_{_UNSPACED}]+")
_ACCENTS = re.compile("[\u0300-\u036f]")  # Latin ones; the marks that tell kana apart lie elsewhere


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
    """An inverted index of products. Safe to share between threads: no search changes it."""

    def __init__(self, inverted: tantivy.Index) -> None:
        self._schema = inverted.schema
        self._searcher = inverted.searcher()

    @classmethod
    def build(cls, products: Iterable[LexicalProduct], *, path: Path | None = None) -> Self:
        """Index products given in ascending order of their numbers, in memory or in the directory `path`.

        Raises:
            IndexFileError: the directory cannot be written.
        """
        try:
            if path is not None:
                path.mkdir(parents=True, exist_ok=True)
            inverted = tantivy.Index(_schema(), path=None if path is None else str(path), reuse=False)
            writer = inverted.writer(_WRITER_BYTES, num_threads=1)  # one thread keeps the products' order
            for product in products:
                writer.add_document(_document(product))
            writer.commit()
            writer.wait_merging_threads()
            inverted.reload()
        except (OSError, ValueError) as exc:
            raise IndexFileError(f"cannot write the lexical index to {path}: {exc}") from exc
        return cls(inverted)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open what `build` wrote.

        Raises:
            IndexFileError: missing or damaged.
        """
        try:
            return cls(tantivy.Index.open(str(path)))
        except (OSError, ValueError) as exc:
            raise IndexFileError(f"cannot open the lexical index {path}: {exc}; run `que2search build` again") from exc

    @property
    def count(self) -> int:
        return int(self._searcher.num_docs)

    def search(self, query: str, *, k: int) -> LexicalHits:
        """The best k products that share a term with the query; among equal scores the smaller numbers."""
        wanted, limit = self._query(query), k
        while True:
            found = self._hits(wanted, limit=limit)
            # Within a segment tantivy breaks ties by the order of writing, which is ours; across segments it does not,
            # so all that tie with the last place are fetched before they are put in order.
            tied = self._searcher.num_segments > 1 and len(found.scores) == limit
            if not tied or found.scores[k - 1] > found.scores[-1]:
                return LexicalHits(found.numbers[:k], found.scores[:k])
            limit *= 4

    def scores(self, query: str, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n,) float32: the BM25 score of each of the given products, 0 where it shares no term with the query."""
        wanted = [int(number) for number in numbers]
        among = tantivy.Query.const_score_query(tantivy.Query.term_set_query(self._schema, "number", wanted), 0.0)
        among = among.and_must_match(self._query(query))
        found = self._hits(among, limit=max(1, len(wanted)))
        score_of = dict(zip(found.numbers.tolist(), found.scores.tolist(), strict=True))
        return np.array([score_of.get(number, 0.0) for number in wanted], dtype=np.float32)

    def _query(self, text: str) -> tantivy.Query:
        return tantivy.Query.boolean_query(
            [(tantivy.Occur.Should, self._best_field(term)) for term in dict.fromkeys(terms(text, query=True))]
        )

    def _best_field(self, term: str) -> tantivy.Query:
        return tantivy.Query.disjunction_max_query(
            [tantivy.Query.term_query(self._schema, field, term, "freq") for field in FIELDS]
        )

    def _hits(self, query: tantivy.Query, *, limit: int) -> LexicalHits:
        found: list[tuple[float, Any]] = self._searcher.search(query, limit, count=False).hits
        values = self._searcher.fast_field_values("number", [address for _, address in found])
        numbers = np.array(values, dtype=np.int64)
        scores = np.array([score for score, _ in found], dtype=np.float32)
        order = np.lexsort((numbers, -scores))
        return LexicalHits(numbers[order], scores[order])


def terms(text: str, *, query: bool = False) -> Iterator[str]:
    """The terms of a text: folded words without a plural s, and n-grams of what is written without spaces.

    A product's unspaced run gives its characters and their pairs; a query's gives pairs, or the one character that
    it is. On the 121 exact Japanese matches of ESCI `pairs_dev` among 253 products, pairs put 88 % into the first ten,
    single characters 81 %, triples 82 %, whole runs 44 %.
    """
    for run in _RUNS.finditer(_folded(text)):
        if run["unspaced"] is None:
            yield _singular(run[0])[:_LONGEST_TERM]
        else:
            yield from _ngrams(run[0], singles=not query)


def _folded(text: str) -> str:
    """One form for width, case and accents: a shopper types "telefono" for "Teléfono"."""
    split = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFC", _ACCENTS.sub("", split))


def _singular(word: str) -> str:
    """Without the plural s of English, Spanish, Portuguese and French; both sides are cut alike, so no word is lost."""
    return word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] != "s" else word


def _ngrams(run: str, *, singles: bool) -> Iterator[str]:
    if singles or len(run) == 1:
        yield from run
    yield from (run[at : at + 2] for at in range(len(run) - 1))


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for field in FIELDS:
        builder.add_text_field(field, tokenizer_name="whitespace", index_option="freq")
    builder.add_unsigned_field("number", fast=True, indexed=True)
    return builder.build()


def _document(product: LexicalProduct) -> tantivy.Document:
    document = tantivy.Document()
    document.add_unsigned("number", product.number)
    for field in FIELDS:
        document.add_text(field, " ".join(terms(getattr(product, field) or "")))
    return document
