"""Processes that are killed while they write: what was acknowledged is there, and nothing is half there."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from index.catalogue import Catalogue
from index.catalogue_check import check_catalogue
from tests.index import live_writer

ROOT = Path(__file__).parents[2]
KILLS = 20
SEED = 20_231


def start(path: Path, seed: int, *, under: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*under, sys.executable, "-m", "tests.index.live_writer", str(path), str(seed)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_writer_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Twenty SIGKILLs at random moments; each time the products are those of the last step told, or of the next one."""
    draw = random.Random(SEED)
    titles: dict[str, str] = {}
    Catalogue.create(tmp_path).close()
    for seed in range(KILLS):
        with start(tmp_path, seed) as writer:
            acknowledged = [int(writer.stdout.readline()) for _ in range(draw.randint(1, 30))]
            time.sleep(draw.random() * 0.005)
            writer.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in writer.stdout if line.endswith("\n")]

        for step in acknowledged:
            titles = live_writer.after(titles, seed, step)
        in_flight = live_writer.after(titles, seed, acknowledged[-1] + 1)
        with Catalogue.open(tmp_path, readonly=False) as catalogue:
            newest = {name: catalogue.newest(name) for name in live_writer.IDS}
        found = {name: one.product["title"] for name, one in newest.items() if one is not None}

        assert found in (titles, in_flight), f"seed {SEED}, kill {seed}"
        assert [] == check_catalogue(tmp_path).problems
        titles = found


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows the system calls")
def test_a_write_is_on_disk_before_it_is_told(tmp_path: Path) -> None:
    """Between any two acknowledgements the process waits for fdatasync."""
    Catalogue.create(tmp_path / "catalogue").close()
    trace = tmp_path / "trace"
    under = ("strace", "-f", "-e", "trace=fdatasync,fsync,write", "-o", str(trace))
    with start(tmp_path / "catalogue", 0, under=under) as writer:
        told = [writer.stdout.readline() for _ in range(5)]
        writer.terminate()
    if not told[0]:
        pytest.skip("strace may trace nothing here")
    calls = [line.split()[1] for line in trace.read_text().splitlines() if "sync(" in line or "write(1," in line]
    kinds = ["sync" if "sync(" in call else "told" for call in calls]

    assert kinds.count("told") >= 5
    assert all(before == "sync" for before, now in zip(["none", *kinds], kinds, strict=False) if now == "told")


def test_two_processes_write_and_are_killed_without_harm(tmp_path: Path) -> None:
    """Their transactions take turns: the log has no gap, and whoever is left writes on."""
    Catalogue.create(tmp_path).close()
    with start(tmp_path, 0) as one, start(tmp_path, 1) as other:
        for _ in range(10):
            one.stdout.readline()
            other.stdout.readline()
        one.kill()
        one.wait()
        further = [other.stdout.readline() for _ in range(10)]
        other.kill()

    assert all(further)
    report = check_catalogue(tmp_path)
    assert [] == report.problems
    assert report.log_entries >= 30
