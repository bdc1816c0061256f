"""eager == TorchScript == ONNX: what was trained is what is served."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models.data.schema import Dataset
from models.engines import OnnxTower
from models.errors import ParityError, ReleaseError
from models.export import export
from models.features import QueryFeatures
from models.parity import MAX_DIFFERENCE, largest_difference, largest_weight_difference, query_features
from models.runtime import DOCUMENT_ONNX_FILE, open_release, read_manifest
from models.towers import WeighedTower, as_tensors, build_towers
from models.training.run import Run

TEXTS = ["red dress", "", "wooden chair " * 60, "日本 🙂", "a"]
COUNTRIES = ["US", None, "GB", "??", "us"]


@pytest.fixture(scope="module")
def run(run_dir: Path) -> Run:
    return Run.open(run_dir)


@pytest.mark.parametrize("engine", ["onnx", "torchscript"])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_engines_give_the_trained_query_towers_vectors(engine: str, rows: int, run: Run, release_dir: Path) -> None:
    """Batches of one and many, an empty and an over-long text, an unknown country: within 1e-4."""
    release = open_release(release_dir, engine=engine)
    for start in range(0, len(TEXTS), rows):
        features = run.featurizer.queries(TEXTS[start : start + rows], COUNTRIES[start : start + rows])
        with torch.inference_mode():
            expected = run.towers.query(*as_tensors(features, run.towers.query)).numpy()

        np.testing.assert_allclose(expected, release.query_tower.embed(features), atol=MAX_DIFFERENCE)


@pytest.mark.parametrize("engine", ["onnx", "torchscript"])
def test_engines_give_the_trained_query_towers_attention(engine: str, run: Run, release_dir: Path) -> None:
    """Of each query alone, by channel: what Eq. 1 gave when training, and nothing to a text that is not there."""
    release = open_release(release_dir, engine=engine)
    tower = run.towers.query
    for text, country in zip(TEXTS, COUNTRIES, strict=True):
        features = run.featurizer.query(text, country)
        with torch.inference_mode():
            expected = tower.fusion.weights(tower.encode_channels(*as_tensors(features, tower)))[0].tolist()

        found = release.channel_weights(features)

        assert ["text", "trigram", "country"] == list(found)
        assert expected == pytest.approx(list(found.values()), abs=MAX_DIFFERENCE)
        assert 1.0 == pytest.approx(sum(found.values()), abs=MAX_DIFFERENCE)
    assert {"text": 0.0, "trigram": 0.0, "country": 1.0} == release.channel_weights(run.featurizer.query("", None))


@pytest.mark.parametrize("fusion", ["concatenation", "sum"])
def test_other_fusions_have_no_weights_to_give(fusion: str, run: Run, dataset_dir: Path, tmp_path: Path) -> None:
    """Their towers are exported with the vector alone, and the release says that there is nothing to explain with."""
    config = msgspec.structs.replace(run.config, model=msgspec.structs.replace(run.config.model, fusion=fusion))
    towers = build_towers(config.model, run.featurizer.spec, vocabulary=run.featurizer.vocabulary).eval()
    export(Run(run.path, config, run.featurizer, towers), Dataset.open(dataset_dir), tmp_path / "release")
    features = run.featurizer.query("red dress", "US")

    for engine in ("onnx", "torchscript"):
        release = open_release(tmp_path / "release", engine=engine)
        assert release.channel_weights(features) is None
        np.testing.assert_allclose(
            towers.query(*as_tensors(features, towers.query)).detach().numpy(),
            release.query_tower.embed(features),
            atol=MAX_DIFFERENCE,
        )


def test_the_served_document_tower_gives_the_trained_ones_vectors(run: Run, release_dir: Path) -> None:
    """With and without description and images, alone and together."""
    tower = OnnxTower(release_dir / DOCUMENT_ONNX_FILE)
    image = [[0.5, -0.5, 0.5, 0.5]]
    for titles, descriptions, images in (
        (["red dress"], [None], [None]),
        (["red dress", "lamp " * 40, ""], ["worn twice", None, "x " * 400], [image, image * 5, None]),
    ):
        features = run.featurizer.documents(titles, descriptions, images)
        with torch.inference_mode():
            expected = run.towers.document(*as_tensors(features, run.towers.document)).numpy()

        np.testing.assert_allclose(expected, tower.embed(features), atol=MAX_DIFFERENCE)


def test_the_manifest_states_the_differences(release_dir: Path) -> None:
    parity = read_manifest(release_dir).parity

    assert {"onnx", "torchscript", "document_onnx", "onnx_weights", "torchscript_weights"} == set(parity)
    assert all(0 <= difference <= MAX_DIFFERENCE for difference in parity.values())


def test_a_tower_that_differs_is_noticed(run: Run, dataset_dir: Path) -> None:
    """The comparison is able to fail: a fake that is off by 0.01 in one coordinate is off by 0.01."""

    class Skewed:
        def embed(self, features: QueryFeatures) -> np.ndarray:
            with torch.inference_mode():
                vectors = run.towers.query(*as_tensors(features, run.towers.query)).numpy().copy()
            vectors[0, 0] += 0.01
            return vectors

    queries = Dataset.open(dataset_dir).judgements().head(10)
    batches = list(query_features(run.featurizer, queries))

    assert 0.01 == pytest.approx(largest_difference(run.towers.query, Skewed(), batches), abs=1e-5)


def test_weights_that_differ_or_do_not_add_up_are_noticed(run: Run, dataset_dir: Path) -> None:
    """A fake that takes 0.01 from one channel is off by 0.01; so is one whose weight became not a number."""
    tower = WeighedTower(run.towers.query, run.towers.query.fusion)

    class Skewed:
        def __init__(self, first: float) -> None:
            self.first = first

        def channel_weights(self, features: QueryFeatures) -> np.ndarray:
            with torch.inference_mode():
                weights = tower(*as_tensors(features, run.towers.query)).weights.numpy().copy()
            weights[0, 0] += self.first
            return weights

    batches = list(query_features(run.featurizer, Dataset.open(dataset_dir).judgements().head(10)))

    assert 0.0 == pytest.approx(largest_weight_difference(tower, Skewed(0.0), batches), abs=1e-6)
    assert 0.01 == pytest.approx(largest_weight_difference(tower, Skewed(-0.01), batches), abs=1e-5)
    assert np.isnan(largest_weight_difference(tower, Skewed(float("nan")), batches))


def test_export_refuses_without_parity_and_leaves_nothing(run: Run, dataset_dir: Path, tmp_path: Path) -> None:
    """A tower whose output is not a number fails the gate; no half release stays behind."""
    broken = Run(run.path, run.config, run.featurizer, Run.open(run.path).towers)
    with torch.no_grad():
        broken.towers.query.fusion.gate.weight.fill_(float("nan"))
    with pytest.raises(ParityError, match="onnx differs"):
        export(broken, Dataset.open(dataset_dir), tmp_path / "release")

    assert [] == list(tmp_path.iterdir())


def test_export_does_not_overwrite_what_is_no_release(run: Run, dataset_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ReleaseError, match="not a release"):
        export(run, Dataset.open(dataset_dir), tmp_path)

    assert "keep" == (tmp_path / "mine.txt").read_text()
