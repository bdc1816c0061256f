from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.baseline import BASELINE, WORSE, Baseline, Compared, compare, load, ratios, result, save
from service.client import ClientError


def baseline(products: int = 100, **found: float) -> Baseline:
    return Baseline(products=products, cpu="a CPU", commit="abc", ratios=found)


def test_a_ratio_is_one_cpu_time_over_another() -> None:
    """550 us over 220 us are 2.5; a pair of which one was not measured is left out."""
    found = ratios("CPU", [("page", "floor"), ("page", "gone")], {"page": 550.0, "floor": 220.0})

    assert {"CPU: page / floor": 2.5} == found


def test_worse_is_more_than_thirty_percent() -> None:
    """2.0 to 2.59 is 29.5 %, to 2.61 is worse, and 1.0 is half."""
    changes = {name: Compared(name, ratio, 2.0) for name, ratio in (("near", 2.59), ("worse", 2.61), ("better", 1.0))}

    assert [0.295, 0.305, -0.5] == pytest.approx([each.change for each in changes.values()])
    assert ["worse"] == [name for name, each in changes.items() if each.worsened]


@given(then=st.floats(0.01, 100), growth=st.floats(-0.99, 3))
def test_a_ratio_worsens_by_its_growth_alone(then: float, growth: float) -> None:
    """Whatever its size; around the limit rounding may decide."""
    worsened = Compared("any", then * (1 + growth), then).worsened

    assert worsened == (growth > WORSE) or abs(growth - WORSE) < 1e-9


def test_each_ratio_stands_beside_the_baseline() -> None:
    """A new one has nothing to be compared with, and is not worse for it."""
    compared = compare(baseline(old=3.0, new=9.0), baseline(old=2.0))

    assert [Compared("old", 3.0, 2.0), Compared("new", 9.0, None)] == compared
    assert [("old", "+50%"), ("new", "-")] == [(row["name"], row["change"]) for row in result(compared).rows]
    assert ["worse by more than 30%: old"] == list(result(compared).notes)
    assert ["none worse by more than 30%"] == list(result(compared[1:]).notes)


def test_what_cannot_be_compared_is_said() -> None:
    """A search of a million is another search, and a ratio must not vanish unseen."""
    with pytest.raises(ClientError, match=r"of 20,000 products, this catalogue has 1,000,000.*--update"):
        compare(baseline(products=1_000_000), baseline(products=20_000))
    with pytest.raises(ClientError, match=r"old was not measured.*--update"):
        compare(baseline(new=1.0), baseline(old=1.0))


def test_a_baseline_is_kept_to_three_digits(tmp_path: Path) -> None:
    """Written and read again; where there is none, the error tells how to set one."""
    path = tmp_path / "baseline.json"
    with pytest.raises(ClientError, match=r"baseline\.json.*--update"):
        load(path)

    save(baseline(a=1.23456), path)

    assert baseline(a=1.235) == load(path)


def test_the_projects_own_baseline_is_readable() -> None:
    """Every ratio is a positive number."""
    assert BASELINE.exists()
    assert all(ratio > 0 for ratio in load().ratios.values())
