"""Tokenizers: text to token ids, by our own SentencePiece model or by a pretrained encoder's tokenizer.json.

Padding is id 0 everywhere; a foreign vocabulary that pads with another id has the two ids swapped, here and in the rows
of its embedding table. A tokenizer's bytes are all there is to it, so a run or a release holds them in one file.
"""

import json
from pathlib import Path
from typing import Any, Protocol

import sentencepiece

from models.errors import ReleaseError

PAD, UNKNOWN_PIECE, CLS = 0, 1, 2  # of our own vocabularies
SENTENCEPIECE_FILE = "tokenizer.model"
HUGGING_FACE_FILE = "tokenizer.json"


class Tokenizer(Protocol):
    """Text to ids."""

    file_name: str  # under which a run or a release keeps its bytes
    saved: bytes
    size: int  # of the vocabulary
    normalises: bool  # it wants the text as written, not as `features.normalise` makes it

    def encode(self, text: str, limit: int) -> tuple[list[int], bool]:
        """At most `limit` ids, the [CLS] first, and whether the text had more. An empty text is the [CLS] alone."""
        ...


class SentencePieceTokenizer:
    """A unigram model trained on the data's own text; no mark ends a text."""

    file_name = SENTENCEPIECE_FILE
    normalises = False

    def __init__(self, saved: bytes) -> None:
        """Raises RuntimeError where the bytes are no model."""
        self.saved = saved
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=saved)
        self.size = int(self._pieces.get_piece_size()) if saved else 0
        if not self.size:
            raise RuntimeError("it holds no pieces")

    def encode(self, text: str, limit: int) -> tuple[list[int], bool]:
        """See `Tokenizer`."""
        ids = [CLS, *self._pieces.encode(text)]
        return ids[:limit], len(ids) > limit


class HuggingFaceTokenizer:
    """A pretrained encoder's own: WordPiece, BPE or unigram, with its own normaliser and its own marks around a text.

    The text reaches it as written, but for white space: what it was trained with, cased or not, is its own affair.
    """

    file_name = HUGGING_FACE_FILE
    normalises = True

    def __init__(self, saved: bytes) -> None:
        """Raises ReleaseError where the library is missing or the bytes are no tokenizer."""
        try:
            import tokenizers  # noqa: PLC0415 - only releases with a pretrained encoder's vocabulary need it
        except ImportError as exc:
            raise ReleaseError("this vocabulary needs tokenizers; install the `pretrained` extra") from exc
        self.saved = saved
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(saved.decode())
        except Exception as exc:  # tokenizers raises plain Exception
            raise ReleaseError(f"{HUGGING_FACE_FILE} is no tokenizer: {exc}") from exc
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.size = int(self._tokenizer.get_vocab_size())
        pads = (self._tokenizer.token_to_id(token) for token in ("[PAD]", "<pad>"))
        self.pad_id = next((at for at in pads if at is not None), PAD)
        marks = [self._swapped(at) for at in self._tokenizer.encode("").ids]  # around nothing: [CLS] and, often, [SEP]
        if not marks:
            raise ReleaseError(f"{HUGGING_FACE_FILE} puts no [CLS] before a text; its post_processor is missing")
        self._cls, self._ends = marks[0], marks[1:]

    def encode(self, text: str, limit: int) -> tuple[list[int], bool]:
        """See `Tokenizer`; what ends a text stays where it is cut."""
        ids = [self._swapped(at) for at in self._tokenizer.encode(text, add_special_tokens=False).ids]
        if not ids:
            return [self._cls], False
        room = limit - 1 - len(self._ends)
        return [self._cls, *ids[:room], *self._ends], len(ids) > room

    def _swapped(self, at: int) -> int:
        return {self.pad_id: PAD, PAD: self.pad_id}.get(at, at)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that a run, a release or an encoder directory holds.

    Raises:
        ReleaseError: there is none, or it is damaged.
    """
    for kind in (SentencePieceTokenizer, HuggingFaceTokenizer):
        path = folder / kind.file_name
        if path.exists():
            try:
                return kind(path.read_bytes())
            except (OSError, RuntimeError) as exc:
                raise ReleaseError(f"cannot read the tokenizer {path}: {exc}") from exc
    if (folder / "vocab.txt").exists():
        return _from_vocabulary(folder)
    raise ReleaseError(f"{folder} has no {SENTENCEPIECE_FILE} and no {HUGGING_FACE_FILE}")


def _from_vocabulary(folder: Path) -> Tokenizer:
    """A BERT directory of the older kind: WordPiece from vocab.txt."""
    from tokenizers import BertWordPieceTokenizer  # noqa: PLC0415 - see HuggingFaceTokenizer

    settings: dict[str, Any] = {}
    if (folder / "tokenizer_config.json").exists():
        settings = json.loads((folder / "tokenizer_config.json").read_text())
    made = BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=settings.get("do_lower_case", True))
    return HuggingFaceTokenizer(made.to_str().encode())
