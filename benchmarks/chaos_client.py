"""The outside client: writes, loads and searches until its standard input closes, whatever happens to the server.

HOST PORT JOURNAL SEED ROUND: what it writes follows from the last two, how far it gets does not.
"""

import json
import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from benchmarks.chaos_journal import Entry, Journal
from benchmarks.chaos_products import WORD, bulk_id, category_of, fields_of, serial_in, single_id

WRITERS: Final = 4  # each with a connection of its own, and products that no other writes
PRODUCTS_EACH: Final = 40
DELETED: Final = 0.3  # of single writes
LOADED: Final = 240  # products of a load; a third of them is deleted by a later line, a third written again
CHUNK: Final = 40  # lines sent at once
LONGEST_PAUSE_S: Final = 0.04  # between those, drawn for each load
LONGEST_REST_S: Final = 0.02  # between single writes: the indexer is to keep up with them
LOAD_EVERY_S: Final = 2.0  # after one has ended
SEARCH_EVERY_S: Final = 0.02
AGAIN_S: Final = 0.05  # after a refusal, or a connection that broke
TIMEOUT_S: Final = 120.0  # of one request
PATIENCE_S: Final = 300.0  # with a load
OK, ACCEPTED, ABSENT = 200, 202, 404
UNCONFIRMED: Final = 504  # by a server whose committer was killed
NOT_WRITTEN: Final = frozenset({409, 429, 503})  # by their meaning: nothing was stored
SERIALS_PER_ROUND, SERIALS_PER_WRITER = 1_000_000, 100_000

Change = tuple[str, int | None]  # a product and the write's number; None: its deletion


class Answer(NamedTuple):
    status: int
    body: bytes


NOBODY: Final = Answer(503, b"nobody listens")  # so nothing was written


@dataclass(frozen=True, kw_only=True)
class Client:
    """What its threads share."""

    host: str
    port: int
    journal: Journal
    seed: int
    number: int  # of the round
    stopping: threading.Event

    def connected(self) -> "closing[HTTPConnection]":
        """A connection, made anew by the first request after it broke."""
        return closing(HTTPConnection(self.host, self.port, timeout=TIMEOUT_S))

    def drawn(self, *what: object) -> random.Random:
        return random.Random(f"{self.seed} {self.number} {what}")

    def serial(self, writer: int, turn: int) -> int:
        return self.number * SERIALS_PER_ROUND + writer * SERIALS_PER_WRITER + turn

    def ask(self, connection: HTTPConnection, method: str, path: str, **options: Any) -> Answer | None:
        """None: nobody knows what became of it."""
        try:
            if connection.sock is None:
                connection.connect()
        except OSError:
            self.stopping.wait(AGAIN_S)
            return NOBODY
        try:
            connection.request(method, path, **options)
            response = connection.getresponse()
            answer = Answer(response.status, response.read())
        except (OSError, HTTPException):
            connection.close()
            self.stopping.wait(AGAIN_S)
            return None
        return None if answer.status == UNCONFIRMED else answer


def write_singly(client: Client, writer: int) -> None:
    """Put and delete products one by one; one whose last write nobody answered is left alone until it was looked at."""
    draw = client.drawn("single", writer)
    products = [single_id(writer, number) for number in range(PRODUCTS_EACH)]
    with client.connected() as connection:
        for turn in count():
            if client.stopping.is_set() or not products:
                return
            product_id = draw.choice(products)
            serial = None if draw.random() < DELETED else client.serial(writer, turn)
            client.journal.note(Entry(event="sent", product=product_id, serial=serial))
            answer = _written(client, connection, product_id, serial)
            if answer is None:
                products.remove(product_id)
                continue
            client.journal.note(_told(product_id, serial, answer))
            client.stopping.wait(AGAIN_S if answer.status in NOT_WRITTEN else draw.random() * LONGEST_REST_S)


def _written(client: Client, connection: HTTPConnection, product_id: str, serial: int | None) -> Answer | None:
    path = f"/products/{quote(product_id)}"
    if serial is None:
        return client.ask(connection, "DELETE", path)
    return client.ask(connection, "PUT", path, body=json.dumps(fields_of(product_id, serial)))


def _told(product_id: str, serial: int | None, answer: Answer) -> Entry:
    if answer.status == ACCEPTED:
        told = json.loads(answer.body)
        return Entry(event="acknowledged", product=product_id, serial=serial, version=told["version"])
    if answer.status == ABSENT and serial is None:
        return Entry(event="absent", product=product_id)
    if answer.status in NOT_WRITTEN:
        return Entry(event="refused", product=product_id, serial=serial)
    return Entry(event="wrong", says=f"write {serial} of {product_id} was answered {answer.status}: {answer.body!r}")


def write_in_bulk(client: Client) -> None:
    """Loads of many lines, sent slowly; one that was begun is sent again with its key until every line is answered."""
    draw = client.drawn("bulk")
    with client.connected() as connection:
        for load in count():
            if client.stopping.is_set():
                return
            changes = list(_load(client, draw, load))
            client.journal.note(*(Entry(event="sent", product=id_, serial=serial) for id_, serial in changes))
            results = _loaded(client, connection, changes, key=f"{client.seed}-{client.number}-{load}", draw=draw)
            told = [_line_told(change, result) for change, result in zip(changes, results, strict=True)]
            client.journal.note(*told)
            client.stopping.wait(LOAD_EVERY_S)


def _load(client: Client, draw: random.Random, load: int) -> Iterator[Change]:
    """Every line changes its product, so that one which was done twice would say that it changed nothing."""
    serials = count(client.serial(WRITERS, load * 2 * LOADED))
    numbers = draw.sample(range(LOADED), k=LOADED)
    third = LOADED // 3
    yield from ((bulk_id(number), next(serials)) for number in numbers)
    yield from ((bulk_id(number), None) for number in numbers[:third])
    yield from ((bulk_id(number), next(serials)) for number in numbers[-third:])


def _loaded(
    client: Client, connection: HTTPConnection, changes: Sequence[Change], *, key: str, draw: random.Random
) -> list[dict[str, Any]]:
    lines = [_line(*change) for change in changes]
    pause_s = draw.random() * LONGEST_PAUSE_S
    give_up = monotonic() + PATIENCE_S
    while monotonic() < give_up:
        headers = {"Idempotency-Key": key, "Transfer-Encoding": "chunked"}
        body = _slowly(lines, pause_s)
        answer = client.ask(connection, "POST", "/products", body=body, headers=headers, encode_chunked=True)
        if answer is None or answer.status in NOT_WRITTEN:
            sleep(AGAIN_S)
            continue
        if answer.status != OK:
            raise ValueError(f"a load was answered {answer.status}: {answer.body[:500]!r}")
        return [json.loads(line) for line in answer.body.splitlines()]
    raise TimeoutError(f"a load was not answered within {PATIENCE_S:.0f} s")


def _line(product_id: str, serial: int | None) -> bytes:
    line = {"delete": product_id} if serial is None else {"id": product_id, **fields_of(product_id, serial)}
    return json.dumps(line).encode() + b"\n"


def _slowly(lines: Sequence[bytes], pause_s: float) -> Iterator[bytes]:
    for start in range(0, len(lines), CHUNK):
        yield b"".join(lines[start : start + CHUNK])
        sleep(pause_s)


def _line_told(change: Change, result: dict[str, Any]) -> Entry:
    product_id, serial = change
    if result.get("done_before") or (result["status"] == ACCEPTED and result["changed"]):
        return Entry(event="acknowledged", product=product_id, serial=serial, version=result.get("version"))
    return Entry(event="wrong", says=f"the line that makes {product_id} write {serial} was answered {result}")


def search(client: Client) -> None:
    """Look at answers meanwhile: no product twice, none that mixes two writes."""
    draw = client.drawn("search")
    with client.connected() as connection:
        while not client.stopping.wait(SEARCH_EVERY_S):
            fields = {
                "q": f"{WORD} {draw.choice(('red', 'old', 'new'))} lamp",
                "mode": draw.choice(("vector", "lexical", "hybrid")),
                "effort": draw.choice(("auto", "exact")),
                "size": 100,
            }
            answer = client.ask(connection, "GET", f"/search?{urlencode(fields)}")
            if answer is not None and answer.status not in NOT_WRITTEN:
                _look(client.journal, answer)


def _look(journal: Journal, answer: Answer) -> None:
    if answer.status != OK:
        journal.note(Entry(event="wrong", says=f"a search was answered {answer.status}: {answer.body[:500]!r}"))
        return
    hits = json.loads(answer.body)["hits"]
    ids = [hit["id"] for hit in hits]
    if len(set(ids)) < len(ids):
        journal.note(Entry(event="wrong", says=f"an answer names a product twice: {sorted(ids)}"))
    for hit in hits:
        if category_of(hit["id"]) is not None and serial_in(hit) is None:
            journal.note(Entry(event="wrong", says=f"a product is not whole: {hit}"))


def _noting(journal: Journal, work: Callable[[], None]) -> None:
    """An answer that the client cannot read is wrong, too."""
    try:
        work()
    except Exception as exc:
        journal.note(Entry(event="wrong", says=f"the client failed: {type(exc).__name__}: {exc}"))
        raise


def main(host: str, port: str, journal_path: str, seed: str, number: str) -> None:
    with closing(Journal(Path(journal_path))) as journal:
        stopping = threading.Event()
        client = Client(
            host=host, port=int(port), journal=journal, seed=int(seed), number=int(number), stopping=stopping
        )
        works: list[Callable[[], None]] = [partial(write_singly, client, writer) for writer in range(WRITERS)]
        works += [partial(write_in_bulk, client), partial(search, client)]
        threads = [threading.Thread(target=_noting, args=(journal, work)) for work in works]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        stopping.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
