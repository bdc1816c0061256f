"""A sample of the live searches, as the datagram in which a worker sends it to the sampler.

magic      4 bytes: what this is, and its version
effort     1 byte: the place in `EFFORTS`
generation 4 bytes
query      dim float32
found      10 int64 product numbers, best first; -1 where the list was shorter
"""

import struct
from typing import Final, NamedTuple

import numpy as np

from index.operating_points import EFFORTS

SOCKET_FILE: Final = "samples.sock"
FOUND: Final = 10  # products of each list that are compared
MAX_BYTES: Final = 65_536
EXACT: Final = "exact"  # finds everything by definition
_MAGIC: Final = b"q2s1"
_HEAD: Final = struct.Struct("<4sBI")


class Sample(NamedTuple):
    """One query and what the index found for it, before any radius."""

    effort: str
    generation: int
    query: np.ndarray  # (1, dim) float32
    found: np.ndarray  # (10,) int64

    def encode(self) -> bytes:
        """The datagram."""
        head = _HEAD.pack(_MAGIC, EFFORTS.index(self.effort), self.generation)
        return head + self.query.astype("<f4", copy=False).tobytes() + self.found.astype("<i8", copy=False).tobytes()

    @classmethod
    def decode(cls, datagram: bytes, *, dim: int) -> "Sample | None":
        """What `encode` made of a query of `dim` floats; None for anything else."""
        if len(datagram) != _HEAD.size + 4 * dim + 8 * FOUND:
            return None
        magic, effort, generation = _HEAD.unpack_from(datagram)
        query = np.frombuffer(datagram, "<f4", count=dim, offset=_HEAD.size).reshape(1, dim)
        if magic != _MAGIC or effort >= len(EFFORTS) or not np.isfinite(query).all():
            return None
        return cls(EFFORTS[effort], generation, query, np.frombuffer(datagram, "<i8", offset=_HEAD.size + 4 * dim))
