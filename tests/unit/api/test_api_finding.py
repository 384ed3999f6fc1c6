"""Runs as `compare` takes them: folders, patterns, results with a folder and results in memory; what is no run."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from stored_runs import write_run
from tiny_scenarios import tiny

import neulite_sim
from neulite_sim.errors import DataNotFoundError, ScenarioError

pytestmark = pytest.mark.usefixtures("shared_profiles")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(found: neulite_sim.api.compare.ComparisonResult) -> list[str]:
    return [row["run"] for row in found.rows]


def test_runs_are_folders_patterns_or_results_each_once() -> None:
    for name in ("a-1", "a-2", "b-1"):
        write_run(Path("runs", name), ((10.0, 0.5),), f"seed={name[-1]}")
    kept = neulite_sim.load_run("runs/b-1")
    assert names(neulite_sim.compare("runs/a-*")) == ["a-1", "a-2"]
    assert names(neulite_sim.compare([kept, "runs/a-?", Path("runs")])) == ["b-1", "a-1", "a-2"]
    assert names(neulite_sim.compare(kept)) == ["b-1"]


def test_a_run_in_memory_stands_beside_the_same_run_from_its_folder() -> None:
    scenario = tiny("stop.rounds=2", "seed=9")
    in_memory = neulite_sim.simulate(scenario)
    on_disk = neulite_sim.simulate(scenario, out="runs/tiny-9")
    found = neulite_sim.compare([in_memory, on_disk])
    first, second = ({k: v for k, v in row.items() if k not in ("run", "run_dir", "wall_time_s")} for row in found.rows)
    assert first == second
    for name in ("rounds.csv", "flights.csv", "denials.csv", "devices.csv"):
        copy, own = (Path(row["run_dir"], name).read_text() for row in found.rows)
        without = [line for line in copy.splitlines() if name != "rounds.csv"]
        assert without == [line for line in own.splitlines() if name != "rounds.csv"]
    assert "<html" in neulite_sim.compare(in_memory).to_html()
    assert found.plot().axes


@pytest.mark.slow
def test_copies_of_runs_in_memory_go_with_their_comparison() -> None:
    found = neulite_sim.compare(neulite_sim.simulate(tiny("stop.rounds=1")))
    place = Path(found.rows[0]["run_dir"])
    assert place.is_dir()
    del found
    gc.collect()
    assert not place.parent.exists()


def test_runs_that_lie_deeper_are_named_in_a_warning() -> None:
    write_run(Path("runs/a-1"))
    write_run(Path("runs/inner/b-1"))
    with pytest.warns(UserWarning, match="runs: 1 run lies deeper, such as runs/inner/b-1; name the folder around"):
        assert names(neulite_sim.compare("runs")) == ["a-1"]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ("nowhere", "nowhere: does not exist; name a folder that `neulite-sim run` wrote"),
        ("no/where*", r"no/where\*: matches no folder; name run folders, or give what simulate, sweep or resume"),
        ([], "no run was named; name run folders"),
        (3, "int is no run; name run folders, or give what"),
        (["nowhere", "no"], r"nowhere: does not exist; .*\nno: does not exist"),
    ],
)
def test_what_is_no_run_is_refused(runs: object, message: str) -> None:
    with pytest.raises(DataNotFoundError, match=f"^{message}"):
        neulite_sim.compare(runs)


def test_options_are_refused_as_by_the_command() -> None:
    write_run(Path("runs/a-1"))
    with pytest.raises(ScenarioError, match=r"^--view: 'speed' is none of quality-under-budget, cost-to-target"):
        neulite_sim.compare("runs", view="speed")
    with pytest.raises(ScenarioError, match=r"^--baseline: c is no group of these runs; name one of the groups: a-1$"):
        neulite_sim.compare("runs", baseline="c")
    found = neulite_sim.compare("runs")
    with pytest.raises(ScenarioError, match=r"^--label: 'c' is nothing in this figure; name one of: a-1$"):
        found.plot(labels={"c": "x"})
    with pytest.raises(ScenarioError, match=r"^--plot: 'a.gif' is none of .png, .svg, .pdf; call the figure"):
        found.plot("a.gif")


def test_a_run_is_read_back_only_where_it_is_finished() -> None:
    write_run(Path("runs/a-1"), is_complete=False)
    with pytest.raises(DataNotFoundError, match=r"^runs/a-1: this run was cut off, or still goes on; go on with it: "):
        neulite_sim.load_run("runs/a-1")
    with pytest.raises(
        DataNotFoundError, match=r"^runs: is no run folder, but holds 1; name one of the runs in it, such"
    ):
        neulite_sim.load_run("runs")
