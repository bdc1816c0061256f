"""Which Faiss index to build: chosen by the number of products, or named by a factory string."""

import re
from dataclasses import dataclass
from typing import Any

import faiss

from index.errors import SpecError

FLAT_BELOW = 5_000  # products; an exact scan of so few is as fast as probing lists
FINER_FROM = 50_000  # products; among more, too many lie within the coarser codes' error of the tenth nearest
MIN_POINTS_PER_LIST = 39  # fewer and k-means centroids follow single vectors (Faiss' own limit)
_SUPPORTED = "Flat or IVF..., optionally behind OPQ/PCA and before a refine, as in OPQ32,IVF1024,PQ32"


@dataclass(frozen=True, kw_only=True)
class IndexSpec:
    """An index that can be built: checked against the number and size of the vectors."""

    factory: str
    count: int
    dim: int
    nlist: int | None  # None: no lists, hence no nprobe


@dataclass(frozen=True, kw_only=True)
class Layers:
    """A Faiss index taken apart: refine(transform(base)). The parts are views, owned by the whole."""

    refine: Any | None
    transform: Any | None
    base: Any

    @property
    def is_ivf(self) -> bool:
        """Whether the base has lists to probe."""
        return isinstance(self.base, faiss.IndexIVF)


def choose_spec(*, count: int, dim: int) -> IndexSpec:
    """The index for `count` vectors of `dim` floats: flat when few, else IVF, 4-bit fast-scan PQ and exact re-scoring.

    nlist is about 4 sqrt(count), a power of two, and never so large that a list trains on under 39 points. A code of 4
    bits stands for 4 dimensions, from FINER_FROM vectors on for 2: scanning costs more then, but a fraction of the
    candidates has to be re-scored.

    Raises:
        SpecError: no vectors, or `dim` is not divisible by 4.
    """
    if count < FLAT_BELOW:
        return spec_from_factory("Flat", count=count, dim=dim)
    if dim % 4:
        raise SpecError(f"dim={dim} is not divisible by 4, which the PQ index needs; use a multiple of 4")
    nlist = min(_nearest_power_of_two(4 * count**0.5), most_lists(count))
    codes = dim // (2 if count >= FINER_FROM else 4)
    return spec_from_factory(f"IVF{nlist},PQ{codes}x4fsr,RFlat", count=count, dim=dim)


def most_lists(count: int) -> int:
    """The largest power of two that leaves every list enough vectors to train on."""
    return _power_of_two_up_to(count / MIN_POINTS_PER_LIST)


def spec_from_factory(factory: str, *, count: int, dim: int) -> IndexSpec:
    """Check a Faiss factory string against the vectors it is to hold, before any work is done.

    Raises:
        SpecError: Faiss cannot parse it, `dim` is not divisible, it has no nprobe, or there are too few vectors.
    """
    if count < 1:
        raise SpecError(f"no index can be built from {count} vectors; embed the products first")
    # Before Faiss sees the string: it would reserve memory for any number of lists.
    named = re.search(r"IVF(\d+)", factory)
    if named is not None and not 1 <= int(named[1]) <= count:
        raise SpecError(
            f"{factory!r} asks for {named[1]} lists, but there are {count} vectors; "
            f"use at most IVF{max(1, count // MIN_POINTS_PER_LIST)}"
        )
    layers = layers_of(new_index(factory, dim=dim))
    if not (layers.is_ivf or isinstance(layers.base, faiss.IndexFlat)):
        raise SpecError(f"{factory!r} has no lists to probe, so its effort cannot be tuned; use {_SUPPORTED}")
    if count < (needed := _training_points_needed(layers)):
        raise SpecError(f"{factory!r} needs at least {needed} vectors to train on, but there are {count}")
    return IndexSpec(factory=factory, count=count, dim=dim, nlist=int(layers.base.nlist) if layers.is_ivf else None)


def new_index(factory: str, *, dim: int) -> Any:
    """An empty, untrained Faiss index for inner products.

    Raises:
        SpecError: Faiss cannot build it.
    """
    try:
        return faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as exc:
        reason = str(exc).rpartition("Error: ")[2] or str(exc).rpartition(": ")[2]
        raise SpecError(f"{factory!r} is no index for {dim}-d vectors ({reason}); use {_SUPPORTED}") from exc


def layers_of(whole: Any) -> Layers:
    """Take a Faiss index apart. The parts stay valid only while `whole` lives."""
    refine = transform = None
    base = faiss.downcast_index(whole)
    if isinstance(base, faiss.IndexRefine):
        refine, base = base, faiss.downcast_index(base.base_index)
    if isinstance(base, faiss.IndexPreTransform):
        transform, base = base, faiss.downcast_index(base.index)
    return Layers(refine=refine, transform=transform, base=base)


def _training_points_needed(layers: Layers) -> int:
    """k-means needs a point per centroid: nlist for the lists, 2^nbits for each PQ codebook (OPQ trains 8-bit ones)."""
    needed = [1]
    if layers.is_ivf:
        needed.append(int(layers.base.nlist))
    if hasattr(layers.base, "pq"):
        needed.append(int(layers.base.pq.ksub))
    if layers.transform is not None:
        needed.append(256)
    return max(needed)


def _nearest_power_of_two(value: float) -> int:
    lower = _power_of_two_up_to(value)
    return lower if value / lower < 2 * lower / value else 2 * lower


def _power_of_two_up_to(value: float) -> int:
    return 1 << max(0, int(value).bit_length() - 1)
