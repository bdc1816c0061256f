"""The named efforts: their defaults and their file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from index.errors import IndexFileError
from index.files import write_sealed_json
from index.hybrid import RankFusion
from index.intervals import Interval
from index.operating_points import EFFORTS, MAX_DEPTH, MAX_SIZE, OperatingPoints


@pytest.mark.parametrize("nlist", [1, 2, 128, 512, 4096])
def test_untuned_efforts_rise(nlist: int | None) -> None:
    """No effort costs less than the one before it; with room for it, each probes more lists."""
    points = OperatingPoints.default(nlist=nlist)
    nprobes = [points[effort].nprobe for effort in EFFORTS[:-1]]

    assert nprobes == sorted(nprobes)
    assert 1 <= nprobes[0]
    assert nprobes[-1] <= nlist
    assert nlist < 4 or len(set(nprobes)) == 4


def test_untuned_low_and_high_of_a_million() -> None:
    """4,096 lists: low probes a 64th, high an 8th."""
    points = OperatingPoints.default(nlist=4096)

    assert (64, 200) == (points["low"].nprobe, points["low"].candidates)
    assert (512, 1_000) == (points["high"].nprobe, points["high"].candidates)


@pytest.mark.parametrize("nlist", [None, 512])
def test_every_list_is_long_enough_for_its_pages(nlist: int | None) -> None:
    """Any list fills the largest page; those of later pages reach the depth limit."""
    points = OperatingPoints.default(nlist=nlist)

    assert all(points[effort].candidates >= MAX_SIZE for effort in EFFORTS)
    assert points["high"].candidates == points["exact"].candidates == MAX_DEPTH


def test_without_lists_there_is_no_nprobe() -> None:
    """A flat index has none at any effort, and `exact` never has."""
    flat = OperatingPoints.default(nlist=None)

    assert {None} == {flat[effort].nprobe for effort in EFFORTS}
    assert OperatingPoints.default(nlist=512)["exact"].nprobe is None


def test_points_survive_their_file(tmp_path: Path) -> None:
    """Saved and loaded, with the fusion of both lists and the tuning they came from."""
    fusion = RankFusion(vector=0.7, lexical=0.3)
    points = OperatingPoints(OperatingPoints.default(nlist=64).points, fusion, {"notes": ["none"]})
    points.save(tmp_path / "points.json")

    assert points == OperatingPoints.load(tmp_path / "points.json")


def test_intervals_survive_their_file(tmp_path: Path) -> None:
    """JSON has only lists; what is read has ends with names again."""
    points = dict(OperatingPoints.default(nlist=64).points)
    points["low"] = replace(points["low"], ann_recall_at_10=0.95, ann_recall_at_10_interval=Interval(0.94, 0.96))
    OperatingPoints(points).save(tmp_path / "points.json")

    assert 0.96 == OperatingPoints.load(tmp_path / "points.json")["low"].ann_recall_at_10_interval.high


def test_another_format_is_refused(tmp_path: Path) -> None:
    """Points of an earlier version, whole as they are."""
    write_sealed_json(tmp_path / "points.json", {"format": 1, "points": [], "tuning": None})

    with pytest.raises(IndexFileError, match=r"has format 1, this version reads 3; run `que2search build`"):
        OperatingPoints.load(tmp_path / "points.json")


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    """One digit changed: the file carries its own checksum."""
    path = tmp_path / "points.json"
    OperatingPoints.default(nlist=64).save(path)
    path.write_text(path.read_text().replace('"candidates": 200', '"candidates": 201'))

    with pytest.raises(IndexFileError, match=r"points\.json was altered.*que2search tune"):
        OperatingPoints.load(path)


@pytest.mark.parametrize("content", ["", "[]", "{", "null", '{"format": 1}', "\x00"])
def test_rubbish_is_refused(tmp_path: Path, content: str) -> None:
    """Whatever the bytes, the error names the file."""
    path = tmp_path / "points.json"
    path.write_text(content)

    with pytest.raises(IndexFileError, match=r"points\.json"):
        OperatingPoints.load(path)


def test_saving_leaves_only_the_file(tmp_path: Path) -> None:
    """It is written beside and renamed; what is left is whole JSON."""
    OperatingPoints.default(nlist=64).save(tmp_path / "points.json")

    assert ["points.json"] == [path.name for path in tmp_path.iterdir()]
    assert "checksum" in json.loads((tmp_path / "points.json").read_text())
