"""One person's way through the pages of one query, and the checks on every answer along it."""

from random import Random
from urllib.parse import urlencode

import msgspec

from models.runtime import GoldenQuery
from service.schemas import SearchAnswer

FIRST, LATER = "first page", "later page"
SIZE = 10  # hits asked for, the API's default

_decode = msgspec.json.Decoder(SearchAnswer).decode


class CheckError(Exception):
    """An answer is not what the API promises: the reason, which is counted, and what shows it."""

    def __init__(self, reason: str, detail: object = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = str(detail)


class Walk:
    """Follows a query's cursors and remembers what was shown."""

    def __init__(self, query: GoldenQuery) -> None:
        self._fields = {"q": query.query, "country": query.country or "", "size": SIZE}
        self._cursor: str | None = None
        self._shown: set[str] = set()
        self._page = 0  # the last one answered

    @property
    def row(self) -> str:
        """Which kind of page is asked for next."""
        return LATER if self._page else FIRST

    @property
    def target(self) -> str:
        """The request for the next page."""
        fields = self._fields if self._cursor is None else {**self._fields, "cursor": self._cursor}
        return "/search?" + urlencode(fields)

    def goes_on(self, draw: Random) -> bool:
        """Whether the person wants another page, where there is one: after page n with probability 1 / 2n."""
        return self._cursor is not None and draw.random() < 0.5 / self._page

    def accept(self, status: int, body: bytes) -> SearchAnswer:
        """Check the answer to `target` and move on to it; after a failure the walk has ended.

        Raises:
            CheckError: says what is wrong with it.
        """
        self._page, page, self._cursor = self._page + 1, self._page + 1, None
        answer = checked(status, body, page=page)
        for hit in answer.hits:
            if hit.id in self._shown:
                raise CheckError("a product came twice", hit.id)
            self._shown.add(hit.id)
        self._cursor = answer.cursor
        return answer


def checked(status: int, body: bytes, *, page: int) -> SearchAnswer:
    """The decoded answer: status, every promised field (effort and nprobe among them), page, size, order.

    Raises:
        CheckError: says what is wrong with it.
    """
    check_status(status, body)
    try:
        answer = _decode(body)
    except msgspec.DecodeError as exc:
        raise CheckError("not a search's answer", exc) from exc
    hits, scores = len(answer.hits), [hit.score for hit in answer.hits]
    if answer.page != page:
        raise CheckError("another page", f"{answer.page} instead of {page}")
    if hits > SIZE or (hits < SIZE and answer.cursor is not None) or (page == 1 and hits == 0):
        raise CheckError("wrong number of hits", f"{hits} of {SIZE}, cursor {answer.cursor}")
    if scores != sorted(scores, reverse=True):
        raise CheckError("hits out of order", scores)
    return answer


def check_status(status: int, body: bytes) -> None:
    """Raises CheckError unless the answer is a success; 0 stands for no answer at all."""
    if status != 200:
        raise CheckError(f"status {status}" if status else "no answer", body[:200].decode(errors="replace"))
