"""From marketplace data to answers over a socket, by the commands that a user types."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.helpers import SMALL_CONFIG

ROOT = Path(__file__).parents[2]
PRODUCTS = 5_500  # above 5,000 the index has lists, so first and later pages differ in nprobe
START_LIMIT_S = 60.0


class Service(NamedTuple):
    """A running server."""

    url: str
    process: "subprocess.Popen[bytes]"

    def search(self, **fields: Any) -> dict[str, Any]:
        response = httpx.post(f"{self.url}/search", json=fields)
        assert 200 == response.status_code, response.text
        answer: dict[str, Any] = response.json()
        return answer


def que2search(home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "que2search.py", *map(str, arguments)]
    result = subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=280, check=False)
    assert 0 == result.returncode, result.stderr
    return result


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("Q2S_")}
    return kept | {"Q2S_HOME": str(home), "OMP_NUM_THREADS": "1", "COLUMNS": "200"} | more


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with everything that `make run` makes, in small."""
    home = tmp_path_factory.mktemp("home")
    (home / "small.toml").write_text(SMALL_CONFIG.replace("epochs = 2", "epochs = 1"))
    que2search(home, "data", "sample", "--products", str(PRODUCTS), "--seed", "3")
    que2search(home, "train", "--config", home / "small.toml")
    que2search(home, "export")
    que2search(home, "build")
    que2search(home, "tune", "--json", home / "points.json")
    return home


@pytest.fixture(scope="module")
def services(home: Path) -> Iterator[dict[str, Service]]:
    """The same release and catalogue, served by either engine."""
    running = {engine: started(home, engine) for engine in ("onnx", "torchscript")}
    try:
        for service in running.values():
            wait_until_ready(service)
        yield running
    finally:
        for service in running.values():
            service.process.send_signal(signal.SIGTERM)
        codes = [service.process.wait(timeout=30) for service in running.values()]
    assert [0, 0] == codes


def started(home: Path, engine: str) -> Service:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, ROOT / "que2search.py", "serve", "--port", str(port)],
        env=environment(home, Q2S_ENGINE=engine, Q2S_WRITES="false"),  # several may search one catalogue
        stdout=subprocess.DEVNULL,
    )
    return Service(f"http://127.0.0.1:{port}", process)


def wait_until_ready(service: Service) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit:
        try:
            if httpx.get(f"{service.url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"{service.url} is not ready after {START_LIMIT_S} s")


def test_first_and_later_pages_search_with_different_nprobe(services: dict[str, Service]) -> None:
    """Page 1 is cheap, page 2 is better; the answers and /metrics both say so."""
    service = services["onnx"]
    first = service.search(q="dress", country="US")
    later = service.search(q="dress", country="US", cursor=first["cursor"])
    metrics = httpx.get(f"{service.url}/metrics").text

    assert ("low", "high") == (first["search"]["effort"], later["search"]["effort"])
    assert first["search"]["nprobe"] < later["search"]["nprobe"]
    assert not {hit["id"] for hit in first["hits"]} & {hit["id"] for hit in later["hits"]}
    for effort, page in (("low", "first"), ("high", "later")):
        line = f'q2s_request_seconds_count{{effort="{effort}",mode="vector",page="{page}"}}'
        assert any(float(text.split()[-1]) >= 1 for text in metrics.splitlines() if text.startswith(line))


def test_a_page_by_number_is_the_page_that_cursors_reach(services: dict[str, Service]) -> None:
    """page=3 equals following the cursor twice at the same size."""
    service = services["onnx"]
    page = service.search(q="sofa", size=7)
    for _ in range(2):
        page = service.search(q="sofa", size=7, cursor=page["cursor"])

    assert [hit["id"] for hit in page["hits"]] == [
        hit["id"] for hit in service.search(q="sofa", size=7, page=3)["hits"]
    ]


@pytest.mark.parametrize("query", ["dress", "vestido rojo", "ドレス", "xqzt 77"])
def test_both_engines_answer_the_same_products(services: dict[str, Service], query: str) -> None:
    """ONNX Runtime and TorchScript run one tower: the exact lists agree, scores to 1e-4."""
    onnx, torchscript = (services[engine].search(q=query, effort="exact", size=20) for engine in services)

    assert [hit["id"] for hit in onnx["hits"]] == [hit["id"] for hit in torchscript["hits"]]
    assert [hit["score"] for hit in onnx["hits"]] == pytest.approx(
        [hit["score"] for hit in torchscript["hits"]], abs=1e-4
    )


def test_a_product_is_found_by_its_own_vector(services: dict[str, Service]) -> None:
    """/embed of a query and of a product are unit vectors of one release."""
    url = services["onnx"].url
    query = httpx.post(f"{url}/embed", json={"query": "red dress", "country": "US"}).json()
    product = httpx.post(f"{url}/embed", json={"product": {"title": "red dress"}}).json()

    assert query["release"] == product["release"]
    for answer in (query, product):
        assert 1.0 == pytest.approx(sum(x * x for x in answer["vector"]), abs=1e-4)


def test_the_client_prints_a_table(home: Path, services: dict[str, Service]) -> None:
    """Scores, effort and stage times, for people."""
    printed = que2search(home, "search", "dress", "--url", services["onnx"].url, "--country", "US").stdout

    assert "effort=low" in printed
    assert "products=" in printed


def test_evaluate_shows_the_run_beside_its_baselines(home: Path) -> None:
    """Full model, trigram-only variant and BM25 in a table, metrics.json and report.html; all trained once."""
    printed = que2search(home, "evaluate").stdout
    report = (home / "runs" / "sample" / "report.html").read_text()
    metrics = json.loads((home / "runs" / "sample" / "metrics.json").read_text())

    assert ["full model", "trigram only", "BM25"] == [system["name"] for system in metrics["systems"]]
    assert "trigram only" in printed
    for section in ("training", "attention", "importance", "slices", "worst"):
        assert f'id="{section}' in report
    assert "epoch 1" in printed
    assert "epoch 1" not in que2search(home, "evaluate").stdout


def test_building_again_writes_the_next_generation(home: Path, services: dict[str, Service]) -> None:
    """Nothing is embedded twice, a plain IVF-PQ may be asked for, and who searches meanwhile notices nothing else."""
    before = services["onnx"].search(q="dress", effort="exact")
    que2search(home, "build", "--factory", "IVF32,PQ16", "--json", home / "generation.json")
    made = json.loads((home / "generation.json").read_text())

    assert (2, "IVF32,PQ16", PRODUCTS) == (made["generation"], made["factory"], made["count"])
    after = services["onnx"].search(q="dress", effort="exact")
    assert [hit["id"] for hit in before["hits"]] == [hit["id"] for hit in after["hits"]]
