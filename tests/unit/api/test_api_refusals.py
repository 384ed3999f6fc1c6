"""What functions refuse, and in which words: options as the command does, and what only Python can get wrong."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_scenarios import TINY, tiny

import neulite_sim
from neulite_sim.api.finding import paths_of
from neulite_sim.api.profile import ProfileResult
from neulite_sim.api.running import telling_of
from neulite_sim.api.sources import Chosen
from neulite_sim.api.sweep import grid_texts
from neulite_sim.engine.run_result import RunResult
from neulite_sim.errors import DataNotFoundError, NeuliteError, ScenarioError
from neulite_sim.reports import plot_options
from neulite_sim.reports.table import TextTable
from neulite_sim.reports.table_html import tables_html
from neulite_sim.scenario.sources import scenario_from, setting_texts
from neulite_sim.training.carrying import packed


def nothing(*arguments: Any) -> None:
    del arguments


@pytest.mark.parametrize(
    ("grid", "seeds", "message"),
    [
        ({"seed": [1, 2]}, 3, "--seeds: seed: is varied by grid and by seeds; name them in one of the two"),
        ({"method": "fedavg"}, None, "--grid: method: must be a list of values, found 'fedavg'"),
        ({"stop.rounds": 3}, None, "--grid: stop.rounds: must be a list of values, found 3"),
        ({"stop.rounds": [{3}]}, None, "--set: stop.rounds: set is no plain value; give texts, numbers, true or false"),
        ({"seed": [1, 1]}, None, "--seeds: seeds: names 1 twice; remove one"),
        ({"method": []}, None, "--grid: method: has no values; write at least one"),
        ({"name": ["a"]}, None, "--grid: name: names the runs together with what varies; set it instead"),
    ],
)
def test_a_grid_that_is_none_is_refused(grid: Any, seeds: Any, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        neulite_sim.sweep(TINY, grid, seeds=seeds)
    assert message in str(caught.value)


@pytest.mark.parametrize("jobs", [0, -1, 1.5])
def test_runs_at_a_time_are_a_number(jobs: Any) -> None:
    with pytest.raises(ScenarioError, match=rf"^--jobs: must be at least 1, found {jobs}$"):
        neulite_sim.sweep(TINY, jobs=jobs)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"memory": [1], "cap_memory": 2}, "found --memory and --cap-memory"),
        ({"memory": ["12 apples"]}, "--memory: "),
        ({"memory": [0]}, "--memory: '0' is not above zero; leave it out"),
        ({"scale_memory": [1, 1.0]}, "--scale-memory: '1.0' is given twice; remove one"),
        ({"memory": 1, "micro_batch": [2.5]}, "--micro-batch: '2.5' is not a whole number of samples; write for"),
        ({"memory": 1, "fit": ["auto", "best"]}, "--fit: must be none, auto or none,auto, found 'auto,best'"),
        ({"memory": 1, "jobs": 2}, "--jobs: acts only with --train, found 2; remove it, or add --train"),
        ({"memory": 1, "methods": ["fedavgg"]}, "--methods: method.kind: 'fedavgg' is not a known method"),
    ],
)
def test_a_study_is_refused_in_the_words_of_the_command(how: Any, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        neulite_sim.whatif(TINY, **how)
    assert message in str(caught.value)


def test_what_is_no_scenario_and_what_are_no_settings_are_errors_of_the_program() -> None:
    with pytest.raises(
        ScenarioError, match=r"^a scenario is wanted, found int; give a Scenario, the path of its file, or"
    ):
        scenario_from(3)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"^overrides are a list of key=value texts or a mapping, not one text: \['a=1'\]$"
    ):
        setting_texts("a=1")
    with pytest.raises(TypeError, match=r"^grid is a mapping, or a list of key=v1,v2 texts, not one text: \['a=1'\]$"):
        grid_texts("a=1", None, Chosen(TINY))
    with pytest.raises(TypeError, match=r"^nothing is given as 'modell'"):
        neulite_sim.profile(TINY, modell=nothing)  # type: ignore[call-arg]


def test_numbers_of_numpy_and_paths_are_plain_values() -> None:
    texts = setting_texts({"stop.rounds": np.int64(3), "data.root": Path("data"), "seed": np.arange(2)})
    assert texts == ["stop.rounds=3", 'data.root="data"', "seed=[0, 1]"]
    grid, seeds = grid_texts({"stop.rounds": np.arange(1, 3), "seed": range(2)}, None, Chosen(TINY))
    assert (grid, seeds) == (["stop.rounds=1,2"], [0, 1])


def test_a_scenario_that_is_there_is_taken_as_it_is() -> None:
    scenario = tiny()
    assert scenario_from(scenario) is scenario
    assert scenario_from(scenario, ["seed=9"]) == tiny("seed=9") == scenario_from(TINY, seed=9)


def test_what_cannot_be_sent_is_named_with_what_to_do() -> None:
    with pytest.raises(NeuliteError, match=r"^what was given from Python cannot be sent to the processes of the runs: .*; "
                       r"make such a value inside of the function that needs it$"):  # fmt: skip
        packed(threading.Lock(), [])


def test_a_run_in_memory_that_does_not_know_its_scenario_is_refused() -> None:
    with pytest.raises(DataNotFoundError, match=r"^this run in memory does not know its scenario; name run folders"):
        paths_of([RunResult(summary={}, run_dir=None)])


def test_a_figure_of_a_profile_names_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {
        "method": "fedavg", "submodel": "full", "is_reference": False, "model": "x", "batch_size": 2, "tensor_bytes": 9,
        "peak_memory_bytes": 10, "allocator_bytes": 10, "kept_bytes_per_sample": 0, "fits_share": 0.5,
        "memory_bytes": dict.fromkeys(("parameters", "gradients", "optimizer", "activations", "inputs", "temporaries"), 1),
        "plan": {"micro_batch_size": None, "checkpointing": False, "precision": "fp32"},
    }  # fmt: skip
    result = ProfileResult(content={"scenario": "s", "submodels": [entry]})
    with pytest.raises(ScenarioError, match=r"^--label: 'half' is nothing in this figure; name one of: full$"):
        result.plot(labels={"half": "x"})
    axes = result.plot(labels={"full": "all of it"}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["all of it"]
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(7)
    monkeypatch.setattr(plot_options.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        NeuliteError, match=r"^plot needs matplotlib; install it with: python -m pip install matplotlib$"
    ):
        result.plot()


def test_tables_are_html_in_which_no_text_is_a_tag() -> None:
    hostile = "<script>&\"'"
    page = tables_html([TextTable(title=hostile, headers=(hostile,), rows=((hostile,),), notes=(hostile,))])
    assert "<script" not in page
    assert page.count("&lt;script&gt;&amp;") == 4


def test_progress_of_runs_is_shown_only_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (None, False, True):
        with telling_of(progress)(2) as audience:
            audience.say(f"one, {progress}")
            audience.advance()
    assert capsys.readouterr() == ("", "one, True\n")
