"""`que2search release`: another release is brought into service from the command line."""

from pathlib import Path

import pytest

from index.generations import open_current
from index.lock import exclusive
from service.settings import Settings
from tests.helpers import small_featurizer
from tests.service.real_server import server
from tests.small_release import small_catalogue, small_release
from tests.test_que2search import que2search


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A home with the releases `small`, which is served, and `other`."""
    for name, dim in (("small", 16), ("other", 24)):
        small_release(tmp_path / "releases", featurizer=small_featurizer(), name=name, dim=dim)
    small_catalogue(tmp_path, tmp_path / "releases" / "small", products=50)
    return tmp_path


def test_without_a_server_a_release_is_activated_in_place(root: Path) -> None:
    """Its generation is current afterwards; the same command goes back."""
    there = que2search("--home", root, "release", "activate", "other", "--catalogue", root / "catalogue")
    served = open_current(root / "catalogue").manifest
    back = que2search("--home", root, "release", "activate", "small", "--catalogue", root / "catalogue")

    assert (0, 0) == (there.returncode, back.returncode), there.stderr + back.stderr
    assert "release other is served" in there.stdout
    assert ("other", 50) == (served.release, served.count)
    assert 1 == open_current(root / "catalogue").number


def test_a_catalogue_in_use_is_left_alone(root: Path) -> None:
    """One line that says who has it."""
    with exclusive(root / "catalogue", use="a test"):
        result = que2search("--home", root, "release", "activate", "other", "--catalogue", root / "catalogue")

    assert 1 == result.returncode
    assert "in use by a test" in result.stderr


def test_a_running_server_is_asked(root: Path) -> None:
    """And waited for; a name that it does not know is an error."""
    settings = Settings(release=root / "releases/small", catalogue=root / "catalogue", warmup_queries=2, watch_share=0)
    with server(settings) as running:
        there = que2search("release", "activate", "other", "--url", running.url)
        shown = que2search("release", "show", "--url", running.url)
        nowhere = que2search("release", "activate", "nowhere", "--url", running.url)

    assert 0 == there.returncode, there.stderr
    assert "release: other" in shown.stdout
    assert "previous: small" in shown.stdout
    assert (1, True) == (nowhere.returncode, "answered 422" in nowhere.stderr)
