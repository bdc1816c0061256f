import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.load_record import Recorder, Sample
from benchmarks.load_report import LoadResult, load_result


def recorded(*, server_us: float = 250.0, steal: float = 0.0) -> Recorder:
    """100 first pages, 99 of them at `server_us` and one at a second, two later ones, an empty route."""
    recorder = Recorder()
    recorder.asked.update({"first page": 100, "later page": 1, "empty route": 1})
    for number in range(100):
        total = server_us if number < 99 else 1e6
        recorder.add(Sample("first page", {"client": 400.0, "from_send": 350.0, "late": 50.0, "total": total}))
    recorder.add(
        Sample("later page", {"client": 700.0, "from_send": 650.0, "late": 50.0, "ann": 120.0, "total": 300.0})
    )
    recorder.add(Sample("empty route", {"client": 150.0, "from_send": 120.0, "late": 50.0}))
    recorder.close_block(steal)
    return recorder


def result_of(recorder: Recorder, *, budget_ms: float = 1.5, unanswered: int = 0) -> LoadResult:
    return load_result(
        recorder, title="a load", budget_ms=budget_ms, unanswered=unanswered, conditions={"host": "here"}
    )


@pytest.mark.parametrize(("budget_ms", "passed"), [(100.0, True), (0.25, True), (0.24, False), (0.01, False)])
def test_the_first_pages_p99_in_the_server_decides(budget_ms: float, passed: bool) -> None:
    """It is 0.25 ms exactly; the later page and the slowest first page do not matter."""
    result = result_of(recorded(), budget_ms=budget_ms)

    assert passed == result.passed
    assert ("PASS" if passed else "FAIL") == result.verdict[:4]
    assert "0.25 ms" in result.verdict


def test_a_failed_check_fails_the_load() -> None:
    """Whatever the budget says; the verdict counts it by name, and gives an example."""
    recorder = recorded()
    recorder.fail("later page", "a product came twice", "p9")

    result = result_of(recorder, budget_ms=100.0)

    assert not result.passed
    assert "FAIL: 1 x later page: a product came twice; the first: p9" == result.verdict


def test_what_was_never_answered_or_never_measured_fails_the_load() -> None:
    """An unanswered request would be the slowest of all; no first page means no P99."""
    assert "3 requests were due" in result_of(recorded(), unanswered=3).verdict
    assert "no first page was measured" in result_of(Recorder()).verdict


def test_the_client_is_reported_over_the_floor() -> None:
    """400 us less the empty route's 150; the floor itself has no such figure."""
    first, later, floor = result_of(recorded()).rows

    assert (250, 550, None) == (first["over_floor_p50_us"], later["over_floor_p50_us"], floor["over_floor_p50_us"])
    assert (400, 350) == (first["client_p99_us"], first["from_send_p99_us"])
    assert floor["server_p99_us"] is None


def test_the_table_shows_hundredths_of_milliseconds_in_80_columns() -> None:
    """A person reads it in ten seconds: one line per kind of page, the failures, both sides, the floor."""
    output = io.StringIO()

    Console(file=output, width=80).print(result_of(recorded()).table())

    lines = [" ".join(line.split()) for line in output.getvalue().splitlines()]
    assert "first page 100 0 0.25 0.25 1,000 0.40 0.40 0.40 0.25 0.25" in lines
    assert "later page 1 0 0.30 0.30 0.30 0.70 0.70 0.70 0.55 0.55" in lines
    assert "empty route 1 0 - - - 0.15 0.15 0.15 - -" in lines
    assert "later page P99: ann 0.12" in lines
    assert not any("…" in line for line in lines)  # nothing was cut off


def test_notes_tell_what_disturbed_the_run() -> None:
    """Steal, lateness of the client itself, degraded answers."""
    recorder = recorded(steal=0.5)
    recorder.degraded = 2
    for _ in range(100):
        recorder.add(Sample("first page", {"late": 9000.0}))
    recorder.close_block(0.5)

    notes = " ".join(result_of(recorder).notes)

    assert "every second had CPU steal" in notes
    assert "the client sent late, P99 9.00 ms" in notes
    assert "2 answers were degraded" in notes


def test_result_is_kept_as_json_markdown_and_a_picture(tmp_path: Path) -> None:
    """The JSON has the verdict's parts, percentiles by stage, curves and conditions."""
    paths = result_of(recorded(), budget_ms=0.1).save(tmp_path)

    kept = json.loads(paths[0].read_bytes())
    assert ["load.json", "load.md", "load.png"] == [path.name for path in paths]
    assert 250 == kept["stages"]["first page"]["total"]["p99"]
    assert 0.1 == kept["budget_ms"]
    assert 1 == len(kept["problems"])
    assert "here" == kept["conditions"]["host"]
    assert {"server, first page", "client, first page", "client, empty route"} <= kept["curves"].keys()
    assert paths[2].read_bytes().startswith(b"\x89PNG")
