import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.open_loop import Outcome
from benchmarks.open_loop_client import Load
from benchmarks.overload import run
from benchmarks.overload_report import (
    Footprint,
    Phase,
    Round,
    answers,
    growth,
    judged,
    p99_us,
    refusal_cpu_us,
    search_cpu_us,
)
from tests.helpers import small_featurizer
from tests.small_release import small_catalogue, small_release

LET_IN, REFUSED = 200, 429
NOTHING = Footprint(private_bytes=100_000_000, files=30, threads=2)


def outcome(statuses: Sequence[int], latencies_us: Sequence[float], *, unanswered: int = 0) -> Outcome:
    """Answers to what was due, and sent, a second after the start."""
    latencies = np.array(latencies_us, dtype=float)
    count = len(latencies)
    return Outcome(
        load=Load(host="", port=0, targets=["/"], rate=100, seconds=3.0),
        due_s=np.ones(count),
        done_s=1 + latencies / 1e6,
        from_due_us=latencies,
        from_send_us=latencies,
        late_us=np.zeros(count),
        server_us=latencies / 2,
        status=np.array(statuses),
        degraded=np.zeros(count, bool),
        unanswered=unanswered,
    )


def all_let_in(*latencies_us: float) -> Outcome:
    return outcome([LET_IN] * len(latencies_us), latencies_us)


def round_of(*, overloaded_us: float, refused_s: float = 0.0012, steal: float = 0.0) -> Round:
    """Ten searches take 5 ms of CPU; uncontended ones are answered in 1 ms; a flood is one search and fourteen 429s."""
    return Round(
        capacity=Phase(all_let_in(*[500.0] * 10), 0.005),
        uncontended=Phase(all_let_in(1000.0), 0.0005),
        overloaded=Phase(outcome([LET_IN, REFUSED], [overloaded_us, 50.0]), 0.0006),
        refused=Phase(outcome([LET_IN] + [REFUSED] * 14, [600.0] + [60.0] * 14), refused_s),
        steal=steal,
    )


def test_a_refusal_costs_what_a_flood_takes_beyond_its_searches() -> None:
    """1.2 ms for one search of 0.5 ms and fourteen refusals: 50 us each, a tenth of a search."""
    one = round_of(overloaded_us=2000.0)

    assert 500.0 == pytest.approx(search_cpu_us(one.capacity))
    assert 50.0 == pytest.approx(refusal_cpu_us(one.refused, 500.0))
    assert math.isnan(refusal_cpu_us(one.uncontended, 500.0))


def test_the_p99_is_that_of_those_let_in() -> None:
    """A refusal is quick; counted with the others it would hide them."""
    assert 2000.0 == p99_us(round_of(overloaded_us=2000.0).overloaded)


def test_what_is_due_while_the_clients_connect_does_not_count() -> None:
    """The first request waited for hundreds of connections to be made, as none in use would."""
    phase = Phase(all_let_in(90_000.0, 2000.0), 0.1)
    phase.outcome.due_s[0] = 0.1

    assert 2000.0 == p99_us(phase)


def test_rounds_are_judged_by_their_median() -> None:
    """Twice and four times the uncontended P99, and once ten times: four is the median, over the limit of three."""
    rounds = [round_of(overloaded_us=1000.0 * times) for times in (2, 10, 4)]

    result = judged(rounds, before=NOTHING, after=NOTHING, conditions={"release": "r"})

    assert 4.0 == result.conditions["p99_over_uncontended"]
    assert 0.1 == result.conditions["refusal_over_search_cpu"]
    assert not result.conditions["holds"]
    assert ["DOES NOT HOLD: P99 of those let in is 4.00 times the uncontended one (limit 3)"] == [
        note for note in result.notes if note.startswith("DOES NOT HOLD")
    ]
    rows = {row["name"]: row for row in result.rows}
    assert (4000.0, 0.5) == (rows["overloaded: searches"]["p99_us"], rows["overloaded: searches"]["refused"])
    assert (50.0, 60.0) == (rows["overloaded: refusals"]["p50_us"], rows["nearly all refused: refusals"]["p50_us"])
    assert (500.0, 50.0) == tuple(rows[name]["server_cpu_us"] for name in list(rows) if rows[name]["server_cpu_us"])


def test_a_round_whose_core_was_taken_away_is_set_aside() -> None:
    """Unless there is no other."""
    quiet, stolen = round_of(overloaded_us=2000.0), round_of(overloaded_us=9000.0, steal=0.1)

    both = judged([quiet, stolen], before=NOTHING, after=NOTHING, conditions={})
    alone = judged([stolen], before=NOTHING, after=NOTHING, conditions={})

    assert (2.0, 1, True) == tuple(both.conditions[name] for name in ("p99_over_uncontended", "rounds", "holds"))
    assert (9.0, 0, False) == tuple(alone.conditions[name] for name in ("p99_over_uncontended", "rounds", "holds"))


def test_nothing_may_grow() -> None:
    """A megabyte is how the interpreter breathes; ten, a connection or a thread are not."""
    assert growth(NOTHING, NOTHING._replace(private_bytes=101_000_000)).holds
    assert growth(NOTHING, NOTHING._replace(private_bytes=90_000_000)).holds
    assert not growth(NOTHING, NOTHING._replace(private_bytes=110_000_000)).holds
    assert not growth(NOTHING, NOTHING._replace(files=31)).holds
    assert not growth(NOTHING, NOTHING._replace(threads=3)).holds


def test_a_request_without_an_answer_is_still_in_flight() -> None:
    """Refused is answered; silence is not."""
    one = round_of(overloaded_us=2000.0)
    silent = one._replace(overloaded=Phase(outcome([LET_IN], [1.0], unanswered=2), 0.1))

    assert answers([one, one]).holds
    assert "DOES NOT HOLD: 2 requests of the loads were never answered" == str(answers([one, silent]))


def test_a_real_server_is_loaded_above_and_below_its_capacity(tmp_path: Path) -> None:
    """Two servers, every phase; most of the flood is refused, and the client got every answer. No time is judged."""
    release = small_release(tmp_path, featurizer=small_featurizer())
    catalogue = small_catalogue(tmp_path, release, factory="Flat")

    result = run(release, catalogue, rounds=1, seconds=1.0, connections=16)

    rows = {row["name"]: row for row in result.rows}
    calm, flood = rows["uncontended: searches"], rows["nearly all refused: refusals"]
    assert calm["offered_per_s"] == pytest.approx(0.1 * float(rows["overloaded: searches"]["offered_per_s"] or 0))
    assert float(flood["refused"] or 0) > 0.2
    assert float(flood["server_cpu_us"] or 0) > 0
    assert not any("never answered" in note for note in result.notes if note.startswith("DOES NOT HOLD"))
    assert "off" == result.conditions["query_vector_cache"]
    assert len(result.rows) == result.table().row_count
