"""The picture of a tuning: it shows every effort, and is written whole."""

from pathlib import Path

import pytest

from benchmarks.tuning_picture import picture, save
from index.exact import ExactIndex
from index.operating_points import EFFORTS
from index.tune import Tuning, tune
from tests.helpers import faiss_index, product_vectors, query_vectors


@pytest.fixture(scope="module")
def tuning() -> Tuning:
    vectors = product_vectors(2_000)
    return tune(faiss_index("IVF16,PQ8x4fsr,RFlat", vectors), ExactIndex(vectors), query_vectors(20))


def labels(tuning: Tuning) -> str:
    (axes,) = picture(tuning, title="a title").axes
    return "\n".join(text.get_text() for text in axes.texts)


def test_every_effort_is_named_with_its_setting(tuning: Tuning) -> None:
    """Efforts that share a setting share a label."""
    shown = labels(tuning)

    assert all(effort in shown for effort in EFFORTS)
    assert f"nprobe {tuning.points['high'].nprobe}, 1,000 candidates" in shown
    assert "all vectors, 1,000 candidates" in shown


def test_the_best_so_far_never_falls(tuning: Tuning) -> None:
    """Its line rises to the right, as high as the best setting."""
    (axes,) = picture(tuning, title="a title").axes
    (line,) = (line for line in axes.lines if line.get_label() == "best so far, by p50")
    heights = list(line.get_ydata())

    assert heights == sorted(heights)
    assert heights[-1] == min(0.999, max(cell.ann_recall_at_10 for cell in tuning.grid))


def test_a_flat_index_has_a_picture_too() -> None:
    """Without lists, everything is found: the scale holds it."""
    vectors = product_vectors(500)

    shown = labels(tune(faiss_index("Flat", vectors), ExactIndex(vectors), query_vectors(5)))

    assert "minimal, low, balanced  1.000" in shown


def test_the_file_is_written_beside_and_renamed(tuning: Tuning, tmp_path: Path) -> None:
    """A PNG, and nothing else is left."""
    path = save(tuning, tmp_path, title="a title")

    assert [tmp_path / "tuning.png"] == [path] == list(tmp_path.iterdir())
    assert path.read_bytes().startswith(b"\x89PNG")
