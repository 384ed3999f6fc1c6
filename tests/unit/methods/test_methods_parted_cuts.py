"""Cuts of FeDepth that are kept on disk: worked out once, believed only where they are cuts."""

import pytest
from thin_models import blueprint

from neulite_sim.methods import parted_cuts
from neulite_sim.methods.parted_cuts import balanced_ends
from neulite_sim.profiling.kept_files import KeptFiles
from neulite_sim.scenario.schema import Training

PLAN, TRAINING = blueprint("resnet18", (1, 8, 8), width=0.0625), Training(batch_size=4)


@pytest.fixture
def worked(monkeypatch, tmp_path):
    """Each working-out, where the folder of what is kept is an empty one."""
    monkeypatch.setenv("NEULITE_SIM_CACHE", str(tmp_path / "kept"))
    found, worked_out = [], parted_cuts._worked_out
    monkeypatch.setattr(parted_cuts, "_worked_out", lambda *given: (found.append(given), worked_out(*given))[1])
    return found


def test_a_cut_is_worked_out_once(worked, tmp_path):
    first = balanced_ends(PLAN, TRAINING)
    assert [len(row) for row in first] == [1, 2, 3, 4]
    assert balanced_ends(PLAN, TRAINING) == first
    assert len(worked) == 1
    assert balanced_ends(PLAN, Training(batch_size=5)) is not None
    assert len(worked) == 2
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_nothing_is_kept_where_that_is_off(worked, monkeypatch):
    monkeypatch.setenv("NEULITE_SIM_CACHE", "off")
    assert balanced_ends(PLAN, TRAINING) == balanced_ends(PLAN, TRAINING)
    assert len(worked) == 2


@pytest.mark.parametrize("content", [
    None, [], "text", [[1, 2]], [[4], [2, 4], [1, 2, 4]], [[4], [2, 4], [2, 1, 4], [1, 2, 3, 4]],
    [[4], [0, 4], [1, 2, 4], [1, 2, 3, 4]], [[4], [2, 5], [1, 2, 4], [1, 2, 3, 4]], [[4.5]], {"4": 4},
])  # fmt: skip
def test_what_is_no_cut_is_worked_out_again(content, worked, tmp_path):
    wanted = balanced_ends(PLAN, TRAINING)
    (path,) = (tmp_path / "kept").iterdir()
    KeptFiles(tmp_path / "kept").put(path.stem, content)
    assert balanced_ends(PLAN, TRAINING) == wanted
    assert len(worked) == 2
    assert balanced_ends(PLAN, TRAINING) == wanted
    assert len(worked) == 2
