"""Random pairs whose texts are as long as real ones: what a training step takes depends on lengths and sizes alone."""

from typing import NamedTuple

import numpy as np

from models.config import RunConfig
from models.features import MAX_IMAGES, DocumentFeatures, FeatureSpec, QueryFeatures
from models.tokenizers import CLS
from models.training.batches import WINDOW, PairBatch, Ragged

IMAGE_DIM = 512
QUERY_TOKENS = 16  # about the 99th percentile of queries, which is where training cuts them
TRIGRAMS_PER_TOKEN = 4  # of a piece of about four characters
_IMAGES = 1_000  # different vectors; products share them


class Lengths(NamedTuple):
    """A log-normal number of tokens, [CLS] included, cut at what the model reads."""

    median: float
    spread: float  # standard deviation of the logarithm
    missing: float = 0.0  # share of texts that are absent

    def draw(self, rows: int, draw: np.random.Generator, *, most: int) -> np.ndarray:
        """(rows,) int64; an absent text is a lone [CLS]."""
        lengths = np.exp(draw.normal(np.log(self.median), self.spread, rows)).round().clip(2, most)
        lengths[draw.random(rows) < self.missing] = 1
        return lengths.astype(np.int64)


# Between what electronics, fashion and Amazon's products have: titles of 7 to 20 words, descriptions of 10 to 200.
QUERY = Lengths(median=5, spread=0.5)
TITLE = Lengths(median=15, spread=0.55)
DESCRIPTION = Lengths(median=60, spread=1.0, missing=0.3)


def random_spec(config: RunConfig) -> FeatureSpec:
    """The feature space of a configuration whose data has images."""
    return FeatureSpec(
        trigram_rows=config.features.trigram_rows,
        query_tokens=config.features.query_tokens or QUERY_TOKENS,
        title_tokens=config.features.title_tokens,
        description_tokens=config.features.description_tokens,
        countries=("GB", "US"),
        image_dim=IMAGE_DIM,
        languages=("en", "es"),
    )


class RandomQueries:
    """What a query tower reads."""

    def __init__(self, rows: int, spec: FeatureSpec, draw: np.random.Generator, *, vocabulary: int) -> None:
        self.lengths = QUERY.draw(rows, draw, most=spec.query_tokens)
        self._tokens, self._trigrams = _text(self.lengths, spec, draw, vocabulary=vocabulary)
        self._country_ids = draw.integers(0, len(spec.countries) + 1, rows)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: np.ndarray) -> QueryFeatures:
        return QueryFeatures(self._tokens.padded(rows), self._trigrams.padded(rows), self._country_ids[rows])


class RandomDocuments:
    """What a document tower reads."""

    def __init__(self, rows: int, spec: FeatureSpec, draw: np.random.Generator, *, vocabulary: int) -> None:
        titles = TITLE.draw(rows, draw, most=spec.title_tokens)
        descriptions = DESCRIPTION.draw(rows, draw, most=spec.description_tokens)
        self.lengths = np.maximum(titles, descriptions)
        self._titles = _text(titles, spec, draw, vocabulary=vocabulary)
        self._descriptions = _text(descriptions, spec, draw, vocabulary=vocabulary)
        self._images = draw.normal(size=(_IMAGES, MAX_IMAGES, spec.image_dim)).astype(np.float32)
        images = draw.integers(0, MAX_IMAGES + 1, rows)  # of each product
        self._image_mask = (np.arange(MAX_IMAGES) < images[:, None]).astype(np.float32)
        self._country_ids = draw.integers(0, len(spec.countries) + 1, rows)
        self._language_ids = draw.integers(0, len(spec.languages) + 1, rows)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: np.ndarray) -> DocumentFeatures:
        title_ids, title_trigram_ids = (column.padded(rows) for column in self._titles)
        description_ids, description_trigram_ids = (column.padded(rows) for column in self._descriptions)
        return DocumentFeatures(
            title_ids=title_ids,
            description_ids=description_ids,
            title_trigram_ids=title_trigram_ids,
            description_trigram_ids=description_trigram_ids,
            images=self._images[rows % _IMAGES],
            image_mask=self._image_mask[rows],
            language_ids=self._language_ids[rows],
            country_ids=self._country_ids[rows],
            text_ids=title_ids,
        )


def batches_by_length(documents: RandomDocuments, *, batch: int) -> list[PairBatch]:
    """The batches of one window as training makes them, shortest documents first; query i belongs to document i."""
    order = np.argsort(documents.lengths, kind="stable")[: WINDOW * batch].reshape(WINDOW, batch)
    return [pairs_of(rows) for rows in order]


def pairs_of(rows: np.ndarray) -> PairBatch:
    """Each document with the query of its number; a query wants no other."""
    return PairBatch(rows, rows, np.eye(len(rows), dtype=bool))


def _text(
    lengths: np.ndarray, spec: FeatureSpec, draw: np.random.Generator, *, vocabulary: int
) -> tuple[Ragged, Ragged]:
    """Tokens and 3-grams of texts of so many tokens."""
    tokens = [[CLS, *draw.integers(CLS + 1, vocabulary, length - 1)] for length in lengths]
    trigrams = [draw.integers(1, spec.trigram_rows, TRIGRAMS_PER_TOKEN * (length - 1)).tolist() for length in lengths]
    return Ragged(tokens), Ragged(trigrams)
