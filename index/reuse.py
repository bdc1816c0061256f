"""What a new generation takes over from the present one: its trained lists and codes, as long as they fit."""

import re
from typing import Any

import faiss

from index.catalogue import Catalogue
from index.drift import DriftGauge
from index.errors import IndexFileError, SpecError
from index.generations import INDEX_FILE, Generation, GenerationManifest
from index.spec import FLAT_BELOW, IndexSpec, choose_spec, most_lists

DRIFTED = 1.25  # times the loss of the vectors that were trained on
OUTGROWN = 2  # times the lists that it has, or the products that a flat index is for


def emptied(generation: Generation) -> Any:
    """The generation's Faiss index, trained, without its vectors. Raises IndexFileError."""
    path = generation.path / INDEX_FILE
    try:
        whole = faiss.read_index(str(path))
    except RuntimeError as exc:
        raise IndexFileError(f"cannot read {path}; run `que2search build`") from exc
    whole.reset()
    return whole


def spec_like(generation: Generation, *, count: int) -> IndexSpec:
    """The same index over `count` vectors. Raises SpecError when there are none."""
    manifest = generation.manifest
    if count < 1:
        raise SpecError(f"no vectors of release {manifest.release!r} are left; write products first")
    return IndexSpec(factory=manifest.factory, count=count, dim=manifest.dim, nlist=manifest.nlist)


def factory_for(manifest: GenerationManifest, *, count: int) -> str:
    """The generation's factory string, or a greater one where `count` products have outgrown it.

    They have when the usual index for so many would have twice its lists or more, or, of one without lists, when they
    are twice as many as a flat index is for.
    """
    if manifest.dim % 4:  # the usual indexes do not take it, so this one was chosen by hand
        return manifest.factory
    usual = choose_spec(count=count, dim=manifest.dim)
    if manifest.nlist is None:
        return usual.factory if count >= OUTGROWN * FLAT_BELOW else manifest.factory
    if usual.nlist is None or usual.nlist < OUTGROWN * manifest.nlist:
        return manifest.factory
    was_usual = manifest.factory == choose_spec(count=manifest.count, dim=manifest.dim).factory
    return usual.factory if was_usual else re.sub(r"IVF\d+", f"IVF{usual.nlist}", manifest.factory)


def has_drifted(generation: Generation, catalogue: Catalogue) -> bool:
    """Whether the codes lose more of the vectors that came since than of those they were trained on, by a quarter.

    False, too, while there are too few vectors to train its lists on.
    """
    manifest = generation.manifest
    if most_lists(catalogue.vector_count(manifest.release)) < (manifest.nlist or 1):
        return False
    drift = DriftGauge(generation, catalogue).measure()
    if drift.training_error is None or drift.new_error is None:
        return False
    return drift.new_error > DRIFTED * drift.training_error
