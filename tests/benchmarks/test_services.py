"""Other stacks beside ours: what they are given, what they answer over a real socket, and how they are compared."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import faiss
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.client import KeptConnection
from benchmarks.conditions import ROOT
from benchmarks.peer_indexes import Effort, built_index
from benchmarks.peers import Trial
from benchmarks.server import HOST, Server, free_port, launched
from benchmarks.service_blocks import Asked, ask_all, measure, recall_of
from benchmarks.service_environments import StackError, environment
from benchmarks.service_material import Material, export_plainly, material
from benchmarks.service_peers.txtai_index import IndexJob, exact_nearest
from benchmarks.service_stacks import PlainIndex, cheapest_plain, ours_ids, ours_target, plain_indexes
from benchmarks.services import READY, ServicesResult, compared
from benchmarks.vectors import VectorSet, nearest
from models.runtime import GoldenQuery, OnnxTower
from models.training.run import Run
from tests.benchmarks.fake_service import FakeService, running
from tests.helpers import product_vectors, query_vectors, small_catalogue

COUNT, DIM = 12_000, 16  # enough to train codes of 8 bits
QUERY = GoldenQuery(query="red dress", country="GB")


@pytest.fixture(scope="module")
def vectors() -> VectorSet:
    return VectorSet(source="test", products=product_vectors(COUNT, dim=DIM), queries=query_vectors(40, dim=DIM))


@pytest.fixture(scope="module")
def given_vectors(vectors: VectorSet, tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("material")
    near = nearest(vectors, cache=folder)
    return Material(vectors, [], near, [], [], folder / "products.jsonl", folder / "vectors.npy")


# What is compared


def test_recall_is_the_share_of_the_exact_nearest_that_was_found() -> None:
    """One of two for the first query; of three that tie for two places no more than all can be found."""
    near = [frozenset({"a", "b"}), frozenset(map(str, range(12)))]
    found = [["b", "x"], [str(at) for at in range(10)]]

    assert (0.5 + 1.0) / 2 == recall_of(found, near)


@given(st.lists(st.sets(st.integers(0, 30), min_size=1, max_size=12), min_size=1, max_size=5))
def test_who_answers_with_the_nearest_finds_all(near: list[set[int]]) -> None:
    """Whatever ties with the tenth may stand in its place; nothing is worth less than nothing found."""
    ids = [frozenset(map(str, rows)) for rows in near]

    assert 1.0 == recall_of([sorted(row) for row in ids], ids)
    assert 0.0 == recall_of([[] for _ in ids], ids)


@pytest.fixture
def services() -> Iterator[list[Asked]]:
    """Ours, and another one that finds nothing that it should."""
    with running(FakeService()) as ours, running(FakeService()) as other:
        yield [asked("ours", ours, near={"p0", "p1"}), asked("other", other, near={"q"})]


def asked(name: str, service: FakeService, *, near: set[str]) -> Asked:
    server = Server("127.0.0.1", service.port, None)
    targets = [ours_target(QUERY)] * 3
    recall, p50_us = ask_all(server, targets, ours_ids, [frozenset(near)] * 3)
    return Asked(name, "fake", 30, server, targets, recall, p50_us)


def test_services_are_compared_over_real_sockets(services: list[Asked]) -> None:
    """Recall comes from the answers' ids; ours is 1 times ours; of foreign processes no CPU time or memory is known."""
    measured = measure(services, core=0, blocks=1, calls=5)
    ours, other = compared(services, measured)

    assert (1.0, 0.0) == (ours["ann_recall_at_10"], other["ann_recall_at_10"])
    assert 1.0 == ours["p50_over_ours"]
    assert other["p50_over_ours"] == pytest.approx(other["p50_us"] / ours["p50_us"])
    assert ours["answers_per_s"] > 0
    assert [None] * 4 == [row[column] for row in (ours, other) for column in ("server_cpu_us", "memory_mb")]


def test_of_processes_of_this_machine_cpu_and_memory_are_known(services: list[Asked], tmp_path: Path) -> None:
    """This test plays both servers, so both have its memory; the picture shows them."""
    at_home = [one._replace(server=one.server._replace(process=psutil.Process())) for one in services]

    ours, other = rows = compared(at_home, measure(at_home, core=0, blocks=1, calls=5))

    assert (1.0, 1.0) == (ours["cpu_over_ours"], ours["answers_per_cpu_s_below_ours"])
    assert other["cpu_over_ours"] == pytest.approx(other["server_cpu_us"] / ours["server_cpu_us"])
    assert ours["memory_mb"] == pytest.approx(other["memory_mb"], rel=0.1)
    result = ServicesResult(bench="services", title="two", rows=rows, conditions={})
    assert all(path.exists() for path in result.save(tmp_path))


# What the others are given


def test_products_are_written_in_the_order_of_their_vectors(release_dir: Path, tmp_path: Path) -> None:
    """A line holds what a hit shows; the nearest are told by id."""
    from models.runtime import open_release

    release = open_release(release_dir)
    rows = np.eye(release.dim, dtype=np.float32)[:3]
    with small_catalogue(tmp_path / "catalogue", rows, release=release.id):
        pass

    written = material(release_dir, tmp_path / "catalogue", cache=tmp_path / "cache")

    lines = [json.loads(line) for line in written.products.read_text().splitlines()]
    assert [{"id": f"p{at}", "title": f"thing {at}", "price": at + 0.5} for at in range(3)] == lines
    assert (rows == np.load(written.vectors_file)).all()
    assert {frozenset({"p0", "p1", "p2"})} == set(written.near_ids)


def test_a_plain_index_is_set_by_a_text_that_faiss_reads(given_vectors: Material, tmp_path: Path) -> None:
    """Set once for all requests, an index finds the same as with parameters that travel with each call."""
    efforts = {"nprobe=8": Effort(8), "nprobe=8,k_factor_rf=5.0": Effort(8, 50), "efSearch=40": Effort(40)}
    vectors = given_vectors.vectors
    peers = plain_indexes(count=COUNT, dim=DIM)

    for peer, (setting, effort) in zip(peers, efforts.items(), strict=True):
        built = built_index(peer, vectors, cache=tmp_path, progress=lambda _done, _total: None)
        chosen = PlainIndex(peer, built, Trial(effort, 0.9, 1.0))
        assert setting == chosen.setting

        whole = faiss.read_index(str(built.path))
        faiss.ParameterSpace().set_index_parameters(whole, chosen.setting)
        once = whole.search(vectors.queries, 10)[1]
        each = np.stack([peer.open(built.path)(query, effort) for query in vectors.queries])
        assert (once == each).mean() > 0.99


def test_the_plain_index_is_one_that_finds_enough(given_vectors: Material, tmp_path: Path) -> None:
    """Codes of a byte for four dimensions cannot tell near neighbours apart; a note says how far they get."""
    built = [
        (peer, built_index(peer, given_vectors.vectors, cache=tmp_path, progress=lambda _done, _total: None))
        for peer in plain_indexes(count=COUNT, dim=DIM)
    ]

    chosen, notes = cheapest_plain(built, given_vectors, 0.97)

    assert chosen.trial.ann_recall_at_10 >= 0.97
    assert "IVF-PQ" != chosen.peer.name
    assert notes[0].startswith("IVF-PQ (IVF256,PQ4) finds 0.")
    with pytest.raises(StackError, match="no plain index finds"):
        cheapest_plain(built[:1], given_vectors, 0.97)


# The stacks


@pytest.mark.parametrize("module", ["torch_app", "onnx_app"])
def test_a_stack_finds_what_our_tower_and_exact_search_find(module: str, run_dir: Path, tmp_path: Path) -> None:
    """A real server over an index whose every list is probed: ids, scores and fields as a hit of ours."""
    run = Run.open(run_dir)
    texts = ["red dress", "blue lamp", "green sofa"]
    product_rows = OnnxTower(exported(run_dir, tmp_path)).embed(run.featurizer.queries(texts, [None] * 3))
    index = faiss.index_factory(product_rows.shape[1], "IVF1,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(product_rows)
    index.add(product_rows)
    faiss.write_index(index, str(tmp_path / "index"))
    lines = [json.dumps({"id": f"p{at}", "title": text, "price": 1.5}) for at, text in enumerate(texts)]
    (tmp_path / "products.jsonl").write_text("\n".join(lines))
    settings = {
        "PEER_INDEX": str(tmp_path / "index"),
        "PEER_SETTING": "nprobe=1",
        "PEER_PRODUCTS": str(tmp_path / "products.jsonl"),
        "PEER_RUN": str(run_dir),
        "PEER_TOWER": str(tmp_path / "tower.onnx"),
        "PYTHONPATH": str(ROOT),
    }
    port = free_port()
    app = ["--factory", f"benchmarks.service_peers.{module}:create_app"]
    command = [sys.executable, "-m", "uvicorn", *app, "--host", HOST, "--port", str(port)]

    with ExitStack() as stack:
        stack.enter_context(launched(command, port=port, ready=READY, settings=settings))
        connection = stack.enter_context(KeptConnection(HOST, port))
        for at, text in enumerate(texts):
            hits = json.loads(connection.get(ours_target(GoldenQuery(query=text))))["hits"]
            best = hits[0]
            assert (3, f"p{at}", text, 1.5) == (len(hits), best["id"], best["title"], best["price"])
            assert best["score"] == pytest.approx(1.0, abs=1e-4)


def exported(run_dir: Path, folder: Path) -> Path:
    export_plainly(run_dir, folder / "tower.onnx")
    return folder / "tower.onnx"


def test_the_nearest_of_a_foreign_encoder_are_those_of_all_its_lists(vectors: VectorSet, tmp_path: Path) -> None:
    """txtai's own index is asked past its settings; ties with the tenth are in, so ten or more."""
    index = faiss.index_factory(DIM, "IVF16,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors.products[:500])
    index.add(vectors.products[:500])
    (tmp_path / "products.jsonl").write_text("".join(f'{{"id": "p{at}"}}\n' for at in range(500)))
    embeddings = SimpleNamespace(
        ann=SimpleNamespace(backend=index), batchtransform=lambda queries, _: vectors.queries[: len(queries)]
    )
    job = IndexJob(products=str(tmp_path / "products.jsonl"), count=500, out="", queries=["a", "b"])

    near = exact_nearest(embeddings, job)

    exact = (-(vectors.queries[:2] @ vectors.products[:500].T)).argsort(axis=1)[:, :10]
    for ids, rows in zip(near, exact, strict=True):
        assert {f"p{row}" for row in rows} <= set(ids)
        assert len(ids) < 20


# Their environments


def test_an_environment_is_made_once_and_again_when_it_asks_for_more(tmp_path: Path) -> None:
    """What lies in it stays until its requirements change."""
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("# nothing\n")
    python = environment("peer", envs=tmp_path / "envs", requirements=wanted)
    trace = python.parents[1] / "trace"
    trace.touch()

    assert python == environment("peer", envs=tmp_path / "envs", requirements=wanted)
    assert trace.exists()

    wanted.write_text("# nothing more\n")
    environment("peer", envs=tmp_path / "envs", requirements=wanted)
    assert not trace.exists()


def test_what_cannot_be_installed_is_said_with_the_way_out(tmp_path: Path) -> None:
    """Pip's own words, and how to go on without; nothing passes for installed."""
    wanted = tmp_path / "wanted.txt"
    wanted.write_text(f"{tmp_path}/no-such-package.whl\n")

    with pytest.raises(StackError, match=r"(?s)'peer' cannot be made.*no-such-package.*--without"):
        environment("peer", envs=tmp_path / "envs", requirements=wanted)
    assert not (tmp_path / "envs" / "peer" / "installed.txt").exists()
