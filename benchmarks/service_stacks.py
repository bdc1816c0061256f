"""Search services of others over our catalogue: what each needs is built once, then a command serves it."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec

from benchmarks.blocks import Progress
from benchmarks.conditions import ROOT
from benchmarks.peer_indexes import RESCORED, BuiltIndex, FaissHnsw, Ours, PeerIndex, Search, built_index, shown
from benchmarks.peers import Trial, Trials, part
from benchmarks.service_environments import StackError, environment
from benchmarks.service_material import Material, export_plainly
from benchmarks.service_peers.txtai_index import NEAREST_FILE, IndexJob
from benchmarks.vectors import K
from index.spec import choose_spec, spec_from_factory
from models.runtime import GoldenQuery

TORCH, ONNX, TXTAI_OURS, TXTAI = "torch", "onnx", "txtai-ours", "txtai"
STACKS = (TORCH, ONNX, TXTAI_OURS, TXTAI)  # for --without
MINILM_PRODUCTS = 20_000  # embedding more takes hours
_LISTS = 1_024  # of plain IVF
# One thread each: the processes share a core, and no pool may spin on it.
_ALONE = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(ROOT),
}


class Places(NamedTuple):
    """Where what is set up is kept between runs."""

    envs: Path  # environments
    indexes: Path  # of Faiss
    cache: Path  # products and vectors as files, exported towers, txtai's indexes


class Service(NamedTuple):
    """A search service that can be started, and how it is asked."""

    name: str
    searched: str  # its index, in its own words
    products: int
    command: Sequence[str]  # without host and port
    settings: Mapping[str, str]  # for its environment
    target: Callable[[GoldenQuery], str]
    ids: Callable[[bytes], list[str]]
    near_ids: Sequence[frozenset[str]]  # by query: the exact nearest among the vectors that it searches


class PlainIndex(NamedTuple):
    """A Faiss index as others build it, at a setting."""

    peer: PeerIndex
    built: BuiltIndex
    trial: Trial

    @property
    def setting(self) -> str:
        """In the words of Faiss' ParameterSpace."""
        reach = f"{self.peer.reach}={self.trial.effort.reach}"
        refined = len(self.peer.candidates) > 1
        return f"{reach},k_factor_rf={self.trial.effort.candidates / K}" if refined else reach


def plain_indexes(*, count: int, dim: int) -> list[PeerIndex]:
    """What an engineer would take from Faiss' guide: IVF-PQ, the same with exact re-scoring, a graph."""
    lists = min(choose_spec(count=count, dim=dim).nlist or 1, _LISTS)
    plain = f"IVF{lists},PQ{dim // 4}"
    refined = f"{plain},RFlat"
    return [
        Ours("IVF-PQ", spec_from_factory(plain, count=count, dim=dim), candidates=(K,)),
        Ours("IVF-PQ, re-scored", spec_from_factory(refined, count=count, dim=dim), candidates=RESCORED),
        FaissHnsw(),
    ]


def build_plain(given: Material, *, cache: Path, progress: Progress | None) -> list[tuple[PeerIndex, BuiltIndex]]:
    """All of them on disk, on all cores."""
    peers = plain_indexes(count=given.vectors.count, dim=given.vectors.dim)
    return [
        (peer, built_index(peer, given.vectors, cache=cache, progress=part(progress, at, len(peers))))
        for at, peer in enumerate(peers)
    ]


def cheapest_plain(
    built: Sequence[tuple[PeerIndex, BuiltIndex]], given: Material, target: float
) -> tuple[PlainIndex, list[str]]:
    """The fastest that finds at least `target` of the ten nearest, at its cheapest setting; and a note on the others.

    Raises:
        StackError: none reaches it.
    """
    reached: list[PlainIndex] = []
    notes: list[str] = []
    for peer, index in built:
        search: Search = peer.open(index.path)
        trials = Trials(peer, search, given.vectors.queries, given.near)
        trial = trials.cheapest(target)
        if trial is None:
            notes.append(f"{peer.name} ({peer.parameters}) finds {trials.best_recall:.3f} at most, ours {target:.4f}")
        else:
            reached.append(PlainIndex(peer, index, trial))
            notes.append(f"{peer.name} ({peer.parameters}) needs {shown(peer, trial.effort)}: {trial.p50_us:.0f} us")
    if not reached:
        raise StackError(f"no plain index finds {target:.4f} of the ten nearest, as ours does: {notes}")
    return min(reached, key=lambda one: one.trial.p50_us), notes


def torch_stack(given: Material, chosen: PlainIndex, *, run: Path, places: Places) -> Service:
    """FastAPI, torch, Faiss: what most people write."""
    python = environment("torch_stack", envs=places.envs)
    settings = {"PEER_RUN": str(run.absolute())}
    return _fastapi("FastAPI, torch eager, Faiss", "torch_app", python, settings, given, chosen)


def onnx_stack(given: Material, chosen: PlainIndex, *, run: Path, places: Places) -> Service:
    """The same with the exporter's graph."""
    python = environment("onnx_stack", envs=places.envs)
    settings = _plain_tower(given, run=run, cache=places.cache)
    return _fastapi("FastAPI, plain ONNX, Faiss", "onnx_app", python, settings, given, chosen)


def txtai_with_ours(given: Material, *, run: Path, places: Places) -> Service:
    """txtai's own service, with our towers' vectors; it has no place for a searcher's country."""
    python = environment("txtai", envs=places.envs)
    folder = places.cache / given.vectors.products_key / "txtai-ours"
    job = IndexJob(
        products=str(given.products),
        count=given.vectors.count,
        out=str(folder.absolute()),
        vectors=str(given.vectors_file),
    )
    settings = _plain_tower(given, run=run, cache=places.cache) | {"ALLOW_RESOLVE_TRANSFORM": "1"}
    _index_with_txtai(python, job, settings)
    return _txtai("txtai, our tower", python, folder, settings, job.count, given.near_ids_anywhere)


def txtai_with_minilm(given: Material, *, encoder: Path, products: int, places: Places) -> Service:
    """txtai's own service as it ships, with a sentence encoder that embeds titles and queries.

    Args:
        encoder: directory in Hugging Face layout.
        products: at most so many, the first ones: it takes milliseconds for each.
    """
    python = environment("txtai", envs=places.envs)
    count = min(products, given.vectors.count)
    folder = places.cache / given.vectors.products_key / f"txtai-{encoder.absolute().parent.name}-{count}"
    job = IndexJob(
        products=str(given.products),
        count=count,
        out=str(folder.absolute()),
        encoder=str(encoder.absolute()),
        queries=[query.query for query in given.queries],
    )
    _index_with_txtai(python, job, {})
    near = [frozenset(ids) for ids in json.loads((folder / NEAREST_FILE).read_bytes())]
    return _txtai("txtai, MiniLM", python, folder, {}, count, near)


def ours_target(query: GoldenQuery) -> str:
    """The request for page 1; the stacks that most people write take the same."""
    return "/search?" + urlencode({"q": query.query, "country": query.country or ""})


def ours_ids(body: bytes) -> list[str]:
    """Of the hits, best first."""
    return [hit["id"] for hit in json.loads(body)["hits"]]


def _fastapi(
    name: str, module: str, python: Path, settings: Mapping[str, str], given: Material, chosen: PlainIndex
) -> Service:
    app = f"benchmarks.service_peers.{module}:create_app"
    served = {
        "PEER_PRODUCTS": str(given.products),
        "PEER_INDEX": str(chosen.built.path),
        "PEER_SETTING": chosen.setting,
    }
    return Service(
        name=name,
        searched=f"{chosen.peer.parameters} {chosen.setting}",
        products=given.vectors.count,
        command=[*_uvicorn(python), "--factory", app],
        settings={**_ALONE, **served, **settings},
        target=ours_target,
        ids=ours_ids,
        near_ids=given.near_ids,
    )


def _txtai(
    name: str,
    python: Path,
    folder: Path,
    settings: Mapping[str, str],
    products: int,
    near_ids: Sequence[frozenset[str]],
) -> Service:
    config = folder / "service.yml"
    # JSON is YAML too. It serves the routes of what the file names, and loads the index that lies at the path.
    config.write_text(json.dumps({"path": str(folder.absolute()), "embeddings": {"content": True}}))
    return Service(
        name=name,
        searched="as txtai ships it",
        products=products,
        command=[*_uvicorn(python), "txtai.api:app"],
        settings={**_ALONE, "CONFIG": str(config), **settings},
        target=lambda query: "/search?" + urlencode({"query": query.query, "limit": K}),
        ids=lambda body: [hit["id"] for hit in json.loads(body)],
        near_ids=near_ids,
    )


def _uvicorn(python: Path) -> list[str]:
    return [str(python), "-m", "uvicorn", "--no-access-log", "--log-level", "warning"]


def _plain_tower(given: Material, *, run: Path, cache: Path) -> dict[str, str]:
    path = (cache / given.vectors.products_key / "plain_query_tower.onnx").absolute()
    if not path.exists():
        export_plainly(run, path)
    return {"PEER_RUN": str(run.absolute()), "PEER_TOWER": str(path)}


def _index_with_txtai(python: Path, job: IndexJob, settings: Mapping[str, str]) -> None:
    if (Path(job.out) / NEAREST_FILE).exists():
        return
    command = [str(python), "-m", "benchmarks.service_peers.txtai_index", msgspec.json.encode(job).decode()]
    environ = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), **settings}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise StackError(f"txtai cannot index {job.products}: {done.stderr.strip()[-800:]}")
