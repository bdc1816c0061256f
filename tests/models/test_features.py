"""The featuriser: what text becomes, and that it stays so."""

import subprocess
import sys
from pathlib import Path

import mmh3
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ReleaseError
from models.features import MAX_IMAGES, Featurizer, normalise, pad, query_token_limit, train_tokenizer
from models.tokenizers import CLS
from tests.helpers import TEXTS, small_featurizer

ROOT = Path(__file__).parents[2]
FEATURIZER = small_featurizer()


def test_normalising_folds_width_case_and_space() -> None:
    """Full-width letters, capitals and runs of space are spelling, not meaning."""
    assert "iphone 12 straße".replace("ß", "ss") == normalise("  ＩＰｈｏｎｅ\t12   Straße ")


def test_a_query_is_a_cls_and_its_pieces() -> None:
    """Every text starts with [CLS]; an empty one is nothing else and has no 3-grams."""
    empty = FEATURIZER.query("")

    assert [[CLS]] == empty.token_ids.tolist()
    assert [[0]] == empty.trigram_ids.tolist()  # padding
    assert CLS == FEATURIZER.query("red dress").token_ids[0, 0]


def test_trigrams_are_murmur_hashes_of_three_character_windows() -> None:
    """`tv` between two spaces has the windows ` tv` and `tv `; ids are 1 + hash modulo (rows - 1)."""
    rows = FEATURIZER.spec.trigram_rows
    expected = [mmh3.hash(window, 0, signed=False) % (rows - 1) + 1 for window in (" tv", "tv ")]

    assert [expected] == FEATURIZER.query("TV").trigram_ids.tolist()


def test_ids_do_not_depend_on_the_process() -> None:
    """A fresh interpreter with another hash seed gives the same ids, and they are the known ones."""
    code = "from tests.helpers import small_featurizer as f; q = f().query('red dress', 'GB'); print(q, f().hash)"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert 1 == len(outputs)
    assert [[102, 1558, 198, 1211, 779, 572, 1496, 476, 448]] == FEATURIZER.query("red dress").trigram_ids.tolist()


def test_the_tokenizer_is_deterministic() -> None:
    """Training twice on the same texts gives the same bytes."""
    assert train_tokenizer(TEXTS, vocabulary=120).saved == train_tokenizer(TEXTS, vocabulary=120).saved


def test_a_long_query_is_cut_and_says_so() -> None:
    """`truncated` tells the caller that words were dropped."""
    long = FEATURIZER.query("red dress " * 50)

    assert (True,) == long.truncated
    assert FEATURIZER.spec.query_tokens == long.token_ids.shape[1]
    assert (False,) == FEATURIZER.query("red").truncated


def test_countries_are_known_or_unknown() -> None:
    """Known codes have their own id in any case of letters; all others share 0."""
    countries = [None, "", "??", "FR", "gb", "US"]

    assert [0, 0, 0, 0, 1, 2] == FEATURIZER.queries(["x"] * 6, countries).country_ids.tolist()


@given(st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_a_batch_holds_the_same_ids_as_single_queries(texts: list[str]) -> None:
    """Batching only pads: training and serving see the same features."""
    batch = FEATURIZER.queries(texts, [None] * len(texts))
    for row, text in enumerate(texts):
        single = FEATURIZER.query(text)
        for name in ("token_ids", "trigram_ids"):
            alone, together = getattr(single, name)[0], getattr(batch, name)[row]

            assert alone.tolist() == together[: len(alone)].tolist()
            assert not together[len(alone) :].any()


@pytest.mark.parametrize("vector", [[1.0], [1.0, 2.0, 3.0], [1.0] * 5, []])
def test_an_image_of_another_size_is_refused(vector: list[float]) -> None:
    """A lone number above all, which numpy would spread over all four."""
    with pytest.raises(ValueError, match=f"has {len(vector)} numbers, not 4"):
        FEATURIZER.images([[[1.0, 2.0, 3.0, 4.0], vector]])


def test_images_fill_slots_and_leave_the_rest_masked() -> None:
    """Two images of six given: five slots at most; a product without images is all zero."""
    vectors = [[1.0] * 4, [2.0] * 4]
    images, mask = FEATURIZER.images([vectors, None, [*vectors, *vectors, *vectors]])

    assert (3, MAX_IMAGES, 4) == images.shape
    assert [2.0, 0.0, 5.0] == mask.sum(axis=1).tolist()
    assert 0.0 == images[1].sum()


def test_the_hash_names_the_feature_space(tmp_path: Path) -> None:
    """A saved featuriser has its own hash again; another table size has another."""
    FEATURIZER.save(tmp_path)
    other = Featurizer(msgspec.structs.replace(FEATURIZER.spec, trigram_rows=999), FEATURIZER.tokenizer)

    assert FEATURIZER.hash == Featurizer.load(tmp_path).hash
    assert FEATURIZER.hash != other.hash


@pytest.mark.parametrize("name", ["features.json", "tokenizer.model"])
def test_a_damaged_featuriser_is_refused(tmp_path: Path, name: str) -> None:
    """Half a file is not a feature space."""
    FEATURIZER.save(tmp_path)
    (tmp_path / name).write_bytes(b"{")

    with pytest.raises(ReleaseError, match="featuriser"):
        Featurizer.load(tmp_path)


def test_padding_goes_behind_each_row() -> None:
    assert [[1, 2, 3], [4, 0, 0], [0, 0, 0]] == pad([[1, 2, 3], [4], []]).tolist()
    assert [[0], [0]] == pad([[], []]).tolist()
    assert (0, 1) == pad([]).shape


def test_the_query_length_is_the_99th_percentile() -> None:
    """Of 100 queries with 1 to 100 tokens the limit is 100 (99.01 rounded up)."""
    assert 100 == query_token_limit(np.arange(1, 101))
    assert 4 == query_token_limit(np.array([1, 1, 1]))
