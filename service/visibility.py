"""Waits until a write is to be found, for those who ask for it."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from index.catalogue import Catalogue
from index.writes import Write
from service.errors import DeadlineError, InvalidFieldError

LOOK_EVERY_S = 0.02  # searches see changes as often


class Wait(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a write waits for."""

    wait: Annotated[
        Literal["searchable"] | None,
        Meta(description="searchable: answer when searches of this worker find the product as it was written"),
    ] = None


class Waiter:
    """Looks again and again whether the indexer and this worker's view have come so far.

    Args:
        catalogue: where the indexer publishes.
        applied: the sequence number that this worker's searches have come to.
        patience_s: how long a request waits.
    """

    def __init__(self, catalogue: Catalogue, applied: Callable[[], int], *, patience_s: float) -> None:
        self._catalogue = catalogue
        self._applied = applied
        self._patience_s = patience_s

    async def visible(self, product_id: str, written: Write) -> bool:
        """True once searches find that version, or, after a deletion, find the product no more.

        Raises:
            InvalidFieldError: the indexer has set the product aside; says why.
            DeadlineError: it took too long. The write stands.
        """
        give_up, reached = monotonic() + self._patience_s, None
        while monotonic() < give_up:
            if reached is None and not self._catalogue.waits(written.sequence):
                reached = self._reached(product_id, written)
            if reached is not None and self._applied() >= reached:
                return True
            await asyncio.sleep(LOOK_EVERY_S)
        raise DeadlineError(
            f"the write is on disk as version {written.sequence} and will be searchable, "
            f"but was not within {self._patience_s:g} s"
        )

    def _reached(self, product_id: str, written: Write) -> int:
        """The log's end, which holds what became of a write that waits no more: published, replaced, or deleted."""
        newest = self._catalogue.newest(product_id)
        if newest is not None and newest.version == written.sequence and newest.error is not None:
            raise InvalidFieldError("product", product_id, f"it cannot be embedded: {newest.error}")
        return self._catalogue.sequence
