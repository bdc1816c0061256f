"""Training batches: every text is featurised once, then rows are gathered and padded per batch."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl

from models.data.schema import Dataset
from models.features import DocumentFeatures, Featurizer, QueryFeatures, TextIds
from models.tokenizers import CLS

WINDOW = 16  # batches whose pairs are sorted by document length together


class Ragged:
    """Rows of different lengths in one array."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.lengths = np.array([len(row) for row in rows], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self._values = np.fromiter((value for row in rows for value in row), dtype=np.int32, count=self._starts[-1])

    def padded(self, rows: np.ndarray) -> np.ndarray:
        """The given rows as (n, longest) int64, 0 behind each row's end; at least one column wide."""
        lengths = self.lengths[rows]
        at = np.arange(int(lengths.max(initial=1)))  # (longest,)
        inside = at < lengths[:, None]  # (n, longest)
        padded = np.zeros(inside.shape, dtype=np.int64)
        padded[inside] = self._values[(self._starts[rows][:, None] + at)[inside]]
        return padded


class QueryTable:
    """The features of distinct (query, country) pairs."""

    def __init__(self, queries: pl.DataFrame, featurizer: Featurizer) -> None:
        """`queries` has the columns query and country; a row's number is its place in the frame."""
        ids = [featurizer.text_ids(text, featurizer.spec.query_tokens) for text in queries["query"]]
        self._tokens, self._trigrams = _columns(ids)
        self._country_ids = featurizer.country_ids(queries["country"])

    def __len__(self) -> int:
        return len(self._country_ids)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, (n,)."""
        return self._tokens.lengths

    def batch(self, rows: np.ndarray) -> QueryFeatures:
        return QueryFeatures(
            token_ids=self._tokens.padded(rows),
            trigram_ids=self._trigrams.padded(rows),
            country_ids=self._country_ids[rows],
        )


class DocumentTable:
    """The features of a dataset's products; a row's number is its place in the file."""

    def __init__(self, dataset: Dataset, featurizer: Featurizer) -> None:
        spec = featurizer.spec
        titles: list[TextIds] = []
        descriptions: list[TextIds] = []
        texts: list[list[int]] = []
        images, masks, languages, countries = [], [], [], []
        self.row_of: dict[str, int] = {}
        for batch in dataset.product_batches():
            for product_id in batch["product_id"].to_pylist():
                self.row_of[product_id] = len(self.row_of)
            titles += [featurizer.text_ids(text, spec.title_tokens) for text in batch["title"].to_pylist()]
            descriptions += [
                featurizer.text_ids(text or "", spec.description_tokens) for text in batch["description"].to_pylist()
            ]
            fields = zip(batch["title"].to_pylist(), batch["description"].to_pylist(), strict=True)
            texts += [featurizer.whole_text_ids(title, description) for title, description in fields]
            vectors, mask = featurizer.images(batch["image_vectors"].to_pylist())
            images.append(vectors)
            masks.append(mask)
            languages.append(featurizer.language_ids(batch["language"].to_pylist()))
            countries.append(featurizer.country_ids(batch["country"].to_pylist()))
        self._title_tokens, self._title_trigrams = _columns(titles)
        self._description_tokens, self._description_trigrams = _columns(descriptions)
        self._texts = Ragged(texts)
        self._images = np.concatenate(images)
        self._image_mask = np.concatenate(masks)
        self._language_ids = np.concatenate(languages)
        self._country_ids = np.concatenate(countries)

    def __len__(self) -> int:
        return len(self.row_of)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row's longest text, (n,)."""
        longest = np.maximum(self._title_tokens.lengths, self._description_tokens.lengths)
        return np.maximum(longest, self._texts.lengths)

    def without(self, *, descriptions: bool = False, images: bool = False) -> "DocumentTable":
        """The same products with their descriptions or their images missing."""
        table = copy.copy(self)
        if descriptions:
            blank = {
                "_description_tokens": Ragged([[CLS]] * len(self)),
                "_description_trigrams": Ragged([[]] * len(self)),
                "_texts": self._title_tokens,
            }
            vars(table).update(blank)
        if images:
            vars(table).update(_images=np.zeros_like(self._images), _image_mask=np.zeros_like(self._image_mask))
        return table

    def batch(self, rows: np.ndarray) -> DocumentFeatures:
        return DocumentFeatures(
            title_ids=self._title_tokens.padded(rows),
            description_ids=self._description_tokens.padded(rows),
            title_trigram_ids=self._title_trigrams.padded(rows),
            description_trigram_ids=self._description_trigrams.padded(rows),
            images=self._images[rows],
            image_mask=self._image_mask[rows],
            language_ids=self._language_ids[rows],
            country_ids=self._country_ids[rows],
            text_ids=self._texts.padded(rows),
        )


class Rows(Protocol):
    """What a tower reads, by row."""

    @property
    def lengths(self) -> np.ndarray: ...
    def __len__(self) -> int: ...
    def batch(self, rows: np.ndarray) -> Any: ...  # a named tuple with the features that the tower names


class ProductRows(Rows, Protocol):
    """The same, of products."""

    row_of: dict[str, int]


class NumberedPairs(NamedTuple):
    """p (query, product) pairs as row numbers."""

    queries: pl.DataFrame  # the distinct (query, country) pairs, in order of appearance
    query_rows: np.ndarray  # (p,) int64, into `queries`
    document_rows: np.ndarray  # (p,) int64, into the document table


def number_pairs(pairs: pl.DataFrame, documents: ProductRows) -> NumberedPairs:
    """Give each query, and each product of `documents`, its row; `pairs` has query, country and product_id."""
    queries = pairs.select("query", "country").unique(maintain_order=True).with_row_index("row")
    joined = pairs.join(queries, on=["query", "country"], how="left", nulls_equal=True, maintain_order="left")
    document_rows = [documents.row_of[product] for product in pairs["product_id"]]
    return NumberedPairs(queries, joined["row"].to_numpy().astype(np.int64), np.array(document_rows, dtype=np.int64))


class PairBatch(NamedTuple):
    """b positive pairs: query i wants document i. Documents b to n, where there are any, are mined hard negatives."""

    query_rows: np.ndarray  # (b,) int64, into the query table
    document_rows: np.ndarray  # (n,) int64, into the document table
    known_positives: np.ndarray  # (b, n) bool: query i is known to want document j


class HardNegatives(Protocol):
    """Where the hard negatives of a batch come from."""

    def draw(self, query_rows: np.ndarray, *, seed: Sequence[int]) -> np.ndarray:
        """Document rows (h,) for a batch of these queries; the same seed draws the same."""
        ...


class PairBatches:
    """Shuffled batches of (query row, document row) pairs; the order depends on seed and epoch alone."""

    def __init__(
        self,
        pairs: np.ndarray,  # (p, 2) int64: query row, document row
        *,
        queries: QueryTable,
        documents: ProductRows,
        batch: int,
        seed: int,
        further_positives: np.ndarray | None = None,  # (f, 2) pairs that are no negatives either
    ) -> None:
        self.pairs = pairs
        self.queries = queries
        self.documents = documents
        self.size = min(batch, len(pairs))
        self._seed = seed
        known = pairs if further_positives is None else np.concatenate([pairs, further_positives])
        self._known = np.unique(self._key(known[:, 0], known[:, 1]))

    def __len__(self) -> int:
        """Batches per epoch; the pairs left over wait for another epoch's order."""
        return len(self.pairs) // self.size

    def epoch(self, number: int, *, skip: int = 0, hard: HardNegatives | None = None) -> Iterator[PairBatch]:
        """The batches of an epoch, without the first `skip`."""
        for at, rows in enumerate(self._order(number)[skip:], start=skip):
            query_rows, document_rows = self.pairs[rows].T
            if hard is not None:
                drawn = hard.draw(query_rows, seed=[self._seed, number, at])
                document_rows = np.concatenate([document_rows, drawn])
            yield PairBatch(query_rows, document_rows, self._wanted(query_rows, document_rows))

    def _order(self, epoch: int) -> np.ndarray:
        """Pairs of each batch (batches, b). Within a window documents of like length meet, so little is padding."""
        draw = np.random.default_rng([self._seed, epoch])
        order = draw.permutation(len(self.pairs))[: len(self) * self.size]
        lengths = self.documents.lengths[self.pairs[:, 1]]
        for start in range(0, len(order), WINDOW * self.size):
            window = order[start : start + WINDOW * self.size]
            order[start : start + WINDOW * self.size] = window[np.argsort(lengths[window], kind="stable")]
        batches: np.ndarray = draw.permutation(order.reshape(len(self), self.size))
        return batches

    def _wanted(self, query_rows: np.ndarray, document_rows: np.ndarray) -> np.ndarray:
        keys = self._key(query_rows[:, None], document_rows[None, :])  # (b, n)
        places = np.searchsorted(self._known, keys).clip(max=len(self._known) - 1)
        wanted: np.ndarray = self._known[places] == keys
        return wanted

    def _key(self, query_rows: np.ndarray, document_rows: np.ndarray) -> np.ndarray:
        keys: np.ndarray = query_rows * len(self.documents) + document_rows
        return keys


def _columns(ids: Sequence[TextIds]) -> tuple[Ragged, Ragged]:
    return Ragged([row.tokens for row in ids]), Ragged([row.trigrams for row in ids])
