"""A release is opened whole and unaltered, or not at all."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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
    """Not there; never sealed; a file gone; a broken or foreign manifest; a path that leads outside."""
    with pytest.raises(ReleaseError, match="no such directory"):
        open_release(tmp_path / "none")
    manifest = json.loads((copy / MANIFEST_FILE).read_text())
    cases = {
        "damaged": "{",
        "format": json.dumps(manifest | {"format": "other/9"}),
        "outside": json.dumps(manifest | {"files": {"../x": ""}}),
        "missing": json.dumps(manifest | {"files": {"gone.bin": ""}}),
    }
    for message, text in cases.items():
        (copy / MANIFEST_FILE).write_text(text)
        with pytest.raises(ReleaseError, match=message):
            open_release(copy)
    (copy / MANIFEST_FILE).unlink()
    with pytest.raises(ReleaseError, match="never sealed"):
        open_release(copy)


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
