"""A release is opened whole and unaltered, or not at all."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import pytest
import torch

from models.errors import ReleaseError
from models.runtime import MANIFEST_FILE, open_release, read_manifest
from tests.helpers import small_featurizer, unit_rows
from tests.small_release import small_release


@pytest.fixture
def copy(release_dir: Path, tmp_path: Path) -> Path:
    """A release that a test may damage."""
    return Path(shutil.copytree(release_dir, tmp_path / "release"))


def test_a_release_gives_unit_vectors_for_queries_and_products(release_dir: Path) -> None:
    """Both towers speak the same space: (d,) float32 of norm 1."""
    release = open_release(release_dir)
    query = release.embed_query("red dress", "US")
    product = release.embed_product({"title": "red dress", "image_vectors": [[0.1, 0.2, 0.3, 0.4]]})
    for vector in (query, product):
        assert (release.dim,) == vector.shape
        assert np.float32 == vector.dtype
        assert 1.0 == pytest.approx(float(np.linalg.norm(vector)), abs=1e-5)
    np.testing.assert_allclose(query, unit_rows(query), atol=1e-6)


def test_a_release_carries_golden_queries_and_judgements(release_dir: Path) -> None:
    """Tuning and measuring need no dataset beside the release."""
    release = open_release(release_dir)

    assert release.golden_queries()
    assert {"head", "torso", "tail"} >= {golden.stratum for golden in release.golden_queries()}
    assert {0, 3} == {judgement.rating for judgement in release.judgements()}


def test_every_file_is_sealed(release_dir: Path) -> None:
    """The manifest knows a checksum for all there is beside it."""
    names = {path.name for path in release_dir.iterdir()} - {MANIFEST_FILE}

    assert names == set(read_manifest(release_dir).files)


def test_one_changed_byte_in_any_file_is_refused_by_name(copy: Path) -> None:
    """The same length, one bit else: opening names the file and what to do."""
    for name in read_manifest(copy).files:
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ReleaseError, match=rf"{name} was altered.*export"):
            open_release(copy)
        (copy / name).write_bytes(whole)
    open_release(copy)


def test_what_is_not_a_whole_release_is_refused(copy: Path, tmp_path: Path) -> None:
    """Not there; never sealed; a broken or foreign manifest; what it reads not sealed, or more than that."""
    with pytest.raises(ReleaseError, match="no such directory"):
        open_release(tmp_path / "none")
    manifest = json.loads((copy / MANIFEST_FILE).read_text())
    cases = {
        "damaged": "{",
        "format": json.dumps(manifest | {"format": "other/9"}),
        r"'\.\./x', which are no part": json.dumps(manifest | {"files": manifest["files"] | {"../x": ""}}),
        "'/etc/passwd', which are no part": json.dumps(manifest | {"files": {"/etc/passwd": ""}}),
        "'weights.pkl', which are no part": json.dumps(manifest | {"files": manifest["files"] | {"weights.pkl": ""}}),
        "does not seal document_tower.onnx, features.json": json.dumps(manifest | {"files": {}}),
        "seals no tokenizer": json.dumps(manifest | {"files": without(manifest["files"], "tokenizer.model")}),
        "damaged: maximum recursion": json.dumps(manifest)[:-1] + ', "more": ' + 5_000 * "[" + 5_000 * "]" + "}",
    }
    for message, text in cases.items():
        (copy / MANIFEST_FILE).write_text(text)
        with pytest.raises(ReleaseError, match=message):
            open_release(copy)
    (copy / MANIFEST_FILE).unlink()
    with pytest.raises(ReleaseError, match="never sealed"):
        open_release(copy)


def without(files: dict[str, str], name: str) -> dict[str, str]:
    return {known: checksum for known, checksum in files.items() if known != name}


def test_a_file_that_is_gone_or_lies_elsewhere_is_refused(copy: Path, tmp_path: Path) -> None:
    """Also where the link's target has the sealed bytes: a release is a folder that can be moved."""
    file = copy / "golden_queries.jsonl"
    file.rename(tmp_path / "elsewhere")

    with pytest.raises(ReleaseError, match="missing from the release"):
        open_release(copy)
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReleaseError, match="leads out of the release"):
        open_release(copy)


class Payload:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self._trace,)


@pytest.mark.parametrize("written", ["by pickle", "by torch.save"])
def test_a_pickle_in_the_place_of_a_tower_is_not_read(copy: Path, tmp_path: Path, written: str) -> None:
    """Even where it is sealed: nothing of it runs."""
    file, payload = copy / "query_tower.pt", Payload(tmp_path / "it ran")
    if written == "by pickle":
        file.write_bytes(pickle.dumps(payload))
    else:
        torch.save(payload, file)
    seal(copy)

    with pytest.raises(ReleaseError, match=r"query_tower\.pt"):
        open_release(copy, engine="torchscript")
    assert not (tmp_path / "it ran").exists()


def test_a_torchscript_tower_that_is_not_sealed_is_not_read(copy: Path) -> None:
    """A file that lies there, but that the manifest does not know."""
    manifest = json.loads((copy / MANIFEST_FILE).read_text())
    (copy / MANIFEST_FILE).write_text(json.dumps(manifest | {"files": without(manifest["files"], "query_tower.pt")}))

    with pytest.raises(ReleaseError, match=r"has no query_tower\.pt"):
        open_release(copy, engine="torchscript")
    assert open_release(copy).id == manifest["id"]


@pytest.mark.parametrize("place", ["../weights", "/weights", "link"])
def test_a_tower_whose_weights_lie_elsewhere_is_refused(copy: Path, place: str) -> None:
    """An ONNX graph may name a file for its weights; one outside of the release is not read."""
    weights = copy.parent / "weights"
    weights.write_bytes(np.ones(4, dtype=np.float32).tobytes())
    (copy / "link").symlink_to(weights)
    tensor = onnx.TensorProto(name="weights", data_type=onnx.TensorProto.FLOAT, dims=[4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(weights) if place == "/weights" else place)
    output = onnx.helper.make_tensor_value_info("vector", onnx.TensorProto.FLOAT, [4])
    node = onnx.helper.make_node("Identity", ["weights"], ["vector"])
    graph = onnx.helper.make_graph([node], "outside", [], [output], [tensor])
    opset = onnx.helper.make_opsetid("", 20)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    (copy / "query_tower.onnx").write_bytes(model.SerializeToString())
    seal(copy)

    with pytest.raises(ReleaseError, match=r"cannot load .*query_tower\.onnx"):
        open_release(copy)


def seal(release: Path) -> None:
    """Write the checksums of its files as they are now, as whoever altered them would."""
    manifest = json.loads((release / MANIFEST_FILE).read_text())
    for name in manifest["files"]:
        manifest["files"][name] = hashlib.sha256((release / name).read_bytes()).hexdigest()
    (release / MANIFEST_FILE).write_text(json.dumps(manifest))


def test_a_release_from_before_the_weights_still_opens(copy: Path) -> None:
    """Its manifest names no channels: it embeds as ever, and has no attention to show."""
    manifest = json.loads((copy / MANIFEST_FILE).read_text())
    assert ["text", "trigram", "country"] == manifest.pop("query_channels")
    (copy / MANIFEST_FILE).write_text(json.dumps(manifest))

    release = open_release(copy)

    assert release.channel_weights(release.featurizer.query("red dress", "US")) is None
    assert (release.dim,) == release.embed_query("red dress", "US").shape


def test_a_release_says_what_each_channel_had_to_say(tmp_path: Path) -> None:
    """The small release's tower gives 3-grams 3/4, and all where the country is unknown."""
    release = open_release(small_release(tmp_path, featurizer=small_featurizer()))

    assert {"trigram": 0.75, "country": 0.25} == release.channel_weights(release.featurizer.query("red dress", "US"))
    assert {"trigram": 1.0, "country": 0.0} == release.channel_weights(release.featurizer.query("red dress", None))


def test_the_runtime_reports_to_nobody(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry would leave a device id in the home directory and start a thread; with CI unset, too."""
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "LD_LIBRARY_PATH"}}
    code = "import models.runtime, os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=environment | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        check=True,
    )

    assert [] == list(tmp_path.iterdir())


def test_tuning_has_something_to_search_with_or_says_so(release_dir: Path, copy: Path) -> None:
    """A vector for every golden query; a release that holds none is told to be exported again."""
    release = open_release(release_dir)

    assert (len(release.golden_queries()), release.dim) == release.golden_vectors().shape

    emptied = open_release(copy)
    (copy / "golden_queries.jsonl").write_bytes(b"")
    with pytest.raises(ReleaseError, match="no golden queries"):
        emptied.golden_vectors()
