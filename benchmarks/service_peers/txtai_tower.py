"""Our query tower as txtai's external vectors."""

from collections.abc import Sequence

import numpy as np

from benchmarks.service_peers.plain_tower import PlainTower


class QueryVectors:
    """What txtai calls with the texts of its queries; it knows no country."""

    def __init__(self) -> None:
        self._tower = PlainTower()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(n, d) float32."""
        return np.concatenate([self._tower.embed(text) for text in texts])
