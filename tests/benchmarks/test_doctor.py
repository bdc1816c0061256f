from pathlib import Path

import pytest

from benchmarks.doctor import run
from index.errors import SearchIndexError
from tests.helpers import small_featurizer
from tests.small_release import small_catalogue, small_release

MACHINE = {"cpu", "instruction sets", "cores", "CPU quota", "frequency", "clock", "huge pages", "waking a core"}
MACHINE |= {"system calls", "connections", "memory", "neighbours"}
SOFTWARE = {"versions", "faiss", "onnxruntime", "numpy", "threads", "OpenMP pools", "torch", "server"}
MEASURED = {"frequency", "clock", "huge pages", "waking a core", "system calls", "onnxruntime", "threads", "server"}


def test_the_doctor_looks_at_everything_and_says_what_it_costs(tmp_path: Path) -> None:
    """Without a service; the catalogue's index is compared with the memory. No figure of a machine is judged."""
    catalogue = small_catalogue(tmp_path, small_release(tmp_path, featurizer=small_featurizer()), factory="Flat")

    diagnosis = run(catalogue=catalogue)

    subjects = {finding.subject: finding for finding in diagnosis.findings}
    assert MACHINE | SOFTWARE == subjects.keys()
    assert all(subjects[subject].costs for subject in MEASURED)
    assert "the catalogue has" in subjects["memory"].found
    assert len(diagnosis.findings) == diagnosis.table().row_count


def test_a_quick_look_measures_nothing_but_the_neighbours() -> None:
    """And says so where a finding would be nothing else; whatever is slow comes with what to do."""
    diagnosis = run(quick=True)

    assert {"neighbours"} == {
        finding.subject for finding in diagnosis.findings if finding.costs and finding.subject != "CPU quota"
    }
    assert all((finding.slow is None) == (finding.remedy is None) for finding in diagnosis.findings)
    assert diagnosis.healthy == all(finding.slow is None for finding in diagnosis.findings)


def test_a_catalogue_that_is_none_is_an_error(tmp_path: Path) -> None:
    """Said with what to do."""
    with pytest.raises(SearchIndexError, match="que2search build"):
        run(quick=True, catalogue=tmp_path)
