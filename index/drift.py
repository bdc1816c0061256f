"""How well an index still fits the vectors: what its codes lose of them, and how evenly its lists are filled."""

from typing import Any, NamedTuple

import faiss
import numpy as np

from index.ann import read_mapped
from index.catalogue import Catalogue
from index.generations import INDEX_FILE, Generation
from index.spec import layers_of

SAMPLE = 1_000  # vectors that an error is measured over


class Drift(NamedTuple):
    """An index against the vectors it was built from and those that came later. None: there is no such thing."""

    training_error: float | None  # see `quantisation_error`
    new_error: float | None  # the same of vectors that the catalogue has and the generation has not
    list_imbalance: float | None  # see `list_imbalance`
    empty_lists: int | None


class DriftGauge:
    """Measures the drift of one generation. Only the new vectors change, so only they are read again.

    Args:
        generation: what is served.
        catalogue: where later vectors arrive.

    Raises:
        IndexFileError: the index cannot be read.
    """

    def __init__(self, generation: Generation, catalogue: Catalogue) -> None:
        self._generation = generation
        self._catalogue = catalogue
        self._whole = read_mapped(generation.path / INDEX_FILE)  # once more, bare: costs its small parts only
        self._seen = (generation.manifest.sequence, generation.manifest.count)
        sizes = generation.ann.list_sizes
        self._drift = Drift(
            training_error=quantisation_error(self._whole, _spread(generation.exact.vectors, SAMPLE)),
            new_error=None,
            list_imbalance=list_imbalance(sizes) if len(sizes) else None,
            empty_lists=int((sizes == 0).sum()) if len(sizes) else None,
        )

    def measure(self) -> Drift:
        """The drift as of now. Reads the newest vectors again when any product or vector was written since."""
        now = (self._catalogue.sequence, self._catalogue.vector_count(self._generation.manifest.release))
        if now != self._seen:
            newest = newest_vectors(self._catalogue, self._generation, limit=SAMPLE)
            self._drift = self._drift._replace(new_error=quantisation_error(self._whole, newest))
            self._seen = now
        return self._drift


def quantisation_error(whole: Any, vectors: np.ndarray) -> float | None:
    """Share of the vectors' squared length that the codes of a Faiss index lose: sum |x - x'|^2 / sum |x|^2.

    x' is a vector encoded and decoded again by lists and codes, without the exact vectors behind them.

    Args:
        whole: a trained Faiss index.
        vectors: (n, dim) float32.

    Returns:
        From 0 (nothing is lost); None without vectors.
    """
    if len(vectors) == 0:
        return None
    codec = _codec(whole)
    faiss.omp_set_num_threads(1)
    kept = codec.sa_decode(codec.sa_encode(np.ascontiguousarray(vectors, dtype=np.float32)))  # (n, dim)
    return float(((vectors - kept) ** 2).sum() / (vectors**2).sum())


def list_imbalance(sizes: np.ndarray) -> float:
    """Faiss' imbalance factor of (nlist,) list sizes: 1 when all are equal, nlist when one list holds everything.

    A search scans so many times the codes that it would scan in equal lists.
    """
    shares = sizes / sizes.sum()
    return float(len(sizes) * (shares**2).sum())


def newest_vectors(catalogue: Catalogue, generation: Generation, *, limit: int) -> np.ndarray:
    """(at most limit, dim) float32: of the products that came after all of the generation's, the last ones.

    A number is never given twice, so they lie at the end of the table: what is read does not grow with it.
    """
    last = int(generation.numbers[-1]) if len(generation.numbers) else -1
    return catalogue.newest_vectors(generation.manifest.release, above=last, limit=limit)


def _codec(whole: Any) -> Any:
    """What encodes and decodes: the index without the exact vectors behind it."""
    layers = layers_of(whole)
    if hasattr(layers.base, "pq") and getattr(layers.base, "fine_quantizer", layers.base.pq) is None:
        layers.base.fine_quantizer = layers.base.pq  # Faiss 1.15 forgets it in files, and decoding without it crashes
    return layers.base if layers.transform is None else layers.transform


def _spread(vectors: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` rows, evenly spaced."""
    rows = np.linspace(0, len(vectors) - 1, min(limit, len(vectors))).astype(np.int64)
    return np.array(vectors[rows])
