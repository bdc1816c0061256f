"""The watch: samples of live searches, compared with exact search beside the workers, and never in their way."""

import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic, sleep

import httpx
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.ann import Hits
from index.catalogue import Catalogue
from index.efforts import Targets
from index.generations import Generation, open_current
from index.operating_points import EFFORTS, OperatingPoint, OperatingPoints
from index.tune import tune
from models.runtime import Release, open_release
from service.metrics import Metrics
from service.recall_sample import FOUND, SOCKET_FILE, Sample
from service.recall_window import RecallWindow, interval
from service.sampler import COMPARED, UNREADABLE, Sampler, offline_recall, promised_recall
from service.settings import Settings
from service.watch import Watch
from tests.service.real_server import PATIENCE_S, Server, server
from tests.small_release import small_catalogue

DIM = 16
QUERY = np.full((1, DIM), 0.25, dtype=np.float32)
COMPARED_SERIES, UNREADABLE_SERIES = (f'q2s_watch_read_total{{outcome="{each}"}}' for each in (COMPARED, UNREADABLE))
HITS = Hits(np.arange(100)[None], np.linspace(1, 0, 100, dtype=np.float32)[None])


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for the address of a socket, whatever pytest calls its folders."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def samples(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(folder / SOCKET_FILE))
        listening.settimeout(PATIENCE_S)
        yield listening


@pytest.fixture(scope="module")
def tuned_catalogue(tmp_path_factory: pytest.TempPathFactory, release_path: Path) -> Path:
    """1,500 products in 16 lists, of which `low` probes so few that it misses a quarter of the nearest ten."""
    path = small_catalogue(tmp_path_factory.mktemp("tuned"), release_path, products=1500, factory="IVF16,Flat")
    generation = open_current(path)
    tuning = tune(
        generation.ann,
        generation.exact,
        golden_vectors(open_release(release_path)),
        targets=Targets.of(low=0.6, high=0.7),
    )
    generation.save_operating_points(tuning.points)
    return path


@pytest.fixture
def watched(settings: Settings, tuned_catalogue: Path) -> Settings:
    """Every search is sampled, and the sampler never rests."""
    return settings.model_copy(update={"catalogue": tuned_catalogue, "watch_share": 1.0, "watch_cpu": 1.0})


def golden_vectors(release: Release) -> np.ndarray:
    features = [release.featurizer.query(query.query, query.country) for query in release.golden_queries()]
    return np.concatenate([release.query_tower.embed(each) for each in features])


def counted(metrics: Metrics, outcome: str, effort: str = "low") -> float:
    return value(metrics.text().decode(), f'q2s_watch_samples_total{{effort="{effort}",outcome="{outcome}"}}') or 0.0


def value(text: str, series: str) -> float | None:
    """The value of one series in Prometheus' text; None when it is not there."""
    found = [line for line in text.splitlines() if line.startswith(f"{series} ")]
    return float(found[0].rpartition(" ")[2]) if found else None


def scraped(running: Server, series: str) -> float | None:
    return value(httpx.get(f"{running.url}/metrics").text, series)


def is_told(running: Server, series: str, expected: float) -> bool:
    return scraped(running, series) == expected


def eventually(condition: Callable[[], bool], *, what: str) -> None:
    give_up = monotonic() + PATIENCE_S
    while not condition():
        assert monotonic() < give_up, f"not within {PATIENCE_S} s: {what}"
        sleep(0.02)


def sampler_of(running: Server) -> psutil.Process | None:
    """The sampler that belongs to a server; None while there is none."""
    children = psutil.Process(running.process.pid).children()
    return next((each for each in children if "service.sampler" in each.cmdline()), None)


def working_sampler(running: Server) -> psutil.Process:
    """The sampler of a server, once it has told something."""
    eventually(lambda: scraped(running, "q2s_list_imbalance") is not None, what="the sampler reports")
    found = sampler_of(running)
    assert found is not None
    return found


# One sample


def test_a_sample_arrives_as_it_was_sent() -> None:
    """Effort, generation, query and the first ten found."""
    sent = Sample("high", 7, QUERY, HITS.numbers[0, :FOUND])

    received = Sample.decode(sent.encode(), dim=DIM)

    assert received is not None
    assert ("high", 7) == received[:2]
    np.testing.assert_array_equal(QUERY, received.query)
    np.testing.assert_array_equal(np.arange(10), received.found)


@given(st.binary(max_size=400))
def test_garbage_is_no_sample(garbage: bytes) -> None:
    assert Sample.decode(garbage, dim=DIM) is None


@pytest.mark.parametrize("place", [0, 4, 9], ids=["magic", "effort", "query"])
def test_a_damaged_sample_is_none(place: int) -> None:
    """Another magic, an effort that does not exist, a query that is not a number."""
    datagram = bytearray(Sample("low", 7, QUERY, HITS.numbers[0, :FOUND]).encode())
    datagram[place : place + 4] = b"\xff\xff\xff\xff"

    assert Sample.decode(bytes(datagram), dim=DIM) is None


# The worker's side


def offer(watch: Watch, times: int, *, effort: str = "low") -> None:
    for _ in range(times):
        watch.offer(QUERY, HITS, effort=effort)
    watch.close()


def test_at_share_1_every_search_is_sent(folder: Path, samples: socket.socket) -> None:
    """Three searches, three datagrams, counted as sent."""
    metrics = Metrics()

    offer(Watch(folder, share=1.0, generation=7, metrics=metrics), 3)

    received = [Sample.decode(samples.recv(1_000), dim=DIM) for _ in range(3)]
    assert [("low", 7)] * 3 == [sample[:2] for sample in received if sample is not None]
    assert 3 == counted(metrics, "sent")


def test_a_share_of_the_searches_is_picked_at_random(folder: Path) -> None:
    """2 % of 10,000 are 200, give or take four standard deviations of 14; one seed picks the same ones again."""
    picked = []
    for seed in (1, 1, 2):
        metrics = Metrics()
        offer(Watch(folder, share=0.02, generation=7, metrics=metrics, seed=seed), 10_000)
        picked.append(counted(metrics, "dropped"))

    assert all(abs(count - 200) < 56 for count in picked)
    assert picked[0] == picked[1]


def test_exact_searches_are_not_sent(folder: Path, samples: socket.socket) -> None:
    """They find everything by definition."""
    samples.setblocking(False)

    offer(Watch(folder, share=1.0, generation=7, metrics=Metrics()), 5, effort="exact")

    with pytest.raises(BlockingIOError):
        samples.recv(1_000)


def test_what_nobody_reads_is_dropped(folder: Path) -> None:
    """There is no socket: all three are dropped, and no search fails."""
    metrics = Metrics()

    offer(Watch(folder, share=1.0, generation=7, metrics=metrics), 3)

    assert (0, 3) == (counted(metrics, "sent"), counted(metrics, "dropped"))


def test_more_than_the_sampler_can_take_is_dropped(folder: Path, samples: socket.socket) -> None:
    """Nobody reads the socket: it fills up, the rest is dropped at once, and what was sent is there."""
    metrics = Metrics()

    offer(Watch(folder, share=1.0, generation=7, metrics=metrics), 5_000)

    sent, dropped = counted(metrics, "sent"), counted(metrics, "dropped")
    assert 5_000 == sent + dropped
    assert 0 < sent < 5_000
    assert Sample.decode(samples.recv(1_000), dim=DIM) is not None


# Figures


def test_recall_is_the_mean_over_the_last_samples() -> None:
    """Of 0, 1, 0.5 and 0.9 a window of three keeps the last three: 0.8."""
    window = RecallWindow(size=3)
    assert window.recall() is None
    for share in (0.0, 1.0, 0.5, 0.9):
        window.add(share)
    recall = window.recall()

    assert recall is not None
    assert (3, pytest.approx(0.8)) == (recall.samples, recall.mean)


def test_the_interval_is_wilsons() -> None:
    """Of 100 samples that all found everything: 1 / (1 + 1.96^2 / 100) = 0.963 to 1; of half of 100: 0.404 to 0.596."""
    assert pytest.approx((0.963, 1.0), abs=5e-4) == interval(1.0, 100)
    assert pytest.approx((0.404, 0.596), abs=5e-4) == interval(0.5, 100)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_the_interval_holds_the_mean(shares: list[float]) -> None:
    window = RecallWindow()
    for share in shares:
        window.add(share)
    recall = window.recall()

    assert recall is not None
    assert 0 <= recall.low <= recall.mean + 1e-9
    assert recall.mean - 1e-9 <= recall.high <= 1


def points(recalls: dict[str, float], targets: dict[str, float] | None) -> OperatingPoints:
    tuning = None if targets is None else {"targets": targets}
    return OperatingPoints(
        {
            effort: OperatingPoint(effort=effort, nprobe=1, candidates=100, ann_recall_at_10=recalls.get(effort))
            for effort in EFFORTS
        },
        tuning=tuning,
    )


def test_what_tuning_promised_is_its_target_or_what_it_reached() -> None:
    """`low` was to reach 0.95 and reached more; `high` was to reach 0.99 and could not."""
    tuned = points({"low": 0.97, "high": 0.98}, {"low": 0.95, "high": 0.99})

    assert {"low": 0.97, "high": 0.98} == offline_recall(tuned)
    assert {"low": 0.95, "high": 0.98} == promised_recall(tuned, offline_recall(tuned))


def test_an_untuned_index_promises_nothing() -> None:
    assert ({}, {}) == (offline_recall(points({}, None)), promised_recall(points({}, None), {}))


# The sampler


@pytest.fixture
def generation(tuned_catalogue: Path) -> Generation:
    return open_current(tuned_catalogue)


@pytest.fixture
def sampler(generation: Generation, tuned_catalogue: Path) -> Iterator[Sampler]:
    with Catalogue.open(tuned_catalogue) as catalogue:
        yield Sampler(generation, catalogue)


def test_a_sample_counts_what_the_index_missed(sampler: Sampler, generation: Generation, release_path: Path) -> None:
    """Nine of the exact ten nearest and a product from elsewhere: 0.9."""
    query = golden_vectors(open_release(release_path))[:1]
    nearest = generation.exact.search(query, candidates=1500).numbers[0]

    sampler.take(Sample("low", generation.number, query, np.array([*nearest[:9], nearest[-1]])).encode())

    recall = sampler.report().recall["low"]
    assert (1, 0.9) == (recall.samples, recall.mean)


def test_what_is_no_sample_of_this_generation_is_counted_and_ignored(sampler: Sampler, generation: Generation) -> None:
    """Garbage, another dimension, `exact`, and the generation before."""
    found = HITS.numbers[0, :FOUND]
    for datagram in (
        b"",
        b"garbage",
        Sample("low", generation.number, QUERY[:, :8], found).encode(),
        Sample("exact", generation.number, QUERY, found).encode(),
        Sample("low", generation.number - 1, QUERY, found).encode(),
    ):
        sampler.take(datagram)

    report = sampler.report()
    assert {} == report.recall
    assert {"compared": 0, "unreadable": 4, "other_generation": 1} == report.read


# The whole


@pytest.mark.parametrize("workers", [1, 2])
def test_recall_of_live_searches_is_that_of_tuning(watched: Settings, release_path: Path, workers: int) -> None:
    """The golden queries come as live ones: what the sampler counts is what `tune` measured on them."""
    golden = open_release(release_path).golden_queries()
    with server(watched.model_copy(update={"workers": workers})) as running:
        working_sampler(running)
        for asked, query in enumerate(golden, start=1):
            httpx.get(f"{running.url}/search", params={"q": query.query, "country": query.country})
            if asked % 5 == 0:  # ten samples may wait
                eventually(partial(is_told, running, COMPARED_SERIES, asked), what=f"{asked} samples are compared")
        text = httpx.get(f"{running.url}/metrics").text
        running.stop()

    live, offline = (
        value(text, 'q2s_ann_recall{effort="low",k="10"}'),
        value(text, 'q2s_ann_recall_offline{effort="low"}'),
    )
    low, high = (value(text, f'q2s_ann_recall_interval{{bound="{bound}",effort="low"}}') for bound in ("low", "high"))
    assert live is not None
    assert offline is not None
    assert low is not None
    assert high is not None
    assert low < offline < high
    assert live == pytest.approx(offline)
    assert offline < 0.9  # there was something to miss
    assert 0.6 == value(text, 'q2s_ann_recall_target{effort="low"}')
    assert len(golden) == value(text, 'q2s_watch_samples_total{effort="low",outcome="sent"}')  # none of the warm-up
    assert value(text, 'q2s_quantisation_error{vectors="training"}') == 0


def test_later_pages_are_counted_under_their_own_effort(watched: Settings) -> None:
    """A cursor leads to `high`'s list."""
    with server(watched) as running:
        working_sampler(running)
        first = httpx.get(f"{running.url}/search", params={"q": "red dress"}).json()
        httpx.get(f"{running.url}/search", params={"q": "red dress", "cursor": first["cursor"]})

        for effort in ("low", "high"):
            series = f'q2s_ann_recall_samples{{effort="{effort}"}}'
            eventually(partial(is_told, running, series, 1), what=series)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_sampler_harms_no_search_and_comes_back(watched: Settings, workers: int) -> None:
    """Searches go on while it is gone, and another one is started in its place."""
    with server(watched.model_copy(update={"workers": workers})) as running:
        killed = working_sampler(running)
        killed.kill()
        answers = [httpx.get(f"{running.url}/search", params={"q": "lamp"}).status_code for _ in range(20)]

        assert [200] * 20 == answers
        assert 200 == httpx.get(f"{running.url}/livez").status_code
        eventually(lambda: sampler_of(running) not in (None, killed), what="another sampler runs")
        working_sampler(running)
        assert 0 == running.stop()


def test_garbage_on_its_socket_harms_nothing(watched: Settings) -> None:
    """It is counted, and the next sample is compared."""
    with server(watched) as running:
        folder = Path(working_sampler(running).cmdline()[3])
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as anybody:
            anybody.sendto(b"garbage", str(folder / SOCKET_FILE))
        eventually(partial(is_told, running, UNREADABLE_SERIES, 1), what="garbage is counted")
        httpx.get(f"{running.url}/search", params={"q": "lamp"})

        eventually(partial(is_told, running, COMPARED_SERIES, 1), what="the search is compared")


@pytest.mark.parametrize(
    ("workers", "stop"), [(1, signal.SIGTERM), (2, signal.SIGTERM), (1, signal.SIGINT), (1, signal.SIGKILL)]
)
def test_the_sampler_ends_with_the_server(watched: Settings, workers: int, stop: signal.Signals) -> None:
    """Stopped or killed, the server leaves no sampler and no folder."""
    with server(watched.model_copy(update={"workers": workers})) as running:
        sampler = working_sampler(running)
        folder = Path(sampler.cmdline()[3])
        os.kill(running.process.pid, stop)
        running.process.wait(PATIENCE_S)

        eventually(lambda: not sampler.is_running(), what="the sampler has ended")
        assert not folder.exists()


def test_at_share_0_there_is_no_sampler(watched: Settings) -> None:
    """No process, no folder, no figures."""
    with server(watched.model_copy(update={"watch_share": 0.0})) as running:
        httpx.get(f"{running.url}/search", params={"q": "lamp"})

        assert sampler_of(running) is None
        assert scraped(running, "q2s_list_imbalance") is None
        assert 0 == scraped(running, 'q2s_watch_samples_total{effort="low",outcome="dropped"}')
