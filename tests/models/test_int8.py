"""The int8 query tower serves only where it is as good as it must be."""

import hashlib
import json
import math
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from models.engines import OnnxTower
from models.errors import ReleaseError
from models.features import QueryFeatures
from models.int8 import measure, nearest
from models.int8_gate import Int8Check, check_here, instruction_set
from models.runtime import GOLDEN_QUERIES_FILE, MANIFEST_FILE, QUERY_INT8_FILE, open_release, read_manifest
from tests.helpers import small_featurizer, unit_rows
from tests.small_release import small_release

GOOD = Int8Check(
    least_cosine=0.999, mean_cosine=0.9995, ann_recall_at_10=0.98, queries=100, products=2000, instruction_set="avx2"
)


class Turned:
    """A query tower in the plane: a query's vector has the angle that its country id says, in degrees, plus some."""

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def embed(self, features: QueryFeatures) -> np.ndarray:
        angle = np.radians(features.country_ids + self.degrees)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    def channel_weights(self, features: QueryFeatures) -> np.ndarray:
        return np.ones((len(features.country_ids), 1), dtype=np.float32)


def at(*degrees: int) -> list[QueryFeatures]:
    one = np.ones((1, 1), dtype=np.int64)
    return [QueryFeatures(one, one, np.array([angle])) for angle in degrees]


@pytest.fixture
def copy(release_dir: Path, tmp_path: Path) -> Path:
    """A release that a test may damage."""
    return Path(shutil.copytree(release_dir, tmp_path / "release"))


def sealed_again(release: Path) -> None:
    """The manifest with the checksums of what there is now."""
    manifest = json.loads((release / MANIFEST_FILE).read_text())
    files = [path for path in sorted(release.iterdir()) if path.name != MANIFEST_FILE]
    manifest["files"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (release / MANIFEST_FILE).write_text(json.dumps(manifest))


def test_an_int8_tower_is_measured_at_export_and_serves(release_dir: Path) -> None:
    """Its figures are in the manifest with the instructions they hold for; its vectors are near those of fp32."""
    check = read_manifest(release_dir).int8
    assert check is not None
    assert check.passed
    assert instruction_set() == check.instruction_set

    texts = ["red dress", "wooden chair", "", "zzz"]
    fp32, int8 = (open_release(release_dir, engine=engine) for engine in ("onnx", "int8"))
    cosines = [float(fp32.embed_query(text, "US") @ int8.embed_query(text, "US")) for text in texts]

    assert min(cosines) >= 0.98
    assert 1.0 == pytest.approx(float(np.linalg.norm(int8.embed_query("red dress"))), abs=1e-5)
    assert [1.0] == [pytest.approx(sum(int8.channel_weights(int8.featurizer.query("red dress")).values()), abs=1e-5)]


def test_its_tables_are_a_quarter(release_dir: Path) -> None:
    """Four bytes a number became one in the token and 3-gram tables and the layers' weights."""
    sizes = [(release_dir / name).stat().st_size for name in ("query_tower.onnx", QUERY_INT8_FILE)]

    assert sizes[1] < 0.4 * sizes[0]


def test_a_broken_int8_tower_is_refused_where_it_is_opened(copy: Path) -> None:
    """Sealed as it should be, but its weights are turned over, as saturated sums would: fp32 still opens."""
    graph = onnx.load(copy / QUERY_INT8_FILE)
    for constant in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if values.dtype in (np.int8, np.uint8) and values.size > 100:
            constant.CopyFrom(onnx.numpy_helper.from_array(values[::-1].copy(), constant.name))
    onnx.save(graph, copy / QUERY_INT8_FILE)
    sealed_again(copy)

    with pytest.raises(ReleaseError, match=r"on this machine.*cosines.*use engine onnx"):
        open_release(copy, engine="int8")
    open_release(copy)


def test_one_that_failed_at_export_is_refused_with_its_figure(copy: Path) -> None:
    """The release keeps what was measured, and no file."""
    (copy / QUERY_INT8_FILE).unlink()
    manifest = json.loads((copy / MANIFEST_FILE).read_text())
    failed = msgspec.structs.replace(GOOD, ann_recall_at_10=0.8)
    (copy / MANIFEST_FILE).write_text(json.dumps(manifest | {"int8": msgspec.to_builtins(failed)}))
    sealed_again(copy)

    with pytest.raises(ReleaseError, match=r"ann_recall_at_10 0.8000 with avx2, below 0.95; use engine onnx"):
        open_release(copy, engine="int8")
    open_release(copy)


def test_a_release_from_before_int8_says_so(tmp_path: Path) -> None:
    release = small_release(tmp_path, featurizer=small_featurizer())

    with pytest.raises(ReleaseError, match="exported before there was one; use engine onnx"):
        open_release(release, engine="int8")


def test_without_golden_queries_there_is_nothing_to_check_with(copy: Path) -> None:
    (copy / GOLDEN_QUERIES_FILE).write_bytes(b"")
    sealed_again(copy)

    with pytest.raises(ReleaseError, match="no golden queries"):
        open_release(copy, engine="int8")


@pytest.mark.parametrize("figure", ["least_cosine", "mean_cosine", "ann_recall_at_10"])
def test_every_figure_is_a_gate(figure: str) -> None:
    """One that is too low fails and is named, and so does one that is not a number."""
    assert GOOD.passed
    for value in (0.9, math.nan):
        failed = msgspec.structs.replace(GOOD, **{figure: value})

        assert not failed.passed
        assert str(failed.failure()).startswith(figure)
        assert "not kept" in str(failed)


def test_cosines_and_neighbours_are_those_of_single_queries() -> None:
    """Turned by 60 degrees, every cosine is 1/2; of the products at 0, 1, ..., 39 degrees, the ten nearest to 0 and to
    60 are not the same one.
    """
    angles = np.radians(np.arange(40))
    products = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    turned = measure(Turned(60), Turned(0), at(0, 0), products)
    same = measure(Turned(0), Turned(0), at(0, 20, 39), products)

    assert (0.5, 0.5, 0.0) == pytest.approx(
        (turned.least_cosine, turned.mean_cosine, turned.ann_recall_at_10), abs=1e-6
    )
    assert (1.0, 1.0, 1.0) == pytest.approx((same.least_cosine, same.mean_cosine, same.ann_recall_at_10), abs=1e-6)
    assert (3, 40) == (same.queries, same.products)


def test_nearest_gives_all_where_there_are_few() -> None:
    """The best two of three; of three, ten are three."""
    products = unit_rows(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], dtype=np.float32))
    query = np.array([[1.0, 0.0]], dtype=np.float32)

    assert {0, 1} == set(nearest(query, products, k=2)[0].tolist())
    assert {0, 1, 2} == set(nearest(query, products)[0].tolist())


def test_a_tower_is_checked_on_this_machine() -> None:
    """Eight degrees are a cosine of 0.990, which is near enough for one query but not for all of them."""
    check_here(Turned(1), Turned(0), at(0, 90))
    with pytest.raises(ReleaseError, match=r"0\.9903 at least"):
        check_here(Turned(8), Turned(0), at(0, 90))


def test_the_best_listed_instructions_are_named(tmp_path: Path) -> None:
    """What decides how 8-bit products are summed; elsewhere the architecture's name."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name : x\nflags : fpu avx avx2 avx512f avx512_vnni\n")

    assert "avx512_vnni" == instruction_set(cpuinfo)
    cpuinfo.write_text("flags : fpu avx avx2\n")
    assert "avx2" == instruction_set(cpuinfo)
    assert instruction_set(tmp_path / "none")


def test_int8_operators_take_the_weights(release_dir: Path) -> None:
    """Attention and products are integer ones; what is left in floats is small."""
    nodes = [node.op_type for node in onnx.load(release_dir / QUERY_INT8_FILE).graph.node]

    assert {"QAttention", "MatMulInteger", "QEmbedLayerNormalization"} <= set(nodes)
    assert "Attention" not in nodes
    assert isinstance(open_release(release_dir, engine="int8").query_tower, OnnxTower)
