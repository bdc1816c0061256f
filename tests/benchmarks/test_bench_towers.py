"""The query tower's benchmark: which rows there are and what they are compared with; no figure of time is judged."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.blocks import Arm
from benchmarks.tower_engines import ENGINES, Footprint, footprint_in_fresh_process, queries
from benchmarks.towers import SIZES, Size, Subject, make_tower, rows_of, run, run_release
from models.runtime import open_release

SMALL = Size(1, 16, 2, 24, paper_p99_us=1500)


def test_random_towers_are_measured_in_every_engine() -> None:
    """One row per engine and length, beside the paper's figure, with what each takes to load."""

    def footprint(engine: str, folder: Path, *, vocabulary: int, trigram_rows: int) -> Footprint:
        assert (folder / ENGINES[engine].file).exists()
        assert (50, 60) == (vocabulary, trigram_rows)
        return Footprint(load_ms=2.0 if engine == "int8" else 1.0, memory_mb=30.0)

    result = run(pieces=50, trigram_rows=60, sizes=(SMALL,), tokens=(4, 8), blocks=1, calls=2, footprint=footprint)

    assert [(engine, length) for length in (4, 8) for engine in ENGINES] == [
        (row["engine"], row["tokens"]) for row in result.rows
    ]
    assert {1500} == {row["paper_p99_us"] for row in result.rows}
    assert {1.0} == {row["over_plain_onnx"] for row in result.rows if row["engine"] == "ONNX plain"}
    assert {2.0} == {row["load_ms"] for row in result.rows if row["engine"] == "int8"}
    assert {30.0} == {row["memory_mb"] for row in result.rows}
    assert (50, 60) == (result.conditions["pieces"], result.conditions["trigram_rows"])


def test_all_engines_compute_the_same_tower(tmp_path: Path) -> None:
    """What is timed is one function: all agree to 1e-4, int8 to a cosine of 0.99."""
    make_tower(SMALL, tmp_path / "tower", pieces=50, trigram_rows=50, longest=8)
    towers = {name: engine.load(tmp_path / "tower" / engine.file) for name, engine in ENGINES.items()}
    for features in queries(length=5, vocabulary=50, trigram_rows=50)[:5]:
        expected = towers["eager torch"].embed(features)
        for name, tower in towers.items():
            found = tower.embed(features)
            if name == "int8":
                assert (found * expected).sum() >= 0.99
            else:
                np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=name)


def test_a_footprint_is_of_a_process_of_its_own(tmp_path: Path) -> None:
    """16,000 rows of 128 floats more, 8 MB, take at least half of them more; nothing of this process counts."""
    grown = {}
    for rows in (100, 16_100):
        make_tower(SMALL, tmp_path / str(rows), pieces=50, trigram_rows=rows, longest=8)
        grown[rows] = footprint_in_fresh_process("ONNX fused", tmp_path / str(rows), vocabulary=50, trigram_rows=rows)

    assert grown[16_100].memory_mb - grown[100].memory_mb > 4
    assert grown[100].load_ms > 0


def test_a_releases_engines_are_compared_at_each_length(release_dir: Path) -> None:
    """Lengths beyond the release's limit become the limit, and a note says so."""
    limit = open_release(release_dir).featurizer.spec.query_tokens

    result = run_release(release_dir, tokens=(2, 1000), blocks=1, calls=2)

    assert [(engine, length) for length in (2, limit) for engine in ("ONNX fused", "int8", "TorchScript tuned")] == [
        (row["engine"], row["tokens"]) for row in result.rows
    ]
    assert any(str(limit) in note for note in result.notes)


def test_ratios_are_of_the_same_length_and_the_better_torchscript() -> None:
    """120 us is 0.6 of the plain export's 200 and 0.3 of the tuned 400, whatever the untuned one took."""
    subject = Subject("2 x 128", dict.fromkeys(ENGINES), {}, 10, 10, 1500)
    p50 = {
        "eager torch": 900.0,
        "TorchScript as exported": 500.0,
        "TorchScript tuned": 400.0,
        "ONNX plain": 200.0,
        "ONNX fused": 120.0,
        "int8": 100.0,
    }

    rows = {row["engine"]: row for row in rows_of(subject, 8, {engine: arm(value) for engine, value in p50.items()})}

    assert 0.6 == pytest.approx(rows["ONNX fused"]["over_plain_onnx"])
    assert 0.3 == pytest.approx(rows["ONNX fused"]["over_best_torchscript"])
    assert 1.25 == rows["TorchScript as exported"]["over_best_torchscript"]
    assert rows["int8"]["memory_mb"] is None


def test_the_papers_sizes_are_measured_by_default() -> None:
    """Two layers of 128 within 1.5 ms, chosen; three of 256 within 3.5 ms, rejected (Que2Search 3.1)."""
    assert [("2 x 128", 1500), ("3 x 256", 3500)] == [(size.name, size.paper_p99_us) for size in SIZES]


def arm(p50_us: float) -> Arm:
    nothing: dict[str, float] = {}
    return Arm(
        calls=1,
        p50_us=p50_us,
        p99_us=p50_us,
        p999_us=p50_us,
        cpu_us=p50_us,
        stages_us=nothing,
        stages_p99_us=nothing,
        server_p50_us=None,
        server_p99_us=None,
        degraded=0,
        latencies_us=np.array([p50_us]),
    )
