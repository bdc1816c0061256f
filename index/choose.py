"""Choose an index by measuring: candidates over the real vectors, searched by golden queries, held against goals."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from index.ann import FaissIndex
from index.build import Steps, all_cores, fill, train
from index.errors import SpecError
from index.exact import ExactIndex
from index.spec import FLAT_BELOW, choose_spec, layers_of, most_lists, new_index, spec_from_factory
from index.sweep import Measured, cheapest, nearest, sweep
from index.vector_tables import VectorBatch

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Goals:
    """What an index has to reach. Where no latency is asked for, the fastest wins; else the smallest."""

    ann_recall_at_10: float = 0.95
    bytes_per_product: float | None = None
    p50_us: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.ann_recall_at_10 <= 1:
            raise SpecError(f"the recall goal must be above 0 and at most 1, got {self.ann_recall_at_10}")
        for name, value in (("bytes", self.bytes_per_product), ("latency", self.p50_us)):
            if value is not None and value <= 0:
                raise SpecError(f"the {name} goal must be above 0, got {value}")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A candidate index at its cheapest setting that reaches the recall goal, or at its best one where none does."""

    factory: str
    bytes_per_product: float
    build_s: float  # all cores; without the lists where an earlier candidate had trained as many
    setting: Measured

    def misses(self, goals: Goals) -> dict[str, float]:
        """By goal, how far it is missed: recall by the share of the errors that are too many, the others relatively."""
        recall, size, p50 = self.setting.ann_recall_at_10, self.bytes_per_product, self.setting.p50_us
        missed = {"recall": (goals.ann_recall_at_10 - recall) / (1 - goals.ann_recall_at_10 + 1e-3)}
        if goals.bytes_per_product is not None:
            missed["bytes"] = size / goals.bytes_per_product - 1
        if goals.p50_us is not None:
            missed["p50"] = p50 / goals.p50_us - 1
        return {goal: by for goal, by in missed.items() if by > 0}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The index to build, everything it was chosen from, and what could not be had."""

    factory: str
    trials: Sequence[Trial]
    notes: Sequence[str]


def choose_by_measuring(
    vectors: Callable[[], Iterable[VectorBatch]],
    queries: np.ndarray,
    *,
    count: int,
    dim: int,
    goals: Goals,
    progress: Progress | None = None,
) -> Choice:
    """Build every candidate over all vectors, search the golden queries with it, and choose by the goals.

    Memory: the vectors twice, and one candidate. Time: a build for each candidate.

    Args:
        vectors: gives all vectors, each time it is called.
        queries: (n, dim) float32 golden QUERY vectors.
        count, dim: of the vectors.
        goals: what to reach.
        progress: called with (done, total) vectors trained on and added, over all candidates.

    Raises:
        SpecError: no queries, or vectors that no index fits.
    """
    if len(queries) == 0:
        raise SpecError("there are no golden queries to measure with; name the index with --factory instead")
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    relevant = nearest(ExactIndex(np.concatenate([batch.vectors for batch in vectors()])), queries)
    factories = candidate_factories(count=count, dim=dim)
    lists: dict[int, np.ndarray] = {}
    trials = []
    for at, factory in enumerate(factories):
        told = None if progress is None else _share_of(progress, at, len(factories))
        started = perf_counter()
        ann = _build(factory, vectors, lists, count=count, dim=dim, progress=told)
        seconds = perf_counter() - started
        setting = cheapest(sweep(ann, queries, relevant), goals.ann_recall_at_10)
        trials.append(
            Trial(
                factory=factory,
                bytes_per_product=round(ann.stats().bytes_per_product, 1),
                build_s=round(seconds, 1),
                setting=setting,
            )
        )
    return choose(trials, goals)


def candidate_factories(*, count: int, dim: int) -> list[str]:
    """Faiss factories that may suit: lists by size, codes of 1 to 2 bits a dimension, three ways to keep vectors.

    The first is what would be built unasked. Below FLAT_BELOW vectors there is only the flat index.
    """
    unasked = choose_spec(count=count, dim=dim)
    if count < FLAT_BELOW or unasked.nlist is None:
        return [unasked.factory]
    nlist = unasked.nlist
    kept = ("RFlat", "Refine(SQfp16)", "Refine(SQ8)")
    found = [unasked.factory]
    found += [f"IVF{nlist},PQ{m}x4fsr,{refine}" for refine in kept for m in (dim // 4, dim // 2)]
    others = [lists for lists in (nlist // 2, 2 * nlist) if lists <= most_lists(count)]
    found += [unasked.factory.replace(f"IVF{nlist}", f"IVF{lists}") for lists in others]
    found.append(f"OPQ{dim // 4},IVF{nlist},PQ{dim // 4}")
    return list(dict.fromkeys(found))


def choose(trials: Sequence[Trial], goals: Goals) -> Choice:
    """The best trial that misses no goal; without one, that which misses least, and notes that say by how much.

    Best: the fastest, or the smallest when a latency is asked for.
    """

    def best(trial: Trial) -> tuple[float, float]:
        value = trial.setting.p50_us if goals.p50_us is None else trial.bytes_per_product
        return sum(trial.misses(goals).values()), value

    chosen = min(trials, key=best)
    missed = chosen.misses(goals)
    notes = [f"no index reaches every goal; {chosen.factory} comes nearest"] * bool(missed)
    if "recall" in missed:
        notes.append(f"ann_recall@10 {chosen.setting.ann_recall_at_10:.3f} instead of {goals.ann_recall_at_10}")
    if "bytes" in missed:
        notes.append(f"{chosen.bytes_per_product:.0f} bytes a product instead of {goals.bytes_per_product:g}")
    if "p50" in missed:
        notes.append(
            f"p50 {chosen.setting.p50_us:.0f} us instead of {goals.p50_us:g}; it varies with the machine's load"
        )
    return Choice(factory=chosen.factory, trials=trials, notes=notes)


def _build(
    factory: str,
    vectors: Callable[[], Iterable[VectorBatch]],
    lists: dict[int, np.ndarray],
    *,
    count: int,
    dim: int,
    progress: Progress | None,
) -> FaissIndex:
    """One candidate. Lists are most of the training, so candidates with as many of them share theirs."""
    spec = spec_from_factory(factory, count=count, dim=dim)
    whole = new_index(factory, dim=dim)
    steps = Steps(progress, total=spec.count)
    layers = layers_of(whole)
    shareable = layers.is_ivf and layers.transform is None  # a transform turns the space that the lists lie in
    if shareable and spec.nlist in lists:
        layers.base.quantizer.add(lists[spec.nlist])
    with all_cores():
        train(whole, spec, vectors(), Steps(None, total=0))
        fill(whole, vectors(), steps)
    if shareable and spec.nlist is not None:
        lists[spec.nlist] = _centroids(layers.base)
    return FaissIndex(whole, numbers=np.arange(count, dtype=np.uint32))


def _centroids(base: Any) -> np.ndarray:
    """(nlist, dim) float32."""
    found: np.ndarray = base.quantizer.reconstruct_n(0, base.nlist)
    return found


def _share_of(progress: Progress, at: int, parts: int) -> Progress:
    return lambda done, total: progress(at * total + done, parts * total)
