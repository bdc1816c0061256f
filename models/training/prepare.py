"""From a dataset to a featuriser: the tokenizer, the country list and the lengths."""

from collections.abc import Iterator

import msgspec
import numpy as np
import polars as pl

from models.config import RunConfig
from models.data.schema import Dataset
from models.errors import DataError
from models.features import FeatureSpec, Featurizer, query_token_limit, train_tokenizer
from models.pretrained import tokenizer_of
from models.tokenizers import Tokenizer

TOKENIZER_PRODUCTS = 40_000  # enough text for a vocabulary; spread evenly over the catalogue
QUERY_SAMPLE = 50_000


def prepare_featurizer(dataset: Dataset, pairs: pl.DataFrame, config: RunConfig) -> Featurizer:
    """Measure what the spec needs; the tokenizer is a pretrained encoder's, or trained on the data's own text.

    Raises:
        DataError: the dataset has no text to learn from, or images of several sizes.
    """
    features = config.features
    queries = pairs["query"].head(QUERY_SAMPLE).to_list()
    tokenizer = tokenizer_of(config.model) or _trained_tokenizer(dataset, queries, vocabulary=features.vocabulary)
    spec = FeatureSpec(
        trigram_rows=features.trigram_rows,
        query_tokens=features.query_tokens
        or features.title_tokens,  # only until the queries are measured with this very tokenizer
        title_tokens=features.title_tokens,
        description_tokens=features.description_tokens,
        countries=tuple(sorted({code.upper() for code in pairs["country"].drop_nulls().unique()})),
        image_dim=image_dim(dataset),
        languages=_languages(dataset) if "language" in config.model.document_channels else (),
        text_tokens=features.text_tokens if "text" in config.model.document_channels else 0,
    )
    draft = Featurizer(spec, tokenizer)
    if features.query_tokens:
        return draft
    counts = np.array([len(draft.text_ids(query, features.title_tokens).tokens) for query in queries])
    return Featurizer(msgspec.structs.replace(spec, query_tokens=query_token_limit(counts)), tokenizer)


def _trained_tokenizer(dataset: Dataset, queries: list[str], *, vocabulary: int) -> Tokenizer:
    try:
        return train_tokenizer(_texts(dataset, queries), vocabulary=vocabulary)
    except RuntimeError as exc:
        raise DataError(f"{dataset.path} has too little text to train a tokenizer on: {exc}") from exc


def image_dim(dataset: Dataset) -> int:
    """The one size of all image vectors, 0 where there are none."""
    sizes: set[int] = set()
    for batch in dataset.product_batches():
        images = batch["image_vectors"].flatten()
        sizes |= set(images.value_lengths().unique().to_pylist()) - {None}
    if len(sizes) > 1:
        raise DataError(f"{dataset.path} has image vectors of sizes {sorted(sizes)}; all must have one size")
    return sizes.pop() if sizes else 0


def _languages(dataset: Dataset) -> tuple[str, ...]:
    codes = dataset.products(["language"])["language"].drop_nulls().unique()
    return tuple(sorted({code.lower() for code in codes}))


def _texts(dataset: Dataset, queries: list[str]) -> Iterator[str]:
    every = max(1, dataset.product_count // TOKENIZER_PRODUCTS)
    for batch in dataset.product_batches():
        for column in ("title", "description"):
            yield from (text for text in batch[column].to_pylist()[::every] if text)
    yield from queries
