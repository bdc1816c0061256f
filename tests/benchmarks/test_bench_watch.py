"""What the watch costs is measured beside a real sampler; no figure of time is judged."""

from pathlib import Path

import pytest

from benchmarks import watch
from service.errors import NotReadyError
from tests.helpers import small_featurizer
from tests.small_release import small_catalogue, small_release


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_release(tmp_path_factory.mktemp("releases"), featurizer=small_featurizer())


def test_watched_searches_are_compared_with_unwatched_ones(release: Path, tmp_path: Path) -> None:
    """The unwatched arm runs twice, so that a reader sees the noise; it is 1 times itself."""
    catalogue = small_catalogue(tmp_path, release, products=100)

    result = watch.run(release, catalogue, share=0.5, blocks=1, calls=4)

    assert [watch.OFF, watch.OFF_AGAIN, watch.ON, watch.EVERY] == [row["name"] for row in result.rows]
    assert 1.0 == result.rows[0]["cpu_over_off"]
    assert 0.5 == result.conditions["watch_share"]


def test_a_catalogue_without_a_generation_is_said_before_anything_is_measured(release: Path, tmp_path: Path) -> None:
    """The errors of the parts pass through."""
    with pytest.raises(NotReadyError, match="que2search build"):
        watch.run(release, tmp_path)
