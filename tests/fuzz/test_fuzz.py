"""Each fuzz target on its seeds, on mutations of them, and on random bytes: what `make fuzz` does, without atheris."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import files, texts
from tests.fuzz.target import Target

TARGETS = texts.TARGETS | files.TARGETS


@pytest.fixture(scope="module", params=sorted(TARGETS))
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Target:
    made: Target = TARGETS[request.param](tmp_path_factory.mktemp("fuzz"))
    return made


def test_no_seed_raises(target: Target) -> None:
    """Real values, and every input that fuzzing has found."""
    for seed in target.seeds:
        target.entry(seed)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_else_raises_either(target: Target, data: st.DataObject) -> None:
    """A seed with some pieces replaced, or anything at all."""
    target.entry(data.draw(st.binary(max_size=300) | mutations(target)))


def mutations(target: Target) -> st.SearchStrategy[bytes]:
    edits = st.lists(
        st.tuples(st.integers(0, 1 << 16), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4
    )
    return st.builds(mutated, st.sampled_from(target.seeds), edits)


def mutated(seed: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """The seed after each edit: from some place on, some bytes give way to others."""
    for place, length, by in edits:
        at = place % (len(seed) + 1)
        seed = seed[:at] + by + seed[at + length :]
    return seed
