"""What is written: new products, changed ones and deletions, made of a catalogue's own: texts and images are real."""

from collections import deque
from collections.abc import Iterator
from itertools import chain, islice, repeat
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import msgspec
import numpy as np

from benchmarks.open_loop_client import Upload
from index.catalogue import Catalogue
from index.records import decode_record
from index.writes import Delete, Put
from service.products import shown

Kind = Literal["changed", "new", "deleted"]
SHARES: dict[Kind, float] = {
    "changed": 0.7,
    "new": 0.15,
    "deleted": 0.15,
}  # of the writes: the catalogue keeps its size
WAIT = "?wait=searchable"
_TO_DELETE = 0.25  # of the products; the others are changed
_AT_ONCE = 1_024  # records read


class Change(NamedTuple):
    """One write."""

    product_id: str
    product: dict[str, Any] | None  # None: it is deleted

    def upload(self, *, wait: bool = False) -> Upload:
        """As a request by itself; with `wait` it is answered when searches see it."""
        target = f"/products/{quote(self.product_id, safe='')}{WAIT if wait else ''}"
        return Upload("DELETE", target) if self.product is None else Upload("PUT", target, _json(shown(self.product)))

    def line(self) -> bytes:
        """As a line of `POST /products`."""
        told = {"delete": self.product_id} if self.product is None else shown(self.product)
        return _json(told) + b"\n"

    def write(self) -> Put | Delete:
        """As the catalogue takes it."""
        return Delete(self.product_id) if self.product is None else Put(self.product)


class Material:
    """An endless row of changes, each to be made once and in order; equal seeds and catalogues, equal changes.

    A product is changed again only after all others were, and deleted long after it came. No two changes are equal,
    since a product that is written as it is already is no write.

    Args:
        catalogue: read while the changes are drawn; not the one that they are made to, which loses these products.
        seed: of the order.
    """

    def __init__(self, catalogue: Catalogue, *, seed: int) -> None:
        self._catalogue = catalogue
        self._draw = np.random.default_rng(seed)
        numbers = self._draw.permutation(catalogue.numbers_given).tolist()
        split = int(_TO_DELETE * len(numbers))
        self._models = chain.from_iterable(self._records(numbers[split:]) for _ in repeat(None))
        self._doomed = (str(record["product_id"]) for record in self._records(numbers[:split]))
        self._came: deque[str] = deque()
        self._made = 0

    def changes(self, kinds: dict[Kind, float] = SHARES) -> Iterator[Change]:
        """The next changes, of kinds in these shares."""
        names, shares = list(kinds), list(kinds.values())
        while True:
            for at in self._draw.choice(len(names), size=_AT_ONCE, p=shares).tolist():
                yield self._change(names[at])

    def take(self, count: int, kinds: dict[Kind, float] = SHARES) -> list[Change]:
        """So many of them."""
        return list(islice(self.changes(kinds), count))

    def _change(self, kind: Kind) -> Change:
        doomed = self._next_doomed() if kind == "deleted" else None
        if doomed is not None:
            return Change(doomed, None)
        self._made += 1
        model = next(self._models)
        title = f"{model['title']} no {self._made}"
        if kind == "changed":
            return Change(model["product_id"], {**model, "title": title})
        self._came.append(f"bench-writes-{self._made}")
        return Change(self._came[-1], {**model, "product_id": self._came[-1], "title": title})

    def _next_doomed(self) -> str | None:
        """One of the catalogue's own products, then the new one that came first; None: none is left.

        Then another new one comes.
        """
        return next(self._doomed, None) or (self._came.popleft() if self._came else None)

    def _records(self, numbers: list[int]) -> Iterator[dict[str, Any]]:
        """The products of the numbers; those that there are."""
        for start in range(0, len(numbers), _AT_ONCE):
            for found in self._catalogue.unembedded(numbers[start : start + _AT_ONCE]):
                yield decode_record(found.record)


def _json(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value)
