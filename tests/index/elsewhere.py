"""What other processes do in tests: apart from those, whose helpers take a process half a minute to import."""

import multiprocessing
from pathlib import Path

import numpy as np

from index.catalogue import Catalogue
from index.generations import open_current


def read(path: Path, numbers: list[int], answer: "multiprocessing.Queue[list[bytes]]") -> None:
    """The products of a catalogue."""
    with Catalogue.open(path) as catalogue:
        answer.put(catalogue.fragments(numbers))


def search(path: Path, queries: np.ndarray, answer: "multiprocessing.Queue[list[list[int]]]") -> None:
    """The product numbers that a catalogue's current generation finds."""
    generation = open_current(path, verify=False)
    answer.put(generation.search(queries, generation.operating_points["low"]).numbers.tolist())
