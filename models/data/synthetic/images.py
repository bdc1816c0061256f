"""Image vectors: what an image encoder would give, made from the hidden truth.

A vector is the sum of a direction for the category (siblings share half of it), one for the colour, one for the
style, and noise; scaled to length 1.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.data.synthetic.facts import NONE, Facts
from models.data.synthetic.vocabulary import COLOUR, TRAIT, Vocabulary

DIM = 64
MOST = 5
_COUNT_SHARES = (0.08, 0.32, 0.25, 0.18, 0.1, 0.07)  # listings with 0, 1, ... 5 images
_COLOUR_WEIGHT, _STYLE_WEIGHT, _NOISE = 0.8, 0.6, 0.5

Floats = NDArray[np.float64]


class ImageMaker:
    """Directions fixed by the seed; `draw` makes the images of a chunk of products."""

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        rng = np.random.default_rng([seed, 0x1337])
        parents = {leaf.parent: _directions(rng, 1)[0] for leaf in vocabulary.leaves}
        shared = np.stack([parents[leaf.parent] for leaf in vocabulary.leaves])
        self._leaf = _unit(_directions(rng, len(vocabulary.leaves)) + 0.7 * shared)  # (leaves, DIM)
        self._colour = _with_none(_directions(rng, len(vocabulary.colours)))
        self._style = _with_none(_directions(rng, len(vocabulary.facet_keys[TRAIT])))

    def draw(self, facts: Facts, rng: np.random.Generator) -> pa.Array:
        """list<list<float32>> of len(facts): 0-5 vectors of DIM each."""
        counts = rng.choice(MOST + 1, len(facts), p=_COUNT_SHARES)
        counts = np.where((facts.also != NONE) & (counts == 1), 2, counts)  # two items take two pictures
        owner = np.repeat(np.arange(len(facts)), counts)  # (images,)
        vectors = self._vectors(facts, owner, _shows_second(facts, owner), rng)
        flat = pa.array(vectors.astype(np.float32).reshape(-1))
        inner = pa.ListArray.from_arrays(pa.array(np.arange(len(owner) + 1) * DIM, pa.int32()), flat)
        return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], counts.cumsum()]), pa.int32()), inner)

    def _vectors(
        self, facts: Facts, owner: NDArray[np.int64], second: NDArray[np.bool_], rng: np.random.Generator
    ) -> Floats:
        leaf = np.where(second, facts.also[owner], facts.leaf[owner])
        colour = np.where(second, NONE, facts.facets[owner, COLOUR])
        style = np.where(second, NONE, facts.facets[owner, TRAIT])
        noise = rng.standard_normal((len(owner), DIM)) / np.sqrt(DIM)
        return _unit(
            self._leaf[leaf]
            + _COLOUR_WEIGHT * self._colour[colour]
            + _STYLE_WEIGHT * self._style[style]
            + _NOISE * noise
        )


def _shows_second(facts: Facts, owner: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The last image of a listing of two items shows the second one."""
    last = np.append(owner[1:] != owner[:-1], True) if len(owner) else np.zeros(0, dtype=bool)
    return np.asarray(last & (facts.also[owner] != NONE))


def _directions(rng: np.random.Generator, count: int) -> Floats:
    return _unit(rng.standard_normal((count, DIM)))


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _with_none(vectors: Floats) -> Floats:
    """A last row of zeros, so that NONE (-1) picks nothing."""
    return np.vstack([vectors, np.zeros((1, DIM))])
