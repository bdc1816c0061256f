"""Tokenizers: our own vocabulary, or a pretrained encoder's, behind one face."""

from pathlib import Path

import pytest

from models.errors import ReleaseError
from models.features import Featurizer, train_tokenizer
from models.tokenizers import HuggingFaceTokenizer, Tokenizer, load_tokenizer
from tests.helpers import TEXTS, small_featurizer


def foreign(
    *, first: str = "[CLS]", last: str = " [SEP]", words: tuple[str, ...] = ("[PAD]", "[CLS]", "[SEP]")
) -> bytes:
    """Words one, two, three behind the marks, in lower case."""
    from tokenizers import Tokenizer as Library
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    vocabulary = {word: at for at, word in enumerate([*words, "one", "two", "three"])}
    made = Library(WordLevel(vocabulary, unk_token=words[0]))
    made.normalizer, made.pre_tokenizer = Lowercase(), Whitespace()
    marks = [(word, vocabulary[word]) for word in (first, last.strip()) if word]
    made.post_processor = TemplateProcessing(single=f"{first} $A{last}", special_tokens=marks)
    return bytes(made.to_str(), "utf-8")


def test_a_text_stands_between_its_marks() -> None:
    """[CLS] one three [SEP]; cut to three ids, the end mark stays; an empty text is the [CLS] alone."""
    tokenizer = HuggingFaceTokenizer(foreign())

    assert ([1, 3, 5, 2], False) == tokenizer.encode("One THREE", 9)
    assert ([1, 3, 2], True) == tokenizer.encode("one three", 3)
    assert ([1], False) == tokenizer.encode("  ", 9)


def test_another_padding_id_changes_places_with_zero() -> None:
    """<pad> is 1 there and <s> 0: here padding is 0 and <s> is 1, in every id that is given out."""
    words = ("<s>", "<pad>", "</s>")
    tokenizer = HuggingFaceTokenizer(foreign(first="<s>", last=" </s>", words=words))

    assert 1 == tokenizer.pad_id
    assert ([1, 3, 2], False) == tokenizer.encode("one", 9)


@pytest.mark.parametrize("tokenizer", [train_tokenizer(TEXTS, vocabulary=120), HuggingFaceTokenizer(foreign())])
def test_a_featuriser_comes_back_with_its_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Saved and loaded: the same ids and the same hash, whichever kind it is."""
    featurizer = Featurizer(small_featurizer().spec, tokenizer)
    featurizer.save(tmp_path)
    again = Featurizer.load(tmp_path)

    assert featurizer.hash == again.hash
    assert featurizer.text_ids("one red dress", 8) == again.text_ids("one red dress", 8)
    assert load_tokenizer(tmp_path).saved == tokenizer.saved


def test_a_vocabulary_of_the_older_kind_is_read(tmp_path: Path) -> None:
    """BERT's vocab.txt without a tokenizer.json: WordPiece, in lower case unless its configuration says otherwise."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dress", "##es", "red"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))

    assert ([2, 7, 5, 6, 3], False) == load_tokenizer(tmp_path).encode("Red dresses", 9)


@pytest.mark.parametrize("content", [b"no json", b"{}"])
def test_a_damaged_tokenizer_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ReleaseError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(ReleaseError, match=r"no tokenizer\.model"):
        load_tokenizer(tmp_path / "nowhere")


def test_releases_without_later_features_keep_their_hash() -> None:
    """The hash of a feature space without languages and whole texts is what it was before there were any."""
    import hashlib

    import msgspec

    featurizer = small_featurizer()
    spec = msgspec.structs.asdict(featurizer.spec)
    assert spec.pop("languages") == ()
    assert spec.pop("text_tokens") == 0

    assert hashlib.sha256(msgspec.json.encode(spec) + featurizer.tokenizer.saved).hexdigest() == featurizer.hash
    assert featurizer.hash != small_featurizer(languages=("en",)).hash
