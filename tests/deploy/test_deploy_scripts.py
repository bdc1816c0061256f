"""The scripts that run in containers: requirements, probe, seed."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from index.catalogue import Catalogue
from index.cursor_key import KEY_FILE
from index.generations import open_current
from tests.helpers import small_featurizer
from tests.small_release import small_catalogue, small_release

DEPLOY = Path(__file__).parents[2] / "deploy"


def script(name: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DEPLOY / name, *map(str, arguments)],
        env={"PYTHONPATH": str(DEPLOY.parent), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as the image carries it."""
    home = tmp_path_factory.mktemp("sample")
    release = small_release(home / "releases", featurizer=small_featurizer())
    small_catalogue(home, release, products=40, factory="Flat")
    return home


def test_the_serving_image_installs_no_torch() -> None:
    """Without an extra: what serves. With `train`: that too, and torch."""
    serving, training = script("requirements.py").stdout, script("requirements.py", "train").stdout

    assert "onnxruntime" in serving
    assert not [name for name in ("torch", "polars", "locust") if name in serving]
    assert training.startswith(serving)
    assert "torch==" in training


def test_one_package_of_an_extra_can_be_asked_for() -> None:
    assert ["torch=="] == [line[:7] for line in script("requirements.py", "--only", "train:torch").stdout.split()]


@pytest.mark.parametrize(("status", "code"), [("200 OK", 0), ("503 Service Unavailable", 1)])
def test_the_probe_follows_the_status(status: str, code: int) -> None:
    """A server that answers once; what it was asked for is the path."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer_once() -> None:
            connection, _ = listening.accept()
            with connection:
                asked.append(connection.recv(100))
                connection.sendall(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())

        thread = threading.Thread(target=answer_once)
        thread.start()
        done = script("probe.py", "/readyz", Q2S_PORT=str(listening.getsockname()[1]))
        thread.join()

    assert code == done.returncode
    assert b"GET /readyz HTTP/1.0\r\n\r\n" == asked[0]


def test_the_probe_fails_where_nobody_listens() -> None:
    assert 0 != script("probe.py", "/livez", Q2S_PORT="1").returncode


def test_an_empty_home_gets_the_sample_and_a_key_of_its_own(sample: Path, tmp_path: Path) -> None:
    done = script("seed.py", sample, tmp_path)
    key = tmp_path / "catalogue" / KEY_FILE

    assert "filled with the sample" in done.stdout, done.stderr
    assert 40 == open_current(tmp_path / "catalogue").manifest.count
    with Catalogue.open(tmp_path / "catalogue") as catalogue:
        assert 40 == catalogue.count
    assert key.read_bytes() != (sample / "catalogue" / KEY_FILE).read_bytes()
    assert 0o600 == key.stat().st_mode & 0o777
    assert [path.name for path in (sample / "releases").iterdir()] == [
        path.name for path in (tmp_path / "releases").iterdir()
    ]


def test_a_home_with_a_catalogue_is_left_alone(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "catalogue").mkdir()

    assert "left as it is" in script("seed.py", sample, tmp_path).stdout
    assert [] == list((tmp_path / "catalogue").iterdir())


def test_a_killed_copy_is_begun_again(sample: Path, tmp_path: Path) -> None:
    """Half a catalogue and half a release lie beside, under other names."""
    for half in ("catalogue.tmp", "releases/small.tmp"):
        (tmp_path / half).mkdir(parents=True)
        (tmp_path / half / "half").touch()

    assert 0 == script("seed.py", sample, tmp_path).returncode
    assert 40 == open_current(tmp_path / "catalogue").manifest.count
    assert not list(tmp_path.rglob("half"))
