"""Vectors to measure an index with: made up, from files, or a catalogue's own; and the exact nearest of each query."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import faiss
import numpy as np

from index.build import all_cores
from index.catalogue import Catalogue
from index.files import write_atomically
from models.errors import DataError
from models.runtime import open_release

K = 10  # nearest products asked for
# How hard made-up vectors are to search. Products gather around topics, and vary most in few directions.
TOPICS = 500
POPULARITY = 0.5  # the j-th topic's share falls as 1 / j^POPULARITY; queries order the topics otherwise
DECAY = 0.8  # the j-th direction's strength falls as 1 / j^DECAY
SPREAD = 0.7  # of vectors around their topic, where topics spread by 1 around the origin
NOISE = 0.2  # length of what is added in all directions alike
# What sets queries apart: a query tower reads other texts than the document tower, and never agrees with it entirely.
TURN = 0.3  # the share of a query that is added in other directions
OFFSET = 0.6  # distance of all queries from the products, for queries of length 1

_BLOCK = 8_192  # rows drawn at once; a row depends on the seed and its block alone
_TIES = 2 * K  # nearest looked at for products as near as the K-th
_TIE = 1e-6  # float32 rounding between two ways to add up one inner product
_PRODUCTS, _QUERIES, _WORLD = range(3)  # streams of random numbers


@dataclass(frozen=True, kw_only=True)
class VectorSet:
    """Product vectors to index, and QUERY vectors to search them with: products in that role are too easy."""

    source: str
    products: np.ndarray  # (count, d) float32
    queries: np.ndarray  # (n, d) float32

    @property
    def count(self) -> int:
        return len(self.products)

    @property
    def dim(self) -> int:
        return int(self.products.shape[1])

    @cached_property
    def products_key(self) -> str:
        """Tells these products from all others, in a file's name; looks at a thousand of them."""
        some = self.products[:: max(1, self.count // 1_000)]
        return f"{self.source}-{self.count}x{self.dim}-{_digest(some)}"

    @cached_property
    def queries_key(self) -> str:
        """The same for the queries."""
        return f"{len(self.queries)}-{_digest(self.queries)}"

    def first(self, count: int) -> "VectorSet":
        """The same queries over the first `count` products alone."""
        return VectorSet(source=self.source, products=self.products[:count], queries=self.queries)


def made_up(*, products: int, queries: int, dim: int, seed: int = 0) -> VectorSet:
    """Vectors of length 1, as hard to search as two towers' are.

    Deterministic; fewer vectors of the same seed are the first ones of more. Memory: the vectors and one block.
    """
    world = _World(dim=dim, seed=seed)
    return VectorSet(
        source=f"made-up-{seed}",
        products=_filled(world.products(), count=products, dim=dim),
        queries=_filled(world.queries(), count=queries, dim=dim),
    )


class _World:
    """What a seed fixes for products and queries alike: topics, and directions."""

    def __init__(self, *, dim: int, seed: int) -> None:
        draw = np.random.default_rng([seed, _WORLD])
        strength = (1.0 + np.arange(dim)) ** -DECAY
        axes = _rotation(draw, dim)
        self._seed, self._dim = seed, dim
        self._directions = (strength / np.linalg.norm(strength))[:, None] * axes  # (d, d): strongest first
        self._topics = draw.normal(size=(TOPICS, dim)) @ self._directions
        self._shares = (1.0 + np.arange(TOPICS)) ** -POPULARITY
        self._asked = draw.permutation(self._shares)
        self._turn = TURN * _rotation(draw, dim)
        self._offset = OFFSET * _unit(draw.normal(size=dim))

    def products(self) -> Iterator[np.ndarray]:
        """Blocks without end, (_BLOCK, d)."""
        for draw in _draws(self._seed, _PRODUCTS):
            yield _unit(self._around_topics(draw, self._shares))

    def queries(self) -> Iterator[np.ndarray]:
        """Blocks without end, (_BLOCK, d)."""
        for draw in _draws(self._seed, _QUERIES):
            vectors = self._around_topics(draw, self._asked)
            yield _unit(_unit(vectors + vectors @ self._turn) + self._offset)

    def _around_topics(self, draw: np.random.Generator, shares: np.ndarray) -> np.ndarray:
        topics = self._topics[draw.choice(TOPICS, size=_BLOCK, p=shares / shares.sum())]
        own = draw.normal(size=(_BLOCK, self._dim)) @ self._directions
        noise = draw.normal(size=(_BLOCK, self._dim)) / self._dim**0.5
        vectors: np.ndarray = topics + SPREAD * own + NOISE * noise
        return vectors


def from_files(products: Path, queries: Path) -> VectorSet:
    """Vectors of `.npy` files, one a row. Products are read through mmap.

    Raises:
        DataError: a file is missing or holds no rows of numbers, or their dimensions differ.
    """
    return _checked(products.stem, _load(products), np.ascontiguousarray(_load(queries)))


def from_catalogue(release: Path, catalogue: Path) -> VectorSet:
    """A catalogue's vectors of a release, and the release's golden queries.

    Raises:
        ReleaseError, CatalogueError: one of them cannot be opened, or there are no golden queries.
        DataError: the catalogue holds no vectors of the release.
    """
    opened = open_release(release)
    with Catalogue.open(catalogue) as store:
        blocks = [batch.vectors for batch in store.vectors(opened.id)]
    if not blocks:
        raise DataError(f"{catalogue} holds no vectors of release {opened.id!r}; run `que2search build`")
    return _checked(opened.id, np.concatenate(blocks), opened.golden_vectors())


def nearest(vectors: VectorSet, *, cache: Path) -> np.ndarray:
    """(n, 20) int64 rows of the exact ten nearest products of each query and of what ties with the tenth; -1 for none.

    Computed on all cores, and kept in `cache`.
    """
    path = cache / vectors.products_key / f"nearest-{vectors.queries_key}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.save(content, exact_nearest(vectors))
        write_atomically(path, content.getvalue())
    near: np.ndarray = np.load(path)
    return near


def exact_nearest(vectors: VectorSet) -> np.ndarray:
    """`nearest`, computed anew."""
    among = min(_TIES, vectors.count)
    with all_cores():
        scores, rows = faiss.knn(vectors.queries, vectors.products, among, metric=faiss.METRIC_INNER_PRODUCT)
    tenth = scores[:, min(K, among) - 1, None]
    near: np.ndarray = np.where(scores >= tenth - _TIE, rows, -1)
    return near


def mean_recall(found: np.ndarray, near: np.ndarray) -> float:
    """ann_recall@10 over all queries.

    Args:
        found: (n, 10) rows found, -1 for none.
        near: of `nearest`.
    """
    hits = (found[:, :, None] == near[:, None, :]) & (near >= 0)[:, None, :]  # (n, 10, 20)
    wanted = np.minimum(K, (near >= 0).sum(axis=1))
    return float((hits.any(axis=2).sum(axis=1) / wanted).mean())


def _filled(blocks: Iterator[np.ndarray], *, count: int, dim: int) -> np.ndarray:
    rows = np.empty((count, dim), dtype=np.float32)
    for start in range(0, count, _BLOCK):
        part = rows[start : start + _BLOCK]
        part[:] = next(blocks)[: len(part)]
    return rows


def _draws(seed: int, stream: int) -> Iterator[np.random.Generator]:
    block = 0
    while True:
        yield np.random.default_rng([seed, stream, block])
        block += 1


def _rotation(draw: np.random.Generator, dim: int) -> np.ndarray:
    rotation, _ = np.linalg.qr(draw.normal(size=(dim, dim)))
    return rotation


def _unit(rows: np.ndarray) -> np.ndarray:
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return unit


def _load(path: Path) -> np.ndarray:
    try:
        rows = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as exc:
        raise DataError(f"{path} is no .npy file of vectors: {exc}") from exc
    if not isinstance(rows, np.ndarray):
        raise DataError(f"{path} holds several arrays; save one as .npy")
    if rows.ndim != 2 or rows.dtype.kind != "f" or len(rows) == 0:
        raise DataError(f"{path} holds {rows.dtype} of shape {rows.shape}; vectors are (n, d) float32")
    return rows.astype(np.float32, copy=False)


def _checked(source: str, products: np.ndarray, queries: np.ndarray) -> VectorSet:
    if products.shape[1] != queries.shape[1]:
        raise DataError(f"products have {products.shape[1]} dimensions, but queries {queries.shape[1]}")
    return VectorSet(source=source, products=products, queries=np.asarray(queries))


def _digest(rows: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()[:8]
