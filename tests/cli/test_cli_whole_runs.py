"""Every command that reads a complete run, against each of its files: the same answer, or a refusal that names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tiny_scenarios import waves
from typer.testing import CliRunner, Result

import neulite_sim
from neulite_sim.cli import app
from neulite_sim.errors import DataNotFoundError
from neulite_sim.results.places import OWN_FILES, SUMS
from neulite_sim.scenario.loading import dump_scenario

pytest.importorskip("pyarrow")

IDENTITY = frozenset({"scenario.yaml", "provenance.json", "summary.json", "COMPLETE"})
"""What says which run it is and what came of it."""
CURVES, FLIGHTS, DENIALS, DEVICES = "rounds.csv", "flights.csv", "denials.csv", "devices.csv"
WRITTEN = sorted({*IDENTITY, CURVES, FLIGHTS, DENIALS, DEVICES, "diagnostics.csv", "timeline.json.gz", "audit.json",
                  "model.safetensors"})  # fmt: skip
COMMANDS: Mapping[str, tuple[str, frozenset[str]]] = {
    "compare": ("compare run", frozenset({CURVES})),
    "compare, a figure": ("compare run --plot out.svg", frozenset({CURVES})),
    "cost to a target": ("compare run --view cost-to-target --target 0.01", frozenset({CURVES, FLIGHTS})),
    "within a budget": ("compare run --view quality-under-budget --budget energy=1GJ", frozenset({CURVES, FLIGHTS})),
    "timeline": ("timeline run", frozenset({CURVES, FLIGHTS, "timeline.json.gz"})),
    "timeline anew": ("timeline run --trace out.json.gz", frozenset({CURVES, FLIGHTS})),
    "device": ("device run 1", frozenset({CURVES, FLIGHTS, DENIALS, DEVICES})),
    "report": ("report run --out out.html", frozenset({CURVES, FLIGHTS, DENIALS, DEVICES})),
    "report of two": ("report run other --out out.html", frozenset({CURVES, DEVICES})),
    "export": ("export run --to parquet --out out", frozenset(WRITTEN)),
}
"""The line of each command, and what it reads beside the identity of the run."""


def ran(line: str) -> Result:
    return CliRunner().invoke(app, line.split(), prog_name="neulite-sim")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run with every kind of file."""
    folder = tmp_path_factory.mktemp("whole")
    scenario = waves("stop.rounds=2", "evaluation={every_rounds: 1, diagnostics: [nhsic_plane]}")
    (folder / "a.yaml").write_text(dump_scenario(scenario))
    found = ran(f"run {folder / 'a.yaml'} --out {folder / 'run'} --audit --quiet")
    assert found.exit_code == 0, found.stderr
    assert {name for name in OWN_FILES if (folder / "run" / name).exists()} == {*WRITTEN, SUMS}
    return folder / "run"


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("run", "other"):
        shutil.copytree(whole, name)
    return tmp_path


def removed(path: Path) -> None:
    path.unlink()


def changed(path: Path) -> None:
    """Change one byte in the middle: of a text its last digit before that."""
    content = bytearray(path.read_bytes())
    digits = [place for place in range(len(content) // 2 + 1) if content[place] in b"012345678"]
    place = digits[-1] if digits else len(content) // 2
    content[place] += 1 if digits else -content[place] % 256 or 1
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = (removed, changed, cut)


def answer_of(line: str) -> tuple[int, str, bytes]:
    """Return how a command ended, what it printed, and what it wrote; no text of it tells when."""
    for path in Path().glob("out*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = ran(line)
    files = [path for path in sorted(Path().glob("out*")) if path.is_file()]
    return found.exit_code, found.stdout, b"".join(path.read_bytes() for path in files)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_gives_the_same_answer_or_refuses_the_file_by_its_name(command: str, name: str, folder: Path) -> None:
    line, read = COMMANDS[command]
    before = answer_of(line)
    assert before[0] == 0
    for damage in DAMAGES:
        path = Path("run") / name
        content = path.read_bytes()
        damage(path)
        if (damage, name) == (removed, "COMPLETE"):
            # Nothing tells that the run ever ended: it counts as one that was cut off.
            assert ran(line).exit_code == 0
        elif name in IDENTITY | read:
            found = ran(line)
            assert (found.exit_code, name in found.stderr) == (2, True), (damage.__name__, found.output)
        else:
            assert answer_of(line) == before, damage.__name__
        path.write_bytes(content)


@pytest.mark.parametrize("command", COMMANDS)
def test_sums_that_are_gone_are_named_and_sums_of_which_some_are_lost_never_change_an_answer(
    command: str, folder: Path
) -> None:
    line, _ = COMMANDS[command]
    before = answer_of(line)
    sums = folder / "run" / SUMS
    lines = sums.read_text().splitlines(keepends=True)
    for left in range(len(lines)):
        sums.write_text("".join(lines[:left]))
        after = answer_of(line)
        assert after == before or after[0] == 2
    sums.unlink()
    found = ran(line)
    assert (found.exit_code, f"run/{SUMS}: is gone" in found.stderr) == (2, True)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_list_calls_a_run_damaged_whose_small_file_was_changed_or_of_which_any_is_gone(
    name: str, folder: Path
) -> None:
    for damage in DAMAGES:
        content = (folder / "run" / name).read_bytes()
        damage(folder / "run" / name)
        runs = {row["run"]: row for row in json.loads(ran("runs . --json").stdout)["runs"]}
        is_seen = damage is removed or name in IDENTITY
        wanted = ("damaged", True, None) if is_seen else ("complete", False, 2)
        if (damage, name) == (removed, "COMPLETE"):
            wanted = ("resumable", False, 2)
        found = runs["run"]
        assert (found["state"], name in found["remark"], found["rounds"]) == wanted, (damage.__name__, found)
        assert runs["other"]["state"] == "complete"
        (folder / "run" / name).write_bytes(content)


ROWS: Mapping[str, Callable[[neulite_sim.RunResult], object]] = {
    CURVES: lambda result: result.rounds, FLIGHTS: lambda result: result.flights,
    DENIALS: lambda result: result.denials, DEVICES: lambda result: result.devices,
    "diagnostics.csv": lambda result: result.diagnostics,
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_rows_of_a_loaded_run_are_those_that_it_wrote(name: str, damage: Callable[[Path], None], folder: Path) -> None:
    result = neulite_sim.load_run("run")
    assert ROWS[name](result)
    damage(folder / "run" / name)
    with pytest.raises(DataNotFoundError, match=rf"{name}: is (gone|not what SHA256SUMS beside it says)"):
        ROWS[name](result)


def test_a_timeline_that_is_gone_can_be_written_anew(folder: Path) -> None:
    content = (folder / "run/timeline.json.gz").read_bytes()
    (folder / "run/timeline.json.gz").unlink()
    assert "put it back, or write it anew beside the run: neulite-sim timeline RUN_DIR --trace FILE" in ran(
        "timeline run"
    ).stderr.replace("\n", " ")
    assert ran("timeline run --trace anew.json.gz").exit_code == 0
    assert (folder / "anew.json.gz").read_bytes() == content
