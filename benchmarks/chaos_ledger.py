"""What must be in a catalogue, and what may be, by what its client was told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.chaos_journal import Entry
from benchmarks.chaos_products import CATEGORIES, category_of
from service.errors import ServiceError

SHOWN: Final = 5  # differences told in words

Serial = int | None  # of the write that made a product as it is; None: it is not there


class LossError(ServiceError):
    """An acknowledged write is not there, something deleted came back, or an answer cannot be right."""


@dataclass
class Product:
    """What is known of one product."""

    serial: Serial = None  # of the last change that was acknowledged
    version: int | None = None  # that was told with it
    open: list[Serial] = field(default_factory=list)  # sent since then, in order, and never answered

    @property
    def may_be(self) -> set[Serial]:
        return {self.serial, *self.open}


class Ledger:
    """All products of a client. What nobody answered may have happened or not, until it is looked at."""

    def __init__(self) -> None:
        self.products: dict[str, Product] = {}

    def take(self, entries: Iterable[Entry]) -> None:
        """Follow a journal.

        Raises:
            LossError: the client was told what cannot be; says of which product.
        """
        for entry in entries:
            if entry.event == "wrong":
                raise LossError(entry.says)
            product = self.products.setdefault(entry.product, Product())
            if entry.event == "sent":
                product.open.append(entry.serial)
                continue
            asked = product.open.pop(0)
            if entry.event == "absent" and None not in product.may_be:
                raise LossError(f"{entry.product} is gone: write {product.serial} of it was acknowledged")
            if entry.event == "acknowledged":
                if asked is None and product.may_be == {None}:
                    raise LossError(f"{entry.product} was deleted, and was there to be deleted again")
                product.serial, product.version = asked, entry.version

    def alive(self) -> int:
        """Products that are there; only true when nothing is open."""
        return sum(product.serial is not None for product in self.products.values())

    def open(self) -> list[str]:
        """Products with changes that nobody answered."""
        return [product_id for product_id, product in self.products.items() if product.open]

    def settle(self, found: Mapping[str, int]) -> None:
        """What was open is decided: as it was found, by number of the write."""
        for product_id in self.open():
            self.products[product_id] = Product(serial=found.get(product_id))

    def check(self, found: Mapping[str, int]) -> int:
        """Compare everything with what searches find, by number of the write; how many products were compared.

        Raises:
            LossError: names the first differences.
        """
        ours = {id_: product for id_, product in self.products.items() if category_of(id_) in CATEGORIES}
        wrong = [
            f"{id_}: found {_told(found.get(id_))}, not {' or '.join(map(_told, product.may_be))}"
            for id_, product in ours.items()
            if found.get(id_) not in product.may_be
        ]
        wrong += [f"{id_}: found {_told(found[id_])}, and was never sent" for id_ in found.keys() - ours.keys()]
        if wrong:
            raise LossError(f"{len(wrong)} of {len(ours)} products are wrong: {'; '.join(wrong[:SHOWN])}")
        return len(ours)


def in_flight(entries: Iterable[Entry], *, at: float) -> int:
    """Requests that were under way at that moment; one of many lines is one."""
    under_way: dict[str, int] = {}
    for entry in entries:
        if entry.at <= at:
            under_way[entry.product] = under_way.get(entry.product, 0) + (1 if entry.event == "sent" else -1)
    return len({_request(product_id) for product_id, changes in under_way.items() if changes})


def _request(product_id: str) -> str:
    """A product of a request of its own, or what stands for the one request of many lines."""
    category = category_of(product_id)
    return category if category == CATEGORIES[1] else product_id


def _told(serial: Serial) -> str:
    return "nothing" if serial is None else f"write {serial}"
