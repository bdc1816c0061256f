"""What is said of writes follows from what was answered; every part runs on a small catalogue, no time is judged."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks import writes_bulk, writes_delta, writes_live, writes_mixed
from benchmarks.blocks import Block, interleave
from benchmarks.disturbance import CpuTimes, Pauses
from benchmarks.open_loop import Outcome, outcome_of
from benchmarks.open_loop_client import Load, Replies, Reply
from benchmarks.overload_report import Footprint
from benchmarks.writes_load import Written, done_per_s, until_acknowledged_us, until_searchable_us
from benchmarks.writes_samples import ROW_BYTES, Sample, flat
from benchmarks.writes_verdicts import fresh, searches, sustained
from tests.helpers import small_featurizer
from tests.small_release import small_catalogue, small_release

MB = 1_000_000


def outcome(statuses: Sequence[int], latencies_s: Sequence[float], *, unanswered: int = 0) -> Outcome:
    """Answers to what was due a second after the start of two."""
    replies = [
        Reply(due=1.0, ready=1.0, sent=1.0, done=1.0 + latency, status=status, server_us=None, degraded=False)
        for status, latency in zip(statuses, latencies_s, strict=True)
    ]
    load = Load(host="", port=0, targets=["/"], rate=100, seconds=2.0)
    return outcome_of(load, Replies(replies=replies, unanswered=unanswered))


def written(*, failed: int = 0, unanswered: int = 0) -> Written:
    """Three acknowledged after 1, 2 and 3 ms, two searchable after 0.1 and 0.2 s."""
    acknowledged = outcome([202, 202, 202, *[503] * failed], [0.001, 0.002, 0.003, *[9.0] * failed])
    return Written(acknowledged, outcome([200, 200], [0.1, 0.2], unanswered=unanswered))


def sample(
    at_s: float, *, private_bytes: int = 100 * MB, files: int = 30, delta_rows: int = 0, store: int = MB
) -> Sample:
    held = Footprint(private_bytes, files, threads=4)
    return Sample(
        at_s, held, file_bytes=4 * MB, used_bytes=store, temporary_files=1, delta_rows=delta_rows, generation=1
    )


def holds(samples: Sequence[Sample]) -> list[bool]:
    """Of memory, files, threads, temporary files, and the store."""
    return [verdict.holds for verdict in flat(samples)]


def test_only_writes_that_were_done_are_timed() -> None:
    """A refusal has no time until it is acknowledged, and a second of load had 2.5 writes."""
    both = [written(), written(failed=1)]

    assert [1e3, 2e3, 3e3] * 2 == until_acknowledged_us(both).round().tolist()
    assert [1e5, 2e5] * 2 == until_searchable_us(both).round().tolist()
    assert 2.5 == done_per_s(both)


def test_a_write_that_fails_is_told_by_its_status() -> None:
    """503 is a status; 0 is no answer."""
    assert sustained([written()]).holds
    failing = sustained([written(failed=2), written(unanswered=1)])

    assert not failing.holds
    assert "10 of 13 writes were done" in failing.says
    assert "{503: 2, 0: 1}" in failing.says


def test_a_second_until_writes_are_searchable_is_enough() -> None:
    """The 99th percentile of 0.1 s and once 0.2 s; of one in ten 1.5 s."""
    assert fresh(np.array([1e5] * 99 + [2e5])).holds
    assert not fresh(np.array([1e5] * 90 + [1.5e6] * 10)).holds


def test_searches_are_judged_beside_those_without_writes() -> None:
    """p50 1.2 times is within 1.3, CPU 1.4 times is not, P99 1.2 times is within 1.5."""

    def block(latency_us: float, cpu_us: float) -> Block:
        return Block(latencies_us=np.full(10, latency_us), cpu_us=cpu_us)

    measured = interleave(
        {"without": lambda _: block(1000.0, 500.0), "beside": lambda _: block(1200.0, 700.0)},
        blocks=1,
        clock=lambda: CpuTimes(0, 0),
        pauses=lambda: Pauses(0.0, 0.0),
    )
    verdicts = searches(measured.arms["beside"], measured.arms["without"], tail=True)

    assert [True, False, True] == [verdict.holds for verdict in verdicts]
    assert "DOES NOT HOLD: CPU 700 us is 1.40 times 500 us (limit 1.3)" == str(verdicts[1])
    assert 2 == len(searches(measured.arms["beside"], measured.arms["without"], tail=False))


def test_what_is_held_at_least_must_not_grow() -> None:
    """Peaks of a compaction do not count, warming up does not either; a file more that stays does."""
    level = [sample(at) for at in range(9)]
    warming = [sample(0, private_bytes=50 * MB), *level[1:]]
    compacting = [*level[:7], sample(7, private_bytes=300 * MB, files=60), level[8]]
    leaking = [*level[:6], *(sample(at, files=31) for at in (6, 7, 8))]

    assert [True] * 5 == holds(level) == holds(warming) == holds(compacting)
    assert [True, False, True, True, True] == holds(leaking)


def test_the_delta_may_grow_until_a_compaction() -> None:
    """Ten thousand rows of 2 kB explain 20 MB; without them that is growth."""
    grown = 100 * MB + 10_000 * ROW_BYTES
    before = [sample(at) for at in range(6)]

    assert holds([*before, *(sample(at, private_bytes=grown, delta_rows=10_000) for at in (6, 7, 8))])[0]
    assert not holds([*before, *(sample(at, private_bytes=grown) for at in (6, 7, 8))])[0]


def test_the_store_may_grow_by_a_tenth() -> None:
    """What rows take of it; its file keeps free pages for the next compaction."""
    before = [sample(at) for at in range(6)]

    assert holds([*before, *(sample(at, store=MB + MB // 20) for at in (6, 7, 8))])[-1]
    assert not holds([*before, *(sample(at, store=MB + MB // 5) for at in (6, 7, 8))])[-1]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_release(tmp_path_factory.mktemp("releases"), featurizer=small_featurizer())


@pytest.fixture(scope="module")
def catalogue(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_catalogue(tmp_path_factory.mktemp("catalogues"), release, factory="Flat")


def test_live_writes_are_done_beside_searches(release: Path, catalogue: Path, tmp_path: Path) -> None:
    """Every write of the counted block is acknowledged, or found where it waits; searches go on."""
    result = writes_live.run(release, catalogue, rate=40.0, waiting=0.5, blocks=1, seconds=1.0)

    rows = {str(row["name"]): row for row in result.rows}
    searches = [writes_live.WITHOUT, writes_live.BESIDE, writes_live.FLOOR]
    assert [*searches, writes_live.ACKNOWLEDGED, writes_live.SEARCHABLE] == list(rows)
    assert all(float(row["count"] or 0) > 0 for row in rows.values())
    assert result.conditions["writes"] == sum(int(rows[name]["count"] or 0) for name in list(rows)[3:])
    assert all(float(result.conditions[f"{name}_cpu_us_per_write"]) > 0 for name in ("committer", "indexer"))
    assert {"writes.json", "writes.md", "writes.png"} <= {path.name for path in result.save(tmp_path)}


def test_a_delta_of_a_tenth_is_beside_an_empty_one(release: Path, catalogue: Path) -> None:
    """Of 300 products 30 are written, at least; each server has its own copy."""
    written_so_far: list[tuple[int, int]] = []
    result = writes_delta.run(
        release, catalogue, share=0.1, blocks=1, calls=3, writing=lambda *step: written_so_far.append(step)
    )

    assert [writes_delta.EMPTY, writes_delta.FULL] == [row["name"] for row in result.rows]
    assert (30, 30) == written_so_far[-1]
    assert all(float(row["server_p50_us"] or 0) > 0 for row in result.rows)
    assert {"p50_ratio", "cpu_ratio", "holds"} <= result.conditions.keys()


def test_mixed_load_is_sampled_while_the_server_compacts(release: Path, catalogue: Path, tmp_path: Path) -> None:
    """Nothing asked of it fails; compactions, of five changes and more, empty the delta in between."""
    result = writes_mixed.run(
        release,
        catalogue,
        minutes=0.2,
        search_rate=10.0,
        write_rate=10.0,
        lines=20,
        compact_from=5,
        piece_s=4.0,
        every_s=0.5,
    )

    assert ["search", "write, until acknowledged", "write, until searchable", "bulk load"] == [
        row["name"] for row in result.rows
    ]
    assert result.conditions["compactions"] >= 1
    assert {"60 of 60 lines of bulk loads were done"} <= set(result.notes)
    assert result.samples[-1].at_s > 12.0 > result.samples[0].at_s
    assert "writes-mixed.png" in {path.name for path in result.save(tmp_path)}


def test_bulk_figures_are_of_the_catalogue_and_of_what_was_loaded(
    release: Path, catalogue: Path, tmp_path: Path
) -> None:
    """300 products, 50 more, and a compaction of all."""
    result = writes_bulk.run(release, catalogue, products=50)

    rows = {str(row["name"]): row for row in result.rows}
    assert writes_bulk.FIGURES == len(rows)
    assert 300 == rows["store"]["products"] == rows["generation"]["products"]
    assert 50 == rows["POST /products, until searchable"]["products"]
    assert 350 == rows["compaction"]["products"]
    assert "writes-bulk.png" in {path.name for path in result.save(tmp_path)}
