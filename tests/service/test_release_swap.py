"""Another release under load: nothing is lost, nothing is mixed, and the way back is open."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.runtime import Release, open_release
from service.settings import Settings
from tests.helpers import small_featurizer
from tests.service.real_server import Server, server, wait_until
from tests.service.traffic import Served, activate, traffic
from tests.small_release import small_catalogue, small_release

PRODUCTS = 400


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small` of 16 dimensions, `other` of 24, which finds other products; and `broken`, sealed and then altered."""
    root = tmp_path_factory.mktemp("releases")
    small_release(root, featurizer=small_featurizer())
    small_release(root, featurizer=small_featurizer(), name="other", dim=24)
    small_release(root, featurizer=small_featurizer(), name="broken", dim=24)
    with (root / "broken" / "document_tower.onnx").open("ab") as file:
        file.write(b"x")
    return root


def settings_over(releases: Path, folder: Path) -> Settings:
    """Two workers over a new catalogue that `small` was used for."""
    catalogue = small_catalogue(folder, releases / "small", products=PRODUCTS, factory="IVF16,Flat")
    return Settings(
        release=releases / "small",
        catalogue=catalogue,
        warmup_queries=3,
        timeout_ms=60_000,
        max_waiting_ms=10_000,  # a test machine that others use is no overload
        max_standing_ms=10_000,
        workers=2,
        watch_share=0,
    )


@pytest.fixture
def settings(releases: Path, tmp_path: Path) -> Settings:
    return settings_over(releases, tmp_path)


@pytest.fixture(scope="module")
def running(releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may serve either release when a test begins."""
    with server(settings_over(releases, tmp_path_factory.mktemp("home"))) as running:
        yield running


def hits_fit(served: Served, release: Release) -> bool:
    """Whether the scores are this release's own: of its query tower's vector and its document tower's."""
    query = release.embed_query(served.query, "GB")
    hits = served.answer["hits"]
    vectors = release.embed_products(hits)
    return bool(np.allclose(vectors @ query, [hit["score"] for hit in hits], atol=1e-4))


def test_a_release_is_swapped_under_load_and_back(settings: Settings, releases: Path) -> None:
    """No request fails, each answer comes from one release with its own generation, and its scores are that one's."""
    opened = {name: open_release(releases / name) for name in ("small", "other")}
    with server(settings) as running, traffic(running) as going:
        there = activate(running, "other")
        first = len(going.served)
        back = activate(running, "small")

    assert ("active", "active") == (there["state"], back["state"]), (there, back)
    assert [] == going.failures
    assert {200} == {served.status for served in going.served}
    assert {202} == set(going.writes)
    assert {("small", 1), ("other", 2)} == {served.pair for served in going.served}
    assert {"small", "other"} == {served.pair[0] for served in going.served[first:]}
    for served in going.served[:: max(1, len(going.served) // 200)]:
        assert hits_fit(served, opened[served.pair[0]]), served


def test_status_tells_what_is_served_and_what_was(settings: Settings) -> None:
    """Before, after, and once more: there is nothing to do then."""
    with server(settings) as running:
        before = httpx.get(f"{running.url}/admin/release").json()
        activate(running, "other")
        after = httpx.get(f"{running.url}/admin/release").json()
        again = activate(running, "other")["state"]
        at_last = httpx.get(f"{running.url}/admin/release").json()

    assert {"release": "small", "generation": 1, "previous": None, "activation": None} == before
    assert ("other", 2, "small") == (after["release"], after["generation"], after["previous"])
    assert ("active", after) == (again, at_last)


def test_cursors_of_the_old_release_are_gone(running: Server) -> None:
    """410 with the first page to start again from; with the release they come back."""
    fields = {"q": "red dress", "size": 5}
    activate(running, "small")
    cursor = httpx.get(f"{running.url}/search", params=fields).json()["cursor"]
    activate(running, "other")
    gone = httpx.get(f"{running.url}/search", params=fields | {"cursor": cursor})
    activate(running, "small")
    again = httpx.get(f"{running.url}/search", params=fields | {"cursor": cursor})

    assert 410 == gone.status_code
    assert "first_page" in gone.json()
    assert 200 == again.status_code


def test_a_broken_release_is_refused(running: Server) -> None:
    """Told why; the old one goes on, and the next activation works."""
    before = httpx.get(f"{running.url}/readyz").json()
    refused = activate(running, "broken")

    assert "refused" == refused["state"]
    assert "document_tower.onnx was altered" in refused["error"]
    assert before == httpx.get(f"{running.url}/readyz").json()
    assert "active" == activate(running, "other")["state"]


@pytest.mark.parametrize("name", ["nowhere", "..", "../small", "/etc", "", "a\0b", "small/../small"])
def test_a_name_that_is_no_neighbour_is_refused_at_once(running: Server, name: str) -> None:
    """422, whatever it leads to; nothing is begun."""
    before = httpx.get(f"{running.url}/admin/release").json()
    answer = httpx.post(f"{running.url}/admin/release", json={"release": name})

    assert (422, "release") == (answer.status_code, answer.json()["field"])
    assert before == httpx.get(f"{running.url}/admin/release").json()


def test_a_restart_serves_what_was_active(settings: Settings) -> None:
    """Though the server is still started with the old release's name."""
    with server(settings) as running:
        activate(running, "other")
    with server(settings) as again:
        assert ("other", 2) == tuple(
            httpx.get(f"{again.url}/readyz").json()[name] for name in ("release", "generation")
        )
        assert "active" == activate(again, "small")["state"]


def test_an_activation_goes_on_after_a_restart(settings: Settings) -> None:
    """Asked for just before the server was killed."""
    with server(settings) as running:
        httpx.post(f"{running.url}/admin/release", json={"release": "other"})
        running.process.kill()
        running.process.wait()
    with server(settings) as again:
        assert "active" == activate(again, "other")["state"]
        assert "other" == httpx.get(f"{again.url}/readyz").json()["release"]


def test_what_a_build_that_was_cut_off_left_is_removed(settings: Settings) -> None:
    """By the server that starts, though it has nothing to build; and what its own builder was at, as it stops."""
    assert settings.catalogue is not None
    generations = settings.catalogue / "generations"

    def left_by_a_build() -> Path:
        left = generations / "7.tmp" / "columns"
        left.mkdir(parents=True)
        (left / "prices.npy").write_bytes(b"x")
        return left

    left = left_by_a_build()
    with server(settings) as running:
        wait_until(lambda: not left.parent.exists())
        left_by_a_build()
        assert running.stop() == 0
    assert [path.name for path in generations.iterdir()] == ["1"]
