"""Looks through a running server for what its client was told: by searches of every worker, and product by product."""

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from benchmarks.chaos_ledger import Ledger, LossError
from benchmarks.chaos_products import CATEGORIES, PROBE, PROBE_ID, WORD, category_of, fields_of, serial_in
from index.catalogue_check import CheckReport, check_catalogue

_Ways = Mapping[str, str | float]  # fields of a search

EXACT: Final[_Ways] = {"effort": "exact", "min_score": -1.0}
BY_WORDS: Final[_Ways] = {"mode": "lexical"}
OK, ACCEPTED, ABSENT = 200, 202, 404


def wait_until_searchable(clients: Mapping[str, httpx.Client], serial: int) -> None:
    """Write one product more: once searches of every worker know it, they know all that was acknowledged before.

    As a line of a load, which is embedded last: after single writes, and after the lines of earlier loads. Then as a
    single write, which changes nothing and is answered when this worker's searches have come so far. That a hit shows
    the new fields would say less: they are read from the store.

    Raises:
        LossError: it is not taken, or not found.
    """
    fields = fields_of(PROBE_ID, serial)
    for client in clients.values():
        loaded = client.post("/products", content=msgspec.json.encode({"id": PROBE_ID, **fields}))
        waited = client.put(f"/products/{PROBE_ID}", params={"wait": "searchable"}, json=fields)
        if loaded.status_code != OK or loaded.json()["status"] != ACCEPTED:
            raise LossError(f"a load of a quiet server was answered {loaded.status_code}: {loaded.text}")
        if waited.status_code != OK:
            raise LossError(f"a write of a quiet server was answered {waited.status_code}: {waited.text}")
        if serial not in [serial_in(hit) for hit in _hits(client, {"q": WORD, "category": PROBE, **EXACT})]:
            raise LossError(f"write {serial} of {PROBE_ID} is not found by a worker that said so")


def check_searches(clients: Mapping[str, httpx.Client], ledger: Ledger, *, by_words: bool) -> int:
    """Compare all that every worker finds with the ledger, which is settled by it; how many products were compared.

    Args:
        clients: by worker.
        ledger: what they must find.
        by_words: let every product be found by words, too.

    Raises:
        LossError: a product is missing, back, twice, old or not whole.
    """
    compared = 0
    all_ways: list[_Ways] = [EXACT, BY_WORDS] if by_words else [EXACT]
    for client in clients.values():
        for ways in all_ways:
            found = {id_: serial for category in CATEGORIES for id_, serial in _found(client, category, ways).items()}
            compared += ledger.check(found)
            ledger.settle(found)
    return compared


def check_products(client: httpx.Client, ledger: Ledger, touched: set[str]) -> None:
    """Compare `GET /products/ID` with the ledger, which learns versions by it.

    Raises:
        LossError: a product differs, is not searchable, or has another version than was acknowledged.
    """
    for product_id in sorted(touched):
        answer = client.get(f"/products/{product_id}")
        known = ledger.products[product_id]
        if answer.status_code == ABSENT and known.serial is None:
            continue
        if answer.status_code != OK:
            raise LossError(f"{product_id} was answered {answer.status_code}, and write {known.serial} of it is known")
        product = answer.json()
        if serial_in(product) != known.serial or not product["searchable"]:
            raise LossError(f"{product_id} is {product}, not write {known.serial}, searchable")
        if known.version not in {None, product["version"]}:
            raise LossError(f"{product_id} has version {product['version']}, and {known.version} was acknowledged")


def check_store(catalogue: Path, *, products: int) -> CheckReport:
    """`que2search catalogue check`, and the number of products.

    Raises:
        LossError: names the first problems.
    """
    report = check_catalogue(catalogue)
    if report.problems:
        raise LossError(f"catalogue check has {report.problem_count} problems: {'; '.join(report.problems[:5])}")
    if report.products != products:
        raise LossError(f"the catalogue has {report.products:,} products, not {products:,}")
    return report


def _found(client: httpx.Client, category: str, ways: _Ways) -> dict[str, int]:
    """All products of a category by the number of the write, over all pages."""
    found: dict[str, int] = {}
    for hit in _pages(client, {"q": WORD, "category": category, "size": 100, **ways}):
        serial = serial_in(hit)
        if hit["id"] in found or serial is None:
            raise LossError(f"{hit['id']} is {'twice among the hits' if hit['id'] in found else f'not whole: {hit}'}")
        if category_of(hit["id"]) != category:
            raise LossError(f"{hit['id']} is a hit in category {category}")
        found[hit["id"]] = serial
    return found


def _pages(client: httpx.Client, fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for page in count(1):
        hits = _hits(client, {**fields, "page": page})
        yield from hits
        if len(hits) < fields["size"]:
            return


def _hits(client: httpx.Client, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    answer = client.post("/search", json=dict(fields))
    if answer.status_code != OK:
        raise LossError(f"a search of {dict(fields)} was answered {answer.status_code}: {answer.text}")
    hits: list[dict[str, Any]] = answer.json()["hits"]
    return hits
