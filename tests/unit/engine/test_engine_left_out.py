"""What a run leaves out is said: in its notices, in its provenance, by `validate`; and so is a run that learned nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from listeners import Listener
from PIL import Image
from tiny_scenarios import tiny
from typer.testing import CliRunner

from neulite_sim.cli import app
from neulite_sim.engine.simulation import simulate
from neulite_sim.results.summary import Tally
from neulite_sim.scenario.loading import dump_scenario
from neulite_sim.scenario.schema import Scenario

BACKEND = "backend=dry-run"


def told(scenario: Scenario, out: Path | None = None) -> list[str]:
    listener = Listener()
    simulate(scenario, out=out, observers=[listener])
    return listener.told


def brief(folder: Path) -> str:
    """Return the setting under which everybody is online too briefly for any flight."""
    (folder / "brief.csv").write_text("device,start_s,end_s\na,0,0.001\n")
    return f"population.availability={{kind: trace, path: '{folder / 'brief.csv'}', span: 1min}}"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes, a file that is none of their images, and a checkpoint folder."""
    root = tmp_path / "images"
    for part in ("train", "test"):
        for name in ("cat", "dog", ".ipynb_checkpoints"):
            (root / part / name).mkdir(parents=True)
            for number in range(6):
                Image.new("L", (8, 8), 40 * number).save(root / part / name / f"{number}.png")
    (root / "train" / "cat" / "list.txt").write_text("")
    return root


def test_what_a_dataset_leaves_out_stands_in_notices_provenance_and_validate(images: Path, tmp_path: Path) -> None:
    scenario = tiny(f"data={{kind: image-folder, root: {images}}}", BACKEND, "selection.devices_per_round=50")
    expected = [
        "selection.devices_per_round is 50, more than the fleet of 6: no more than these take part in a round",
        f"image-folder: 1 of 13 files in {images / 'train'} ignored: .txt",
        f"image-folder: hidden files and folders in {images / 'train'} left out: .ipynb_checkpoints",
        f"image-folder: hidden files and folders in {images / 'test'} left out: .ipynb_checkpoints",
    ]
    assert told(scenario, tmp_path / "run") == expected
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["left_out"] == expected
    (tmp_path / "a.yaml").write_text(dump_scenario(scenario))
    checked = CliRunner().invoke(app, ["validate", str(tmp_path / "a.yaml")])
    assert checked.stdout.splitlines()[1:] == [f"    ! {sentence}" for sentence in expected]
    checked = CliRunner().invoke(app, ["validate", str(tmp_path / "a.yaml"), "--json"])
    assert json.loads(checked.stdout)["scenarios"][0]["notes"] == expected


def test_validate_refuses_what_the_names_of_the_files_show_and_that_they_are_elsewhere(
    images: Path, tmp_path: Path
) -> None:
    scenario = tiny(f"data={{kind: image-folder, root: {images}}}", BACKEND)
    (tmp_path / "a.yaml").write_text(dump_scenario(scenario))
    for part in ("train", "test"):
        os.rename(images / part / "dog", images / part / ".dog")
    checked = CliRunner().invoke(app, ["validate", str(tmp_path / "a.yaml")])
    assert (checked.exit_code, checked.stdout) == (2, "")
    assert "train has one class, cat; a classifier needs two, a folder each" in checked.stderr
    os.rename(images, tmp_path / "elsewhere")
    gone = CliRunner().invoke(app, ["validate", str(tmp_path / "a.yaml")])
    assert (gone.exit_code, gone.stdout) == (2, "")
    assert "image-folder: there is no folder " in gone.stderr


def test_names_that_no_terminal_shows_are_escaped(images: Path, tmp_path: Path) -> None:
    os.mkdir(os.fsencode(images / "train" / "cat") + b"/.\xff")
    scenario = tiny(f"data={{kind: image-folder, root: {images}}}", BACKEND)
    sentences = told(scenario, tmp_path / "run")
    assert any(sentence.endswith(r"left out: .ipynb_checkpoints, .\udcff") for sentence in sentences)
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["left_out"] == sentences


def test_a_run_that_leaves_nothing_out_says_nothing(tmp_path: Path) -> None:
    assert told(tiny(BACKEND), tmp_path / "run") == []
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["left_out"] == []


def test_a_run_in_which_nothing_arrived_says_so_and_why(tmp_path: Path) -> None:
    scenario = tiny(BACKEND, brief(tmp_path), "stop.rounds=2")
    assert told(scenario)[-1] == "nothing was learned: none of 6 flights arrived (6 went offline during download)"


def test_a_run_that_was_over_before_anybody_came_online_says_so(tmp_path: Path) -> None:
    (tmp_path / "late.csv").write_text("device,start_s,end_s\na,3600,7200\n")
    trace = f"population.availability={{kind: trace, path: '{tmp_path / 'late.csv'}'}}"
    sentences = told(tiny(BACKEND, trace, "stop.virtual_time=1min"))
    assert sentences[-1] == "nothing was learned: no flight ever left"


def test_many_reasons_are_cut_short() -> None:
    tally = Tally([1])
    tally._dropped = 9
    tally._reasons.update({"a": 3, "b": 2, "c": 2, "d": 1, "e": 1})
    found = tally.nothing_learned()
    assert found == "nothing was learned: none of 9 flights arrived (3 a, 2 b and 2 c, 2 other reasons)"


def test_the_summary_says_whose_accuracy_it_is(tmp_path: Path) -> None:
    from neulite_sim.reports.lines import summary_text

    scenario = tiny(brief(tmp_path), "stop.rounds=1")
    shown = summary_text(simulate(scenario).summary)
    assert "best (of the model as it began: nothing arrived)" in shown
