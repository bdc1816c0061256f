"""What a run of kills looks for: each loss that it must notice, shown to it."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.chaos_check import check_products, check_searches, wait_until_searchable
from benchmarks.chaos_journal import Entry, Journal, JournalReader
from benchmarks.chaos_ledger import Ledger, LossError, in_flight
from benchmarks.chaos_plan import MOMENTS, VICTIMS, planned
from benchmarks.chaos_products import IN_BULK, SINGLY, bulk_id, category_of, fields_of, serial_in, single_id
from benchmarks.chaos_report import KILLS_ASKED, Killed, told

LAMP, SOFA = single_id(0, 1), bulk_id(2)


def sent(product: str, serial: int | None, *, at: float = 0.0) -> Entry:
    return Entry(event="sent", product=product, serial=serial, at=at)


def acknowledged(product: str, serial: int | None, *, version: int = 1, at: float = 0.0) -> Entry:
    return Entry(event="acknowledged", product=product, serial=serial, version=version, at=at)


def ledger_of(*entries: Entry) -> Ledger:
    ledger = Ledger()
    ledger.take(entries)
    return ledger


def test_a_seed_repeats_every_choice_and_comes_to_every_process_at_every_moment() -> None:
    """Seven kinds of victims at three moments: the first 21 kills are all pairs."""
    first = list(islice(planned(7), 21))

    assert first == list(islice(planned(7), 21))
    assert first != list(islice(planned(8), 21))
    assert {(kill.victim, kill.moment) for kill in first} == {(v, m) for v in VICTIMS for m in MOMENTS}


def test_an_acknowledged_write_has_to_be_there() -> None:
    """As it was written last."""
    ledger = ledger_of(sent(LAMP, 1), acknowledged(LAMP, 1), sent(LAMP, 2), acknowledged(LAMP, 2))

    assert 1 == ledger.check({LAMP: 2})
    for found in ({}, {LAMP: 1}):
        with pytest.raises(LossError, match=f"1 of 1 products are wrong: {LAMP}: found .*, not write 2"):
            ledger.check(found)


def test_a_deleted_product_has_to_be_gone() -> None:
    """Once the deletion was acknowledged."""
    ledger = ledger_of(sent(LAMP, 1), acknowledged(LAMP, 1), sent(LAMP, None), acknowledged(LAMP, None))

    ledger.check({})
    with pytest.raises(LossError, match="found write 1, not nothing"):
        ledger.check({LAMP: 1})


def test_what_nobody_answered_may_be_there_or_not() -> None:
    """And stays as it is found."""
    ledger = ledger_of(sent(LAMP, 1), acknowledged(LAMP, 1), sent(LAMP, 2))
    ledger.check({LAMP: 1})
    ledger.check({LAMP: 2})
    ledger.settle({LAMP: 2})

    assert [] == ledger.open()
    with pytest.raises(LossError, match="found write 1, not write 2"):
        ledger.check({LAMP: 1})


def test_what_was_refused_is_not_there() -> None:
    """It would have been told otherwise."""
    ledger = ledger_of(sent(LAMP, 1), Entry(event="refused", product=LAMP, serial=1))

    with pytest.raises(LossError, match="found write 1, not nothing"):
        ledger.check({LAMP: 1})


def test_what_was_never_sent_is_noticed() -> None:
    """A product of ours by its name."""
    with pytest.raises(LossError, match=f"{LAMP}: found write 9, and was never sent"):
        Ledger().check({LAMP: 9})


def test_a_deletion_tells_by_its_answer() -> None:
    """404 for a product that must be there, 202 for one that must not."""
    with pytest.raises(LossError, match=f"{LAMP} is gone: write 1 of it was acknowledged"):
        ledger_of(sent(LAMP, 1), acknowledged(LAMP, 1), sent(LAMP, None), Entry(event="absent", product=LAMP))
    with pytest.raises(LossError, match=f"{LAMP} was deleted, and was there to be deleted again"):
        ledger_of(sent(LAMP, None), acknowledged(LAMP, None))


def test_lines_of_one_product_are_answered_in_their_order() -> None:
    """Written, deleted, written again by one load."""
    changes = [1, None, 2]
    ledger = ledger_of(*(sent(SOFA, change) for change in changes), *(acknowledged(SOFA, c) for c in changes))

    assert 1 == ledger.check({SOFA: 2})
    assert 1 == ledger.alive()


def test_requests_in_flight_are_counted() -> None:
    """At 2 s: the lamp is answered, one other product is not, and the two lines are one load."""
    other = single_id(1, 1)
    entries = [
        sent(LAMP, 1, at=1.0),
        sent(other, 2, at=1.0),
        sent(SOFA, 3, at=1.0),
        sent(bulk_id(4), 4, at=1.0),
        acknowledged(LAMP, 1, at=1.5),
        acknowledged(other, 2, at=2.5),
        sent(LAMP, 5, at=3.0),
    ]

    assert [0, 3, 2, 2] == [in_flight(entries, at=at) for at in (0.5, 1.0, 2.0, 3.0)]


def test_a_journal_is_read_while_it_is_written(tmp_path: Path) -> None:
    """Whole lines only, each once."""
    reader = JournalReader(tmp_path / "journal")
    journal = Journal(tmp_path / "journal")
    journal.note(sent(LAMP, 1), sent(SOFA, 2))
    with (tmp_path / "journal").open("ab") as file:
        file.write(b'{"event":"se')
    first = list(reader.new())

    assert [LAMP, SOFA] == [entry.product for entry in first]
    assert first[0].at > 0
    assert [] == list(reader.new())
    journal.close()
    reader.close()


def test_products_tell_which_write_made_them() -> None:
    """A hit has no description; any field of another write shows."""
    product = {"id": LAMP, **fields_of(LAMP, 17)}
    hit = {name: value for name, value in product.items() if name != "description"}

    assert (17, 17) == (serial_in(product), serial_in(hit))
    for name in ("title", "description", "category"):
        assert serial_in(product | {name: fields_of(SOFA, 18)[name]}) is None
    assert (SINGLY, IN_BULK, None) == (category_of(LAMP), category_of(SOFA), category_of("p1"))


# What is asked of a server, answered by a function


Answer = Callable[[dict[str, Any]], list[dict[str, Any]]]


def client_of(hits: Answer, *, newest: dict[str, Any] | None = None) -> dict[str, httpx.Client]:
    """One worker that answers searches with hits, and every other request with one product."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/search":
            return httpx.Response(200, json={"hits": hits(json.loads(request.content))})
        return httpx.Response(404 if newest is None else 200, json=newest)

    return {"w": httpx.Client(transport=httpx.MockTransport(answer), base_url="http://test")}


def hit_of(product_id: str, serial: int) -> dict[str, Any]:
    fields = fields_of(product_id, serial)
    del fields["description"]
    return {"id": product_id, **fields}


def only(*hits: dict[str, Any]) -> Answer:
    """Those of the category that is asked for, on the first page."""
    return lambda fields: [hit for hit in hits if hit["category"] == fields["category"] and fields["page"] == 1]


def test_searches_are_compared_by_category_and_way() -> None:
    """Two products, looked for by vectors and by words."""
    ledger = ledger_of(sent(LAMP, 1), acknowledged(LAMP, 1), sent(SOFA, 2), acknowledged(SOFA, 2))
    clients = client_of(only(hit_of(LAMP, 1), hit_of(SOFA, 2)))

    assert [2, 4] == [check_searches(clients, ledger, by_words=by_words) for by_words in (False, True)]


@pytest.mark.parametrize(
    ("hits", "message"),
    [
        ([hit_of(LAMP, 1), hit_of(LAMP, 1)], "twice among the hits"),
        ([hit_of(LAMP, 1) | {"title": "lamp"}], "not whole"),
        ([hit_of(SOFA, 2) | {"category": SINGLY}], "not whole"),
        ([], "found nothing, not write 1"),
    ],
)
def test_wrong_answers_are_noticed(hits: list[dict[str, Any]], message: str) -> None:
    """Twice, half, in another category, missing."""
    ledger = ledger_of(sent(LAMP, 1), acknowledged(LAMP, 1))

    with pytest.raises(LossError, match=message):
        check_searches(client_of(only(*hits)), ledger, by_words=False)


def test_a_product_has_the_version_that_was_acknowledged() -> None:
    """And is searchable, as it was written."""
    ledger = ledger_of(sent(LAMP, 1), acknowledged(LAMP, 1, version=5))
    product = {"id": LAMP, **fields_of(LAMP, 1), "version": 5, "searchable": True}

    check_products(client_of(only(), newest=product)["w"], ledger, {LAMP})
    for wrong in ({"version": 6}, {"searchable": False}, {"title": "lamp"}):
        with pytest.raises(LossError, match=LAMP):
            check_products(client_of(only(), newest=product | wrong)["w"], ledger, {LAMP})
    with pytest.raises(LossError, match=LAMP):
        check_products(client_of(only())["w"], ledger, {LAMP})


def test_a_server_that_takes_no_write_is_no_success() -> None:
    """404, as a fake answers."""
    with pytest.raises(LossError, match="a load of a quiet server was answered 404"):
        wait_until_searchable(client_of(only()), 1)


def test_the_report_says_what_holds() -> None:
    """Two kills of one kind are a row: 3 s and 5 s, median 4; with 200 kills and nothing left behind all holds."""
    kill = Killed("indexer", "writing", in_flight=2, acknowledged=100, verified=50, back_s=3.0)
    few = told([kill, kill._replace(back_s=5.0)], checks=1, left=["x.tmp"], conditions={"seed": 7})
    enough = told([kill] * KILLS_ASKED, checks=1, left=[], conditions={})

    assert [("indexer, writing", 2, 4, 200, 100, 4.0, 5.0), ("all", 2, 4, 200, 100, 4.0, 5.0)] == [
        tuple(row.values()) for row in few.rows
    ]
    assert "DOES NOT HOLD: 2 kills with writes in flight (asked: 200)" in few.markdown()
    assert "DOES NOT HOLD: temporary files left behind: x.tmp" in few.markdown()
    assert (False, True) == (few.conditions["holds"], enough.conditions["holds"])
    assert few.picture().axes
