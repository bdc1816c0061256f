"""What became searchable since a generation was built: a row per publication, with vector, fields and words."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from index.delta_columns import DeltaColumns
from index.delta_vectors import DeltaVectors
from index.delta_words import DeltaWords
from index.errors import CatalogueError
from index.generations import Generation
from index.growing import Growing
from index.lexical import LexicalProduct, texts_of


class Delta:
    """Rows in the order of their publication. A product that is published again gets a new one, and its old one dies.

    Args:
        generation: whose centroids, fields and statistics the rows go by.
    """

    def __init__(self, generation: Generation) -> None:
        self._dim = generation.manifest.dim
        self._numbers = Growing(np.int64)
        self._alive = Growing(np.bool_)
        self.vectors = DeltaVectors(generation.ann, generation.exact)
        self.columns = DeltaColumns(generation.columns.columns)
        self.words = DeltaWords(generation.lexical, self._alive)
        self.count = 0  # rows that are alive

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def numbers(self) -> np.ndarray:
        """(rows,) int64: the product number of each row."""
        return self._numbers.rows

    @property
    def alive(self) -> np.ndarray:
        """(rows,) bool: the rows that may be found."""
        return self._alive.rows

    def append(self, number: int, product: Mapping[str, Any], vector: np.ndarray) -> int:
        """Add a published product, all of it or, on an error, nothing; returns its row.

        Raises:
            CatalogueError: the vector, (d,) float32, is of another dimension than the generation.
        """
        if vector.shape != (self._dim,):
            raise CatalogueError(f"product number {number} has a vector of shape {vector.shape}, not ({self._dim},)")
        keys = self.columns.keys(product)
        texts = texts_of(LexicalProduct.of(number, product))
        self.vectors.append(vector)
        self.columns.append(keys)
        self.words.append(texts)
        self._numbers.append(number)
        self._alive.append(True)
        self.count += 1
        return len(self) - 1

    def bury(self, row: int) -> None:
        """A living row is dead from now on."""
        self.alive[row] = False
        self.count -= 1
