"""`device`: the story of one device, of runs in every state."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_scenarios import WAVES
from typer.testing import CliRunner, Result

from neulite_sim import cli
from neulite_sim.engine.simulation import simulate
from neulite_sim.results.rows import RoundRow
from neulite_sim.scenario.loading import parse_scenario

WEAK, OFFLINE = 0, 3
"""A device that is too small, and one that is never there."""


class BrokenError(Exception):
    pass


class BreakAfter:
    def __init__(self, last: int) -> None:
        self._last = last

    def notify(self, event: object) -> None:
        if isinstance(event, RoundRow) and event.round == self._last:
            raise BrokenError


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    trace = tmp_path_factory.mktemp("trace") / "online.csv"
    lines = [f"{device},0,1000" for device in range(6) if device != OFFLINE] + [f"{OFFLINE},900,1000"]
    trace.write_text("\n".join(["device,start_s,end_s", *sorted(lines)]) + "\n")
    population = {
        **WAVES["population"],
        "devices": 6,
        "available_memory": {"kind": "explicit", "values": ["2.5MB", *["2.8MB"] * 5]},
        "availability": {"kind": "trace", "path": str(trace)},
    }
    return parse_scenario({**WAVES, "population": population, "backend": "dry-run"})


@pytest.fixture(scope="module")
def run_dir(scenario, tmp_path_factory) -> Path:
    return simulate(scenario, out=tmp_path_factory.mktemp("stories") / "run").run_dir


def ran(*arguments: object, width: int = 80) -> Result:
    return CliRunner().invoke(
        cli.app, ["device", *map(str, arguments)], prog_name="neulite-sim", env={"COLUMNS": str(width)}
    )


def story(*arguments: object) -> str:
    done = ran(*arguments)
    assert done.exit_code == 0, done.output
    return re.sub(r"\s+", " ", done.stdout)


def answer(*arguments: object):
    done = ran(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_device_that_is_too_small_is_told_what_it_lacked(run_dir):
    text, found = story(run_dir, WEAK), answer(run_dir, WEAK)
    needed = {item["submodel"]: item["needed_memory_bytes"] for item in found["submodels"]}
    assert found["row"]["shortfall_bytes"] == min(needed.values()) - 2_500_000
    assert "neulite's stage-1 needs 2.615 MB; it had 2.5 MB: 115.3 kB short." in text
    assert "Of 6 rounds it was offered work in 0 and denied it in 6. not enough memory in 6 rounds: rounds 1-6" in text
    assert "It never flew" in text
    assert "why it did not take part" in text
    assert "Memory: 109.2 kB more (2.609 MB in all) for stage-2, the submodel that needs least. Or training with less: training.fit: auto" in text  # fmt: skip


def test_a_device_that_is_offline_is_told_so(run_dir):
    text = story(run_dir, OFFLINE)
    assert "offline in 6 rounds: rounds 1-6" in text
    assert "It was online 0 % of the time, never online." in text
    assert "More time online: it was offline in 100 % of the rounds" in text
    assert "Memory:" not in text


def test_a_device_that_took_part_is_told_when(run_dir):
    device = next(row["device"] for row in map(json.loads, _rows(run_dir)) if row["arrived"])
    text, found = story(run_dir, device), answer(run_dir, device)
    assert "how it took part" in text
    assert f"It flew {len(found['flights'])} times: " in text or "It flew 1 time: 1 arrived, 0 did not." in text
    assert "# flight that arrived" in text
    assert "its flights flight round submodel left took needed outcome" in text


def _rows(run_dir):
    from neulite_sim.results.memory import read_devices

    return [json.dumps(row) for row in read_devices(run_dir)]


def test_json_says_the_same_as_the_words(run_dir):
    found = answer(run_dir, WEAK)
    text = story(run_dir, WEAK)
    for chapter in found["story"]:
        assert chapter["title"] in text
        assert all(line in text for line in chapter["lines"])
    assert found["denials"] == [
        {"round": number, "reason": "not enough memory", "submodel": f"stage-{2 - number % 2}",
         "shortfall_bytes": {1: 115_324, 0: 109_232}[number % 2]} for number in range(1, 7)
    ]  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 140])
def test_lines_keep_to_the_width_and_words_stay_whole(run_dir, width):
    for device in range(6):
        lines = ran(run_dir, device, width=width).stdout.splitlines()
        assert max(len(line) for line in lines if str(run_dir) not in line) <= width
        assert not any(line.endswith(("-", "nee")) for line in lines if line.startswith("  "))


def test_an_interrupted_run_tells_what_was_counted_until_then(scenario, tmp_path):
    with pytest.raises(BrokenError):
        simulate(scenario, out=tmp_path / "run", observers=[BreakAfter(3)])
    text = story(tmp_path / "run", WEAK)
    assert "cut off or still going on" in text
    assert "The run was cut off: all is as it was then." in text
    assert "not enough memory in 3 rounds: rounds 1-3" in text


def test_a_run_that_was_killed_tells_who_the_device_is_and_what_it_did(scenario, tmp_path, monkeypatch):
    monkeypatch.setattr("neulite_sim.engine.device_file.DeviceFile.rescue", lambda _: None)
    with pytest.raises(BrokenError):
        simulate(scenario, out=tmp_path / "run", observers=[BreakAfter(3)])
    text, found = story(tmp_path / "run", WEAK), answer(tmp_path / "run", WEAK)
    assert "neulite's stage-1 needs 2.615 MB; it had 2.5 MB: 115.3 kB short." in text
    assert "rounds in which it was denied work are counted when a run ends" in text
    assert found["denials"] is None
    assert found["row"]["denied_rounds"] is None


def test_a_folder_of_an_older_version_says_what_is_missing(run_dir, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(run_dir, old)
    (old / "devices.csv").unlink()
    (old / "SHA256SUMS").write_text("".join(line for line in (old / "SHA256SUMS").read_text().splitlines(keepends=True) if "devices" not in line))  # fmt: skip
    text = story(old, WEAK)
    assert "The folder has no devices.csv (an older version made it)" in text
    assert "As its scenario draws it, it is a" in text
    assert answer(old, WEAK)["row"] is None


@pytest.mark.parametrize("device", [6, 99])
def test_a_device_beyond_the_fleet_is_refused_with_the_range(run_dir, device):
    done = ran(run_dir, device)
    assert done.exit_code == 2
    assert f"DEVICE: {device} is no device of {run_dir}, which has 6; name one from 0 to 5" in done.stderr


def test_a_negative_device_is_refused_with_the_range(run_dir):
    done = ran(run_dir, "--", -1)
    assert done.exit_code == 2
    assert "name one from 0 to 5" in done.stderr


def test_a_changed_table_is_named(run_dir, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(run_dir, changed)
    (changed / "devices.csv").write_text((changed / "devices.csv").read_text().replace("jetson", "mouse"))
    done = ran(changed, WEAK)
    assert done.exit_code == 2
    assert "devices.csv: is not what SHA256SUMS beside it says" in done.stderr


def test_a_folder_that_holds_no_run_is_refused(tmp_path):
    done = ran(tmp_path, 0)
    assert done.exit_code == 2
    assert "is no run folder and holds none (no scenario.yaml in it)" in done.stderr


def test_a_story_needs_no_torch(run_dir):
    code = (
        f"import sys; sys.argv = ['neulite-sim', 'device', {str(run_dir)!r}, '0']; from neulite_sim.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code in (0, None), end.code\n"
        "heavy = {'torch', 'ray', 'sklearn', 'pandas', 'pyarrow', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    root = Path(cli.__file__).parent.parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, stdout=subprocess.DEVNULL, timeout=120)
