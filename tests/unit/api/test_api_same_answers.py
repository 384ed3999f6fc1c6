"""A function returns what the command prints: as text, as JSON, as CSV, as a page and as a figure."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from stored_runs import write_run
from tiny_scenarios import TINY, WAVES
from typer.testing import CliRunner
from whatif_fleet import written_profiles

import neulite_sim
from neulite_sim.api.result import Result
from neulite_sim.cli import app
from neulite_sim.errors import RunsFailedError

pytestmark = pytest.mark.usefixtures("shared_profiles")

WAVY: dict[str, Any] = {**WAVES, "stop": {"rounds": 2}}
GRID = {"method": ["fedavg", {"kind": "fedavg", "memory_limit": False}], "seed": [3, 4]}
SWEEP = {"scenario": "tiny.yaml", "grid": {"method": GRID["method"]}, "seeds": GRID["seed"]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("waves.yaml").write_text(yaml.safe_dump(WAVY))
    Path("tiny.yaml").write_text(yaml.safe_dump({**TINY, "stop": {"rounds": 1}}))
    return tmp_path


@pytest.fixture
def runs(folder: Path) -> Path:
    for seed in (1, 2):
        for name, method, more in (("a", "fedavg", 0.0), ("b", "heterofl", 0.1)):
            curve = [(10.0 * seed, 0.5 + more + 0.1 * seed), (30.0, 0.6 + more)]
            write_run(Path(f"runs/{name}-{seed}"), curve, f"seed={seed}", f"method={method}")
    return folder / "runs"


@pytest.fixture
def made_up() -> Iterator[None]:
    """Let studies take profiles that somebody wrote down: nothing is profiled."""
    with written_profiles():
        yield


def printed(*arguments: str, exit_code: int = 0) -> str:
    found = CliRunner().invoke(app, list(arguments), prog_name="neulite-sim")
    assert found.exit_code == exit_code, found.output
    return found.stdout


def flat(rows: Result) -> list[dict[str, str]]:
    """Return the data frame of a result as texts, as a CSV file has them."""
    text = io.StringIO()
    rows.frame().to_csv(text, index=False)
    return list(csv.DictReader(io.StringIO(text.getvalue())))


@pytest.mark.parametrize(
    "overrides",
    [(), ("training.fit={kind: auto, micro_batch_sizes: [4], checkpointing: never}",), ("allocator=caching",)],
)
def test_a_profile_is_what_the_command_prints(overrides: tuple[str, ...]) -> None:
    settings = [part for text in overrides for part in ("--set", text)]
    found = neulite_sim.profile("waves.yaml", overrides=overrides)
    assert f"{found}\n" == printed("profile", "waves.yaml", *settings)
    assert found.to_json() == json.loads(printed("profile", "waves.yaml", *settings, "--json"))
    assert list(found.rows) == found.to_json()["submodels"]


def test_a_profile_takes_a_path_a_mapping_or_a_scenario_and_settings_in_any_form() -> None:
    wanted = neulite_sim.profile("waves.yaml", overrides=["method=fedavg"], seed=7).to_json()
    scenario = neulite_sim.load_scenario(Path("waves.yaml"))
    assert neulite_sim.profile(WAVY, overrides={"method.kind": "fedavg"}, seed=7).to_json() == wanted
    assert neulite_sim.profile(scenario, overrides={"method": {"kind": "fedavg"}}, seed=7).to_json() == wanted
    assert neulite_sim.profile(Path("waves.yaml"), overrides={"method": "fedavg", "seed": 7}).to_json() == wanted


WHATIF = [
    (("--memory", "2MB,3MB"), {"memory": ["2MB", 3_000_000]}),
    (("--scale-memory", "0.5,1", "--details"), {"scale_memory": (0.5, 1), "details": True}),
    (("--cap-memory", "2.5MB", "--batch-sizes", "4,32", "--fit", "none,auto"),
     {"cap_memory": "2.5MB", "batch_sizes": [4, 32], "fit": ["none", "auto"]}),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("options", "arguments"), WHATIF, ids=["memory", "scale", "cap"])
@pytest.mark.usefixtures("made_up")
def test_a_study_is_what_the_command_prints(options: tuple[str, ...], arguments: dict[str, Any]) -> None:
    methods = "neulite,{kind: fedavg, memory_limit: false}"
    as_list = ["neulite", {"kind": "fedavg", "memory_limit": False}]
    found = neulite_sim.whatif("waves.yaml", methods=as_list, **arguments)
    assert f"{found}\n" == printed("whatif", "waves.yaml", "--methods", methods, *options)
    answered = json.loads(printed("whatif", "waves.yaml", "--methods", methods, *options, "--json"))
    assert found.to_json() == {**answered, "command": ""}
    rows = list(
        csv.DictReader(io.StringIO(printed("whatif", "waves.yaml", "--methods", methods, *options, "--csv", "-")))
    )
    assert [row["variant"] for row in flat(found)] == [row["variant"] for row in rows]
    assert list(found.frame().columns) == list(rows[0])


@pytest.mark.slow
@pytest.mark.usefixtures("made_up")
def test_a_study_as_a_page_and_a_figure_is_that_of_the_commands() -> None:
    found = neulite_sim.whatif("waves.yaml", methods="neulite,fedavg", memory="2MB,3MB")
    found.to_json("waves-whatif.json")
    printed("report", "waves-whatif.json", "--out", "report.html")
    assert found.to_html("page.html") == Path("report.html").read_text() == Path("page.html").read_text()
    printed("whatif", "waves.yaml", "--methods", "neulite,fedavg", "--memory", "2MB,3MB", "--plot", "command.svg")
    found.plot("function.svg")
    assert Path("function.svg").read_text() == Path("command.svg").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ((), {}),
        (("--group",), {"group": True}),
        (("--baseline", "fedavg", "--interval", "bca"), {"baseline": "fedavg", "interval": "bca"}),
        (("--view", "cost-to-target", "--target", "0.6"), {"view": "cost-to-target", "target": 0.6}),
        (("--view", "quality-under-budget", "--budget", "time=20s,memory=3MB"),
         {"view": "quality-under-budget", "budget": {"time": "20s", "memory": "3MB"}}),
    ],
    ids=["plain", "group", "baseline", "cost", "quality"],
)  # fmt: skip
def test_a_comparison_is_what_the_command_prints(options: tuple[str, ...], arguments: dict[str, Any]) -> None:
    found = neulite_sim.compare("runs", **arguments)
    assert f"{found}\n" == printed("compare", "runs", *options)
    assert found.to_json() == json.loads(printed("compare", "runs", *options, "--json"))
    rows = list(csv.DictReader(io.StringIO(printed("compare", "runs", *options, "--csv", "-"))))
    assert list(found.frame().columns) == list(rows[0])
    printed("compare", "runs", *options, "--plot", "command.svg", "--style", "paper")
    found.plot("function.svg", style="paper")
    assert Path("function.svg").read_text() == Path("command.svg").read_text()


@pytest.mark.usefixtures("runs")
def test_a_comparison_as_a_page_is_the_report_of_its_runs() -> None:
    folders = sorted(map(str, Path("runs").iterdir()))
    printed("report", *folders, "--baseline", "fedavg")
    assert neulite_sim.compare("runs/*", baseline="fedavg").to_html() == Path("report.html").read_text()
    printed("report", "runs/a-1")
    assert neulite_sim.compare("runs/a-1").to_html() == Path("report.html").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("forked_sweeps")
def test_a_sweep_is_what_the_command_prints_and_each_finds_the_runs_of_the_other() -> None:
    Path("sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    found = neulite_sim.sweep("tiny.yaml", GRID, out="runs/tiny", jobs=2)
    assert not found.failed
    names = ["tiny-fedavg-3", "tiny-fedavg-4", "tiny-fedavg-memory_limit-false-3", "tiny-fedavg-memory_limit-false-4"]
    assert [run.name for run in found.planned] == names
    command = ("sweep", "sweep.yaml", "--out", "runs/tiny")
    assert printed(*command) == f"nothing to run in runs/tiny: all 4 finished before\n\n{found}\n"
    assert found.to_json() == json.loads(printed(*command, "--json"))
    assert [run.summary["seed"] for run in found.runs] == [3, 4, 3, 4]
    assert [row["run"] for row in found.compare(group=False).rows] == names


@pytest.mark.slow
@pytest.mark.usefixtures("forked_sweeps")
def test_runs_that_fail_are_told_as_by_the_command_and_the_others_are_there() -> None:
    """A logistic model cannot be made thinner."""
    how = {"grid": {"method": ["fedavg", "heterofl"]}, "out": "runs/tiny", "jobs": 2}
    with pytest.raises(RunsFailedError, match=r"^1 of 2 runs failed: tiny-heterofl-3\n") as caught:
        neulite_sim.sweep("tiny.yaml", **how)
    answered = json.loads(
        printed("sweep", "tiny.yaml", "--grid", "method=fedavg,heterofl", "--out", "runs/tiny", "--json", exit_code=1)
    )
    error = caught.value
    assert {"kind": error.kind, "message": str(error), "hint": error.hint, **error.details()} == answered["error"]
    assert error.result.to_json() == {"rows": answered["rows"]}
    assert [row["run"] for row in error.result.rows] == ["tiny-fedavg"]
    assert "no width makes it thinner" in "".join(error.__notes__)
    unchecked = neulite_sim.sweep("tiny.yaml", **how, check=False)
    assert [ended.run.name for ended in unchecked.failed] == ["tiny-heterofl-3"]


@pytest.mark.slow
@pytest.mark.usefixtures("forked_sweeps")
def test_a_sweep_over_plain_values_gives_the_runs_of_the_file() -> None:
    values = {**TINY, "stop": {"rounds": 1}}
    scenario = neulite_sim.load_scenario("tiny.yaml")
    grid = {"training.epochs": [1, 2]}
    found = [
        neulite_sim.sweep(source, grid, out=f"runs/{place}", jobs=1)
        for place, source in enumerate(("tiny.yaml", values, scenario))
    ]
    digests = [[run.summary["digest"] for run in each.runs] for each in found]
    assert digests[0] == digests[1] == digests[2]
    assert len(set(digests[0])) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("forked_sweeps")
def test_a_study_that_trains_is_that_of_the_command() -> None:
    how = {"memory": "15MB", "methods": "fedavg", "out": "runs/study", "jobs": 1}
    found = neulite_sim.whatif("tiny.yaml", train=True, **how)
    command = (
        "whatif",
        "tiny.yaml",
        "--memory",
        "15MB",
        "--methods",
        "fedavg",
        "--train",
        "--out",
        "runs/study",
        "--json",
    )
    assert found.to_json() == {**json.loads(printed(*command)), "command": ""}
    assert found.rows[0]["tail_accuracy"] > 0


def test_resume_ends_as_the_command_does_and_a_finished_run_is_read_back() -> None:
    whole = neulite_sim.simulate(neulite_sim.load_scenario("tiny.yaml", ["stop.rounds=3"]), out="whole")
    for name in ("function", "command"):
        with pytest.raises(KeyboardInterrupt):
            neulite_sim.simulate(
                neulite_sim.load_scenario("tiny.yaml", ["stop.rounds=3", "checkpoint.every_rounds=1"]), out=name,
                observers=[Stopper(after=2)],
            )  # fmt: skip
    resumed = neulite_sim.resume("function", backend="inprocess")
    answered = json.loads(printed("resume", "command", "--json"))
    assert resumed.summary["digest"] == answered["digest"] == whole.summary["digest"]
    again = neulite_sim.load_run("function")
    assert (again.summary, again.run_dir) == (resumed.summary, Path("function"))
    assert again.rounds == resumed.rounds
    assert again.scenario == resumed.scenario


class Stopper:
    """Interrupts a run as Ctrl-C does, once so many rounds are written."""

    def __init__(self, after: int) -> None:
        self.after = after

    def notify(self, event: object) -> None:
        if type(event).__name__ == "RoundRow" and event.round == self.after:
            raise KeyboardInterrupt


def test_a_result_is_shown_and_drawn(folder: Path) -> None:
    found = neulite_sim.profile("waves.yaml")
    html = found._repr_html_()
    assert html.count("<table>") == 2
    assert re.findall("<tr>", html)
    assert repr(found).startswith("<ProfileResult: waves: neulite on lenet")
    assert "<html" in found.to_html()
    figure = found.plot("profile.svg", labels={"full": "the whole model"}, title="costs")
    assert "the whole model" in Path("profile.svg").read_text()
    assert figure._repr_png_().startswith(b"\x89PNG")
