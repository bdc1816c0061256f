"""Writes and the disk: synced before they are told, and refused, with nothing lost, where it is full or read-only."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from index.catalogue_check import check_catalogue
from service.settings import Settings
from tests.helpers import small_featurizer
from tests.service.real_server import processes, server
from tests.small_release import small_catalogue, small_release

DISK_BYTES = 16 << 20
LEFT_BYTES = 1 << 20  # of it, for writes
LARGE = "x" * 60_000
SEARCH = {"q": "red dress", "effort": "exact"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 16 MB, in memory."""
    path = tmp_path / "disk"
    path.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs"]
    mounted = subprocess.run(["mount", *options, str(path)], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"only root may mount: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def settings(tmp_path: Path, disk: Path) -> Settings:
    """One worker over a catalogue on that disk; the release is on another."""
    release = small_release(tmp_path, featurizer=small_featurizer())
    return Settings(
        release=release,
        catalogue=small_catalogue(disk, release, products=40),
        warmup_queries=3,
        timeout_ms=60_000,
        max_waiting_ms=10_000,  # a test machine that others use is no overload
        max_standing_ms=10_000,
        watch_share=0,
        compact_at=0,
    )


def put(client: httpx.Client, product_id: str, *, title: str, wait: bool = False) -> httpx.Response:
    wanted = {"wait": "searchable"} if wait else {}
    return client.put(f"/products/{product_id}", json={"title": title, "description": LARGE}, params=wanted)


def test_a_full_disk_refuses_writes_and_keeps_the_others(settings: Settings, disk: Path) -> None:
    """503 that says so, for writes alone; once there is room, without a restart, all goes on where it was."""
    room = disk / "room"
    room.write_bytes(bytes(shutil.disk_usage(disk).free - LEFT_BYTES))
    with server(settings) as running, httpx.Client(base_url=running.url, timeout=60) as client:
        acknowledged: list[str] = []
        while (written := put(client, f"q{len(acknowledged)}", title="violet lamp")).status_code == 202:
            acknowledged.append(f"q{len(acknowledged)}")
        deleted = client.delete("/products/p1")
        searched = client.get("/search", params=SEARCH)
        titles = {client.get(f"/products/{id_}").json()["title"] for id_ in acknowledged}
        asked = client.post("/admin/release", json={"release": "small"})
        room.unlink()
        again = put(client, "later", title="yellow sofa", wait=True)
        found = client.get("/search", params={"q": "violet", "mode": "lexical", "size": 100}).json()["hits"]

    assert acknowledged
    assert 503 == written.status_code
    assert "nothing was stored. Is the disk full" in written.json()["detail"]
    assert deleted.status_code in {202, 503}  # the pages that others left may do for it
    assert 200 == searched.status_code
    assert {"violet lamp"} == titles
    assert asked.status_code in {202, 503}, asked.text
    assert 200 == again.status_code
    assert set(acknowledged) == {hit["id"] for hit in found}
    assert [] == check_catalogue(disk / "catalogue").problems


def test_a_disk_for_reading_only_is_searched(settings: Settings, disk: Path) -> None:
    """The server starts, answers searches, and says why it takes no writes."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with server(settings) as running, httpx.Client(base_url=running.url, timeout=60) as client:
        searched = client.get("/search", params=SEARCH)
        refused = put(client, "q", title="lamp")
        asked = client.post("/admin/release", json={"release": "small"})

    assert 200 == searched.status_code
    assert 10 == len(searched.json()["hits"])
    assert (503, 503) == (refused.status_code, asked.status_code)
    assert "its folder cannot be written to" in refused.json()["detail"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows the system calls")
def test_a_write_is_on_disk_before_202_is_sent(settings: Settings, tmp_path: Path) -> None:
    """Between any two such answers the committer has waited for fdatasync."""
    trace = tmp_path / "trace"
    with server(settings) as running, httpx.Client(base_url=running.url, timeout=60) as client:
        calls = ["fdatasync", "write", "writev", "sendto", "sendmsg"]
        (committer,) = processes(running, "service.committer")
        traced = [option for pid in (running.process.pid, committer.pid) for option in ("-p", str(pid))]
        command = ["strace", "-f", *traced, "-e", f"trace={','.join(calls)}", "-o", str(trace)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            if "attached" not in strace.stderr.readline():
                pytest.skip("strace may trace nothing here")
            statuses = [put(client, f"q{at}", title="lamp").status_code for at in range(5)]
            strace.terminate()
    kinds = [
        "synced" if "sync" in line else "told"
        for line in trace.read_text().splitlines()
        if ("sync" in line and line.endswith("= 0")) or "HTTP/1.1 202" in line
    ]

    assert [202] * 5 == statuses
    assert 5 == kinds.count("told")
    assert all(before == "synced" for before, now in zip(["none", *kinds], kinds, strict=False) if now == "told")
