"""A generation whose products go on changing, and the brute force that its searches must equal."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from index.build import build_generation
from index.catalogue import Catalogue
from index.columns import Columns
from index.conditions import Condition
from index.delta_words import DeltaWords
from index.filters import Filters
from index.generations import Generation, open_current
from index.growing import Growing
from index.lexical import LexicalIndex, LexicalProduct, texts_of
from index.log import Change, Changes, LogEnd

Record = dict[str, Any]


class Product(NamedTuple):
    """A searchable product."""

    record: Record
    vector: np.ndarray  # (d,) float32


def generation_of(folder: Path, products: Sequence[Product], *, factory: str | None = None) -> Generation:
    """The generation of a new catalogue that holds the products, numbered from 0; `colour` is a declared attribute."""
    with Catalogue.create(folder) as catalogue:
        numbers = catalogue.put_products({"product_id": f"p{n}", **p.record} for n, p in enumerate(products))
        catalogue.put_vectors("r1", numbers, np.stack([product.vector for product in products]))
        build_generation(catalogue, release="r1", factory=factory, attributes=["colour"])
    return open_current(folder)


class Log:
    """The log of a catalogue in memory: of which a change tells how the product is by now."""

    def __init__(self, products: Sequence[Product], *, sequence: int) -> None:
        self.products = dict(enumerate(products))  # searchable ones, by number
        self.sequence = sequence
        self._entries: dict[int, int] = {}  # sequence -> number

    @property
    def last_transaction(self) -> int:
        return self.sequence

    def log_end(self) -> LogEnd:
        return LogEnd(self.sequence, self.last_transaction)

    def put(self, number: int, product: Product) -> None:
        self.products[number] = product
        self._append(number)

    def delete(self, number: int) -> None:
        if self.products.pop(number, None) is not None:
            self._append(number)

    def changes(self, after: int, limit: int, *, release: str) -> Changes:
        assert release == "r1"
        upto = min(self.sequence, after + limit)
        last = {}
        for sequence in range(after + 1, upto + 1):
            last.pop(self._entries[sequence], None)
            last[self._entries[sequence]] = sequence
        return Changes(upto, [self._change(number, sequence) for number, sequence in last.items()])

    def _change(self, number: int, sequence: int) -> Change:
        product = self.products.get(number)
        if product is None:
            return Change(number, sequence, product=None, vector=None)
        return Change(number, sequence, product.record, product.vector)

    def _append(self, number: int) -> None:
        self.sequence += 1
        self._entries[self.sequence] = number


class BruteForce:
    """Every search, by looking at every product that is searchable.

    Args:
        products: by number.
        lexical: of the generation, whose statistics hold until the next.
    """

    def __init__(self, products: Mapping[int, Product], lexical: LexicalIndex) -> None:
        self.numbers = np.array(sorted(products), dtype=np.int64)
        self._products = [products[number] for number in self.numbers.tolist()]
        self._lexical = lexical
        alive = Growing(np.bool_)
        self._words = DeltaWords(lexical, alive)
        for product in self._products:
            self._words.append(texts_of(LexicalProduct.of(0, product.record)))
            alive.append(True)

    def nearest(self, query: np.ndarray) -> dict[int, float]:
        """The inner product with each."""
        scores = [float(product.vector @ query[0]) for product in self._products]
        return dict(zip(self.numbers.tolist(), scores, strict=True))

    def allowed(self, condition: Condition) -> list[int]:
        """The numbers that meet a condition, in columns written anew. Raises FilterError."""
        numbers: list[int] = self.numbers[self._filters.rows(condition).rows()].tolist()
        return numbers

    def by_words(self, query: str, *, k: int, only: Sequence[int] | None = None) -> list[tuple[int, float]]:
        """The best k by BM25, with their scores."""
        wanted = self._lexical.wanted(query, elsewhere=self._words.holds)
        allowed = np.isin(self.numbers, self.numbers if only is None else only)
        rows, scores = self._words.best(wanted, k=k, allowed=allowed, numbers=self.numbers)
        return list(zip(self.numbers[rows].tolist(), scores.tolist(), strict=True))

    @cached_property
    def _filters(self) -> Filters:
        records = [product.record for product in self._products]
        with TemporaryDirectory() as folder:  # what is mapped outlives its name
            Columns.write(Path(folder), records, attributes=["colour"])
            columns = Columns.open(Path(folder), count=len(records))
        return Filters(columns, words=lambda text: np.flatnonzero(self._words.met_by(text)))
