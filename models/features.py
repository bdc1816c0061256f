"""Text, countries and images into the numbers a tower reads: one featuriser for training and serving.

Three kinds of features (Que2Search section 3.1): SentencePiece pieces behind a [CLS], character 3-grams hashed by
MurmurHash into a fixed table, and the searcher's country. The same normalised text feeds both text features. The
ids depend only on `features.json` and the tokenizer, so their hash names the feature space; a release holds it.
"""

import hashlib
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import mmh3
import msgspec
import numpy as np
import sentencepiece
from msgspec import Meta

from models.errors import ReleaseError
from models.tokenizers import CLS, PAD, UNKNOWN_PIECE, SentencePieceTokenizer, Tokenizer, load_tokenizer

FEATURES_FILE = "features.json"
UNKNOWN_COUNTRY = 0
TRIGRAMS_PER_TOKEN = 6  # a piece is about four characters; past this many 3-grams per token a text is cut
MAX_IMAGES = 5  # Que2Search section 5
REMEMBERED_TRIGRAMS = 1 << 16  # by a featuriser; queries share most of theirs

UNREADABLE = (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what reading JSON of a file raises
Length = Annotated[int, Meta(ge=1, le=65_536)]  # of a text in tokens
MaybeLength = Annotated[int, Meta(ge=0, le=65_536)]

ImageVectors = Sequence[Sequence[float]] | None  # of one product


class FeatureSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What, beside the tokenizer, decides every id. Written once when a run starts, never changed."""

    version: int = 1
    trigram_rows: Annotated[int, Meta(ge=2, le=2**31)]  # the first one is padding
    query_tokens: Length  # [CLS] included, as in the others
    title_tokens: Length
    description_tokens: Length
    countries: tuple[str, ...]  # ISO 3166 codes; the id is the position + 1, 0 is unknown
    image_dim: MaybeLength  # 0: the data has no images
    hash_seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    languages: tuple[str, ...] = ()  # of documents, numbered as countries are; known where a channel reads them
    text_tokens: MaybeLength = 0  # of a title and its description as one text; 0 where no channel reads them so


class TextIds(NamedTuple):
    """One text, not padded."""

    tokens: list[int]  # [CLS] first
    trigrams: list[int]
    truncated: bool  # it had more tokens than the model reads


class QueryFeatures(NamedTuple):
    """n queries; rows are padded with 0."""

    token_ids: np.ndarray  # (n, t) int64, [CLS] first
    trigram_ids: np.ndarray  # (n, g) int64
    country_ids: np.ndarray  # (n,) int64
    truncated: tuple[bool, ...] = ()  # by query: it had more tokens than the model reads


class DocumentFeatures(NamedTuple):
    """n documents; rows are padded with 0, a missing description is a lone [CLS]."""

    title_ids: np.ndarray  # (n, t) int64
    description_ids: np.ndarray  # (n, u) int64
    title_trigram_ids: np.ndarray  # (n, g) int64
    description_trigram_ids: np.ndarray  # (n, h) int64
    images: np.ndarray  # (n, MAX_IMAGES, image_dim) float32, absent ones are zero
    image_mask: np.ndarray  # (n, MAX_IMAGES) float32, 1 where there is an image
    language_ids: np.ndarray  # (n,) int64
    country_ids: np.ndarray  # (n,) int64, of the product
    text_ids: np.ndarray  # (n, v) int64, title and description as one text; a lone [CLS] where no channel reads it


def normalise(text: str) -> str:
    """NFKC, case folded, each run of white space as one space."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def whole_text(title: str, description: str | None) -> str:
    """A product's words as one text."""
    return f"{title}. {description}" if description else title


class TrigramRows(dict[str, int]):
    """3-gram -> row of the table, by MurmurHash; those met first are remembered, which halves the time.

    Args:
        rows: of the table; row 0 is padding.
        seed: of the hash.
    """

    def __init__(self, rows: int, *, seed: int) -> None:
        self._rows = rows - 1
        self._seed = seed

    def __missing__(self, trigram: str) -> int:
        row = int(mmh3.hash(trigram, self._seed, signed=False)) % self._rows + 1
        if len(self) < REMEMBERED_TRIGRAMS:
            self[trigram] = row
        return row


class Featurizer:
    """Turns texts into ids by a `FeatureSpec` and a SentencePiece model."""

    def __init__(self, spec: FeatureSpec, tokenizer: Tokenizer) -> None:
        self.spec = spec
        self.tokenizer = tokenizer
        self._trigram_rows = TrigramRows(spec.trigram_rows, seed=spec.hash_seed)
        self._country_ids = {code: at for at, code in enumerate(spec.countries, start=1)}
        self._language_ids = {code: at for at, code in enumerate(spec.languages, start=1)}

    @classmethod
    def load(cls, folder: Path) -> "Featurizer":
        """Read `features.json` and the tokenizer of a run or a release.

        Raises:
            ReleaseError: a file is missing or not what it should be.
        """
        try:
            spec = msgspec.json.decode((folder / FEATURES_FILE).read_bytes(), type=FeatureSpec)
            return cls(spec, load_tokenizer(folder))
        except UNREADABLE as exc:
            raise ReleaseError(f"cannot read the featuriser in {folder}: {exc}") from exc

    def save(self, folder: Path) -> None:
        (folder / FEATURES_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(self.spec)))
        (folder / self.tokenizer.file_name).write_bytes(self.tokenizer.saved)

    @property
    def hash(self) -> str:
        """SHA-256 of all that decides the ids: equal hashes, equal features."""
        spec = msgspec.structs.asdict(self.spec)
        for later in ("languages", "text_tokens"):
            if not spec[later]:
                del spec[later]  # as before there were any: releases without them keep their hash
        return hashlib.sha256(msgspec.json.encode(spec) + self.tokenizer.saved).hexdigest()

    @property
    def vocabulary(self) -> int:
        return self.tokenizer.size

    def query(self, text: str, country: str | None = None) -> QueryFeatures:
        """One query: the hot path, with nothing padded."""
        ids = self.text_ids(text, self.spec.query_tokens)
        return QueryFeatures(
            token_ids=np.array((ids.tokens,), np.int64),
            trigram_ids=np.array((ids.trigrams or (PAD,),), np.int64),
            country_ids=np.array((self.country_id(country),), np.int64),
            truncated=(ids.truncated,),
        )

    def queries(self, texts: Sequence[str], countries: Sequence[str | None]) -> QueryFeatures:
        """n queries, padded to the longest."""
        ids = [self.text_ids(text, self.spec.query_tokens) for text in texts]
        return QueryFeatures(
            token_ids=pad([row.tokens for row in ids]),
            trigram_ids=pad([row.trigrams for row in ids]),
            country_ids=self.country_ids(countries),
            truncated=tuple(row.truncated for row in ids),
        )

    def documents(
        self,
        titles: Sequence[str],
        descriptions: Sequence[str | None],
        image_vectors: Sequence[ImageVectors],
        *,
        languages: Sequence[str | None] | None = None,
        countries: Sequence[str | None] | None = None,
    ) -> DocumentFeatures:
        """n documents, padded to the longest of each field; what is not known of them may be left out."""
        title_ids = [self.text_ids(title, self.spec.title_tokens) for title in titles]
        description_ids = [self.text_ids(text or "", self.spec.description_tokens) for text in descriptions]
        images, image_mask = self.images(image_vectors)
        return DocumentFeatures(
            title_ids=pad([row.tokens for row in title_ids]),
            description_ids=pad([row.tokens for row in description_ids]),
            title_trigram_ids=pad([row.trigrams for row in title_ids]),
            description_trigram_ids=pad([row.trigrams for row in description_ids]),
            images=images,
            image_mask=image_mask,
            language_ids=self.language_ids(languages or [None] * len(titles)),
            country_ids=self.country_ids(countries or [None] * len(titles)),
            text_ids=pad([self.whole_text_ids(*texts) for texts in zip(titles, descriptions, strict=True)]),
        )

    def products(self, products: Sequence[Mapping[str, Any]]) -> DocumentFeatures:
        """n products as documents; every field but the title may be missing."""
        return self.documents(
            [product["title"] for product in products],
            [product.get("description") for product in products],
            [product.get("image_vectors") for product in products],
            languages=[product.get("language") for product in products],
            countries=[product.get("country") for product in products],
        )

    def whole_text_ids(self, title: str, description: str | None) -> list[int]:
        """[CLS] and the tokens of title and description as one text, where a channel reads them so."""
        limit = self.spec.text_tokens
        if not limit:
            return [CLS]
        text = whole_text(title, description)
        return self.tokenizer.encode(text if self.tokenizer.normalises else normalise(text), limit)[0]

    def text_ids(self, text: str, limit: int) -> TextIds:
        """[CLS] and at most `limit` - 1 further tokens; the 3-grams of ` text `, cut at about the same length.

        A space marks both ends, so that a word of one or two letters has 3-grams too.
        """
        normal = normalise(text)
        tokens, truncated = self.tokenizer.encode(text if self.tokenizer.normalises else normal, limit)
        marked = f" {normal} "
        count = min(len(marked) - 2, limit * TRIGRAMS_PER_TOKEN) if normal else 0
        rows = self._trigram_rows
        return TextIds(tokens, [rows[marked[at : at + 3]] for at in range(count)], truncated)

    def country_id(self, code: str | None) -> int:
        return self._country_ids.get(code.upper(), UNKNOWN_COUNTRY) if code else UNKNOWN_COUNTRY

    def country_ids(self, codes: Iterable[str | None]) -> np.ndarray:
        """(n,) int64."""
        return np.array([self.country_id(code) for code in codes], dtype=np.int64)

    def language_ids(self, codes: Iterable[str | None]) -> np.ndarray:
        """(n,) int64; 0 where the language is not known."""
        ids = self._language_ids
        return np.array([ids.get(code.lower(), 0) if code else 0 for code in codes], dtype=np.int64)

    def images(self, image_vectors: Sequence[ImageVectors]) -> tuple[np.ndarray, np.ndarray]:
        """The first MAX_IMAGES vectors of each product (n, MAX_IMAGES, image_dim), and which exist.

        Raises:
            ValueError: a vector is not of `image_dim` numbers.
        """
        images = np.zeros((len(image_vectors), MAX_IMAGES, self.spec.image_dim), dtype=np.float32)
        mask = np.zeros((len(image_vectors), MAX_IMAGES), dtype=np.float32)
        if self.spec.image_dim:
            for row, vectors in enumerate(image_vectors):
                for slot, vector in enumerate((vectors if vectors is not None else ())[:MAX_IMAGES]):
                    if len(vector) != self.spec.image_dim:  # numpy would spread a lone number over all of them
                        raise ValueError(f"an image vector has {len(vector)} numbers, not {self.spec.image_dim}")
                    images[row, slot] = vector
                    mask[row, slot] = 1.0
        return images, mask


def pad(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Ragged rows as one (n, longest) int64 array, 0 behind each row's end; at least one column wide."""
    width = max(1, max(map(len, rows), default=0))
    padded = np.zeros((len(rows), width), dtype=np.int64)
    for at, row in enumerate(rows):
        padded[at, : len(row)] = row
    return padded


def train_tokenizer(texts: Iterable[str], *, vocabulary: int, seed_sentences: int = 200_000) -> SentencePieceTokenizer:
    """A SentencePiece unigram model over normalised texts; small data gets as many pieces as it supports.

    Deterministic: the same texts give the same model.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(normalise(text)[:1000] for text in texts),
        model_writer=model,
        model_type="unigram",
        vocab_size=vocabulary,
        hard_vocab_limit=False,  # a small catalogue has fewer pieces than asked for
        normalization_rule_name="identity",  # `normalise` has done it, for the 3-grams too
        character_coverage=0.9995,
        byte_fallback=False,
        pad_id=PAD,
        unk_id=UNKNOWN_PIECE,
        bos_id=CLS,
        eos_id=-1,
        pad_piece="[PAD]",
        unk_piece="[UNK]",
        bos_piece="[CLS]",
        input_sentence_size=seed_sentences,
        shuffle_input_sentence=False,  # the caller gives a representative order
        num_threads=1,  # more threads change the sums' order, and so the model
        minloglevel=2,
    )
    return SentencePieceTokenizer(model.getvalue())


def query_token_limit(token_counts: np.ndarray, *, least: int = 4) -> int:
    """The 99th percentile of query lengths (section 3.1), in tokens with the [CLS]."""
    return max(least, int(np.ceil(np.percentile(token_counts, 99))))
