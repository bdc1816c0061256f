"""What is fuzzed: a function that takes any bytes, and only raises where the code has a defect."""

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Target(NamedTuple):
    """One entry, and what a fuzzer begins with."""

    entry: Callable[[bytes], None]
    seeds: Sequence[bytes]  # real values, and what fuzzing has found: each of those once raised something else
