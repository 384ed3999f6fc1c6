"""Values given from Python in profiles, studies and sweeps: the processes of runs have them, some at a time."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from broken_runs import BreakAfter, Broken
from tiny_scenarios import TINY, tiny

import neulite_sim
from neulite_sim import registry
from neulite_sim.api.sources import Chosen, source_of
from neulite_sim.api.sweep import planned_sweep
from neulite_sim.errors import NeuliteError, RunsFailedError, ScenarioError
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


@pytest.mark.slow
@pytest.mark.usefixtures("forked_sweeps")
def test_runs_of_a_sweep_have_what_was_given_also_two_at_a_time_and_where_one_was_cut_off(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same digests as in this process; the run that was cut off goes on with the same code."""
    monkeypatch.setattr(registry, "_REGISTERED", {})
    neulite_sim.register("method", "my-median", median)
    named = {**SHORT, "method": {"kind": "my-median"}}
    alone = [neulite_sim.simulate(named, method=method, selector=first_ones).summary for method in (None, Halved)]
    how = {"grid": {"method": ["my-median", Halved]}, "out": "runs", "jobs": 2, "selector": first_ones}
    found = neulite_sim.sweep(SHORT, **how)
    assert [run.name for run in found.planned] == ["tiny-my-median-3", "tiny-Halved-3"]
    assert [row["method"] for row in found.rows] == ["my-median", "Halved"]
    assert [run.summary["digest"] for run in found.runs] == [summary["digest"] for summary in alone]
    (folder / "runs" / "tiny-my-median-3" / "COMPLETE").unlink()
    again = neulite_sim.sweep(SHORT, **how)
    assert [run.summary["digest"] for run in again.runs] == [summary["digest"] for summary in alone]
    names = [".sweep", "scenarios", "tiny-Halved-3", "tiny-my-median-3"]
    assert sorted(path.name for path in (folder / "runs").iterdir()) == names
    assert [path.name for path in (folder / "runs" / ".sweep").iterdir()] == ["lock"]


@pytest.mark.slow
@pytest.mark.usefixtures("forked_sweeps")
def test_profiles_and_studies_are_those_of_what_was_given() -> None:
    assert neulite_sim.profile(SHORT, method=Halved).rows[0]["method"] == "Halved"
    study = neulite_sim.whatif(SHORT, memory="15MB", methods=[Halved], train=True, out="study")
    assert [(row["method"], row["variant"]) for row in study.rows] == [("Halved", "Halved")]
    assert study.rows[0]["tail_accuracy"] == neulite_sim.simulate(SHORT, method=Halved).summary["tail_accuracy"]
    own = neulite_sim.whatif(SHORT, memory="15MB", method=median)
    assert [row["method"] for row in own.rows][:2] == ["median", "fedavg"]


def test_options_that_all_components_of_a_field_have_stay_where_a_grid_chooses() -> None:
    scenario = {**SHORT, "selection": {"kind": "uniform", "devices_per_round": 2}}
    chosen = Chosen(scenario, {"selection.devices_per_round": 4})
    found = chosen.plain("selection", first_ones)
    assert (found["kind"], found["name"], found["devices_per_round"]) == ("given", "first_ones", 4)
    for bare in ({**SHORT, "selection": "uniform"}, {key: SHORT[key] for key in SHORT if key != "selection"}):
        assert Chosen(bare).plain("selection", first_ones).keys() == {"kind", "name", "sha256"}


def test_what_only_the_grid_says_need_not_stand_in_a_scenario_that_is_given_values(folder: Path) -> None:
    """Nor in a sweep file, whose scenario is given them."""
    bare = {key: SHORT[key] for key in SHORT if key not in ("method", "seed")}
    (folder / "bare.yaml").write_text(yaml.safe_dump(bare))
    (folder / "grid.yaml").write_text(yaml.safe_dump({"scenario": "bare.yaml", "grid": {"method": ["fedavg"]}}))
    for source, grid in ((bare, ["method=fedavg"]), ("bare.yaml", ["method=fedavg"]), ("grid.yaml", [])):
        planned = planned_sweep(source_of(source, {"selector": first_ones}), grid=grid, seeds=[3], out="runs")
        (run,) = planned.runs
        assert (run.scenario.method.kind, run.scenario.selection.label) == ("fedavg", "first_ones")
        assert run.scenario.selection.options.devices_per_round == 3


@pytest.mark.slow
def test_a_run_that_fails_in_given_code_says_in_which_line() -> None:
    with pytest.raises(RunsFailedError, match=r"test_integration_given_sweeps.py:\d+: ValueError: not today"):
        neulite_sim.sweep(SHORT, out="runs", method=failing)


@pytest.mark.slow
def test_a_run_is_gone_on_with_by_what_it_was_given_and_nothing_else() -> None:
    with pytest.raises(Broken):
        neulite_sim.simulate(
            {**SHORT, "stop": {"rounds": 3}, "checkpoint": {"every_rounds": 1}}, method=median, out="runs/cut",
            observers=[BreakAfter(2)],
        )  # fmt: skip
    gc.collect()
    with pytest.raises(
        ScenarioError, match=r"scenario\.yaml:\d+: method: was given from Python, and median is not here \(fingerprint "
    ):
        neulite_sim.resume("runs/cut")
    found = neulite_sim.resume("runs/cut", method=median)
    whole = neulite_sim.simulate({**SHORT, "stop": {"rounds": 3}}, method=median)
    assert found.summary["digest"] == whole.summary["digest"]


def test_only_a_nameless_file_of_the_same_user_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "named").open("wb") as file:
        monkeypatch.setenv(handing.VARIABLE, str(file.fileno()))
        with pytest.raises(
            NeuliteError, match=r"^NEULITE_SIM_GIVEN=\d+ is no file that a program of yours handed over"
        ):
            handing.take_over()
    monkeypatch.setenv(handing.VARIABLE, "99999")
    with pytest.raises(NeuliteError, match=r"^NEULITE_SIM_GIVEN=99999 is no file that a program of yours"):
        handing.take_over()
    monkeypatch.setenv(handing.VARIABLE, "nonsense")
    handing.take_over()
    assert handing.VARIABLE not in os.environ


def test_nothing_is_handed_over_where_nothing_was_given() -> None:
    assert handing.hand_over([tiny()]) is None
