"""Which index is built for how many vectors, and what is refused before any work."""

import pytest

from index.errors import SpecError
from index.spec import choose_spec, spec_from_factory


@pytest.mark.parametrize(
    ("count", "factory"),
    [
        (1, "Flat"),
        (4_999, "Flat"),
        (5_000, "IVF128,PQ32x4fsr,RFlat"),  # 4 sqrt(n) = 283, but 256 lists would train on 20 points each
        (20_000, "IVF512,PQ32x4fsr,RFlat"),  # 566
        (49_999, "IVF1024,PQ32x4fsr,RFlat"),  # 894
        (50_000, "IVF1024,PQ64x4fsr,RFlat"),  # finer codes from here on
        (100_000, "IVF1024,PQ64x4fsr,RFlat"),  # 1265
        (1_000_000, "IVF4096,PQ64x4fsr,RFlat"),  # 4000
        (10_000_000, "IVF16384,PQ64x4fsr,RFlat"),  # 12649
    ],
)
def test_the_index_fits_the_number_of_vectors(count: int, factory: str) -> None:
    """Flat below 5,000; above, about 4 sqrt(n) lists, a power of two with 39 or more vectors per list."""
    assert factory == choose_spec(count=count, dim=128).factory


def test_the_spec_knows_its_lists() -> None:
    """nlist is what nprobe is limited by; a flat index has none."""
    assert 512 == choose_spec(count=20_000, dim=128).nlist
    assert choose_spec(count=100, dim=128).nlist is None


@pytest.mark.parametrize("factory", ["OPQ32,IVF1024,PQ32", "IVF256,PQ16x4fs,Refine(SQ8)", "PCA64,IVF64,Flat", "Flat"])
def test_any_index_with_tunable_effort_is_accepted(factory: str) -> None:
    """A named factory is taken as it stands."""
    spec = spec_from_factory(factory, count=20_000, dim=128)

    assert factory == spec.factory


@pytest.mark.parametrize(
    ("factory", "count", "says"),
    [
        ("nonsense", 1_000, "could not parse"),
        ("", 1_000, "use Flat or IVF"),
        ("IVF64,PQ31", 10_000, "multiple of the number of subquantizers"),
        ("IVF1024,Flat", 1_000, "asks for 1024 lists, but there are 1000 vectors; use at most IVF25"),
        ("IVF99999999999999999999,Flat", 1_000, "lists"),
        ("IVF0,Flat", 1_000, "lists"),
        ("IVF16,PQ32", 200, "at least 256 vectors"),
        ("OPQ32,IVF16,PQ32x4fs", 200, "at least 256 vectors"),
        ("HNSW32", 1_000, "no lists to probe"),
        ("IDMap,Flat", 1_000, "no lists to probe"),
        ("Flat", 0, "0 vectors"),
    ],
)
def test_an_impossible_index_is_refused_with_its_reason(factory: str, count: int, says: str) -> None:
    """The message names the value and what would do."""
    with pytest.raises(SpecError, match=says):
        spec_from_factory(factory, count=count, dim=128)


def test_a_dimension_that_pq_cannot_divide_is_refused() -> None:
    """4 floats per sub-vector, so the dimension must be a multiple of 4."""
    with pytest.raises(SpecError, match="dim=126 is not divisible by 4"):
        choose_spec(count=10_000, dim=126)
