"""Values given from Python in profiles, studies and sweeps: the processes of runs have them, some at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_scenarios import TINY, tiny

import neulite_sim
from neulite_sim.errors import NeuliteError, RunsFailedError
from neulite_sim.methods.fedavg import FedAvg
from neulite_sim.studies import handing

pytestmark = pytest.mark.usefixtures("shared_profiles")

SHORT = {**TINY, "stop": {"rounds": 1}}
SHIFT = 0.25


def median(current: Any, updates: Any) -> Any:
    names = updates[0].tensors
    return {
        name: torch.stack([update.tensors[name] for update in updates]).median(dim=0).values + SHIFT for name in names
    }


def failing(current: Any, updates: Any) -> Any:
    raise ValueError("not today")


def first_ones(offers: Any, count: int, rng: Any) -> Any:
    return range(min(count, len(offers)))


class Halved(FedAvg):
    def digest(self, state: Any, updates: Any) -> Any:
        new = super().digest(state, updates)
        half = {name: (state.tensors[name] + tensor) / 2 for name, tensor in new.tensors.items()}
        return type(new)(version=new.version, tensors=half)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_of_a_sweep_have_what_was_given_also_two_at_a_time_and_where_one_was_cut_off(folder: Path) -> None:
    """The same digests as in this process; the run that was cut off goes on with the same code."""
    own = {"method": median, "selector": first_ones}
    alone = [neulite_sim.simulate(SHORT | {"seed": seed}, **own).summary["digest"] for seed in (3, 4)]
    found = neulite_sim.sweep(SHORT, {"seed": [3, 4]}, out="runs", jobs=2, **own)
    assert [run.summary["digest"] for run in found.runs] == alone
    assert [run.summary["method"] for run in found.runs] == ["median", "median"]
    (folder / "runs" / "tiny-3" / "COMPLETE").unlink()
    again = neulite_sim.sweep(SHORT, {"seed": [3, 4]}, out="runs", jobs=2, **own)
    assert [run.summary["digest"] for run in again.runs] == alone
    assert sorted(path.name for path in (folder / "runs").iterdir()) == [".sweep", "scenarios", "tiny-3", "tiny-4"]


def test_profiles_and_studies_are_those_of_what_was_given() -> None:
    profile = neulite_sim.profile(SHORT, method=Halved)
    assert profile.rows[0]["method"] == "Halved"
    study = neulite_sim.whatif(SHORT, memory="15MB", methods=[Halved, "fedavg"], train=True, jobs=2, out="study")
    assert [(row["method"], row["variant"]) for row in study.rows] == [("Halved", "Halved"), ("fedavg", "fedavg")]
    halved, plain = (row["tail_accuracy"] for row in study.rows)
    assert plain > halved > 0


def test_a_grid_takes_values_too() -> None:
    found = neulite_sim.sweep(SHORT, {"method": ["fedavg", median, Halved]}, out="runs", jobs=2)
    assert [run.name for run in found.planned] == ["tiny-fedavg-3", "tiny-median-3", "tiny-Halved-3"]
    assert [row["method"] for row in found.rows] == ["fedavg", "median", "Halved"]


def test_a_run_that_fails_in_given_code_says_in_which_line() -> None:
    with pytest.raises(RunsFailedError, match=r"test_integration_given_sweeps.py:\d+: ValueError: not today"):
        neulite_sim.sweep(SHORT, out="runs", method=failing)


def test_only_a_nameless_file_of_the_same_user_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "named").open("wb") as file:
        monkeypatch.setenv(handing.VARIABLE, str(file.fileno()))
        with pytest.raises(NeuliteError, match=r"^NEULITE_SIM_GIVEN=\d+ is no file that a program of yours handed over"):
            handing.take_over()
    monkeypatch.setenv(handing.VARIABLE, "99999")
    with pytest.raises(NeuliteError, match=r"^NEULITE_SIM_GIVEN=99999 is no file that a program of yours"):
        handing.take_over()
    monkeypatch.setenv(handing.VARIABLE, "nonsense")
    handing.take_over()
    assert handing.VARIABLE not in os.environ


def test_nothing_is_handed_over_where_nothing_was_given() -> None:
    assert handing.hand_over([tiny()]) is None
