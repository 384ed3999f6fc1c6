"""The commands that run nothing: what they print, and their exit codes."""

from __future__ import annotations

import errno
import gc
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path

import jsonschema
import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

import neulite_sim
from neulite_sim import cli, errors, registry, room
from neulite_sim.cli.brief import seldom_collected, uncollected
from neulite_sim.cli.components import components
from neulite_sim.cli.failures import answered

ROOT = Path(neulite_sim.__file__).parent.parent
SCENARIO = """\
name: small
data: {kind: digits, partition: iid}
model: logistic
population:
  devices: 3
  groups: [{device: jetson-nano-4gb, share: 1}]
  available_memory: {kind: uniform, low: 100MB, high: 900MB}
method: fedavg
stop: {rounds: 2}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(SCENARIO)
    return tmp_path


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments), prog_name="neulite-sim")


# The command line as a whole.


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['neulite-sim', '--help']; from neulite_sim.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code in (0, None), end.code\n"
        "heavy = {'torch', 'ray', 'simpy', 'sklearn', 'pydantic', 'numpy', 'yaml', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "validate" in done.stdout


def test_a_run_whose_folder_is_taken_is_refused_before_anything_is_loaded_or_started(folder: Path) -> None:
    (folder / "full").mkdir()
    (folder / "full" / "notes.txt").write_text("mine")
    code = (
        "import sys; sys.argv = ['neulite-sim', 'run', 'good.yaml', '--backend', 'ray', '--out', 'full']\n"
        "from neulite_sim.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        "heavy = {'torch', 'ray'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "full: already holds other files (notes.txt); --out needs a new or empty folder" in done.stderr


def test_a_checkout_runs_without_being_installed(folder: Path) -> None:
    command = [sys.executable, str(ROOT / "cli.py"), "validate", "missing.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "missing.yaml: does not exist\n"


def test_the_version_is_that_of_the_project() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert ran("--version").stdout == f"neulite-sim {declared}\n"


@pytest.mark.parametrize("name", ["run", "validate", "profile", "sweep", "compare", "components", "schema"])
def test_every_command_explains_itself(name: str) -> None:
    assert name in ran("--help").stdout
    found = ran(name, "-h")
    assert found.exit_code == 0
    assert f"Usage: neulite-sim {name}" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("validat",), "No such command 'validat'."),
        (("validate",), "Missing argument"),
        (("validate", "--nosuch", "x"), "No such option"),
    ],
)
def test_wrong_usage_exits_with_two_and_no_box(arguments: tuple[str, ...], message: str) -> None:
    found = ran(*arguments)
    assert found.exit_code == 2
    assert message in found.stderr
    assert "─" not in found.stderr


def test_no_command_prints_the_help_as_wrong_usage() -> None:
    found = ran()
    assert found.exit_code == 2
    assert "Commands:" in found.output


@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (errors.DataNotFoundError("no folder 'data'"), 2, "error: no folder 'data'\n"),
        (errors.SimulationError("worker lost"), 1, "error: worker lost\n"),
        (errors.ScenarioError([errors.Problem(key="a", message="bad", file="x", line=1)]), 2, "x:1: a: bad\n"),
        (
            errors.ScenarioError([errors.Problem(key=key, message="bad", file="x", line=1) for key in "ab"]),
            2,
            "x:1: a: bad\nx:1: b: bad\nerror: 2 problems found\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_for_users_become_a_message_and_an_exit_code(
    error: BaseException, exit_code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(field: str) -> None:
        raise error

    monkeypatch.setattr(registry, "names", fail)
    found = ran("components")
    assert (found.exit_code, found.stderr, found.stdout) == (exit_code, message, "")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ZeroDivisionError("a / b\nby zero"),
            "error: ZeroDivisionError: a / b by zero, in ",
        ),
        (RecursionError(), "error: RecursionError, in "),
        (MemoryError(), "error: this machine's memory does not hold what was asked for; ask for less"),
    ],
)
def test_what_nobody_foresaw_is_one_sentence_on_standard_error(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(field: str) -> None:
        raise error

    monkeypatch.setattr(registry, "names", fail)
    found = ran("components", "--json")
    assert found.exit_code == 1
    assert found.stderr.startswith(words)
    assert found.stderr.count("\n") == 1
    assert "--debug" in found.stderr
    assert (
        isinstance(error, MemoryError)
        or "is a mistake of neulite-sim or of a plug-in: please report it" in found.stderr
    )
    told = json.loads(found.stdout)["error"]
    assert told["kind"] == ("out-of-memory" if isinstance(error, MemoryError) else "internal")
    assert found.stderr == f"error: {told['message']}\n"
    debugged = ran("--debug", "components", "--json")
    assert debugged.exception is error
    assert json.loads(debugged.stdout)["error"]["kind"] == told["kind"]


def test_wrong_usage_and_a_closed_pipe_are_typers_to_answer() -> None:
    for ending in (typer.Exit(3), typer.Abort(), typer.BadParameter("no"), BrokenPipeError(errno.EPIPE, "closed")):
        with pytest.raises(type(ending)), answered():
            raise ending


# What is given as a file, and is none; what is given as a name, and is none.


@pytest.fixture
def traps(folder: Path) -> Path:
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere.yaml")
    for name, target in (
        ("to-pipe", "pipe"),
        ("to-loop", "loop"),
        ("to-zero", "/dev/zero"),
        ("to-self", "to-self.yaml"),
    ):
        Path(f"{name}.yaml").write_text(f"extends: {target}\n")
    Path("nul.yaml").write_text('extends: "a\\0b"\n')
    Path("huge.yaml").write_bytes(b"#" * 3_000_000)
    for number in range(60):
        Path(f"chain{number}.yaml").write_text(f"extends: chain{number + 1}.yaml\n")
    Path("deep.toml").write_text("a = " + "[" * 5000 + "]" * 5000)
    Path("digits.toml").write_text("a = " + "9" * 5000)
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pipe", "pipe: cannot be read: is not a regular file"),
        ("/dev/zero", "/dev/zero: cannot be read: is not a regular file"),
        ("loop", "loop: cannot be read: Too many levels of symbolic links"),
        ("dangling", "dangling: is a link that leads to no file (to 'nowhere.yaml')"),
        ("huge.yaml", "huge.yaml: cannot be read: holds 3 MB; at most 2 MB are read"),
        ("to-pipe.yaml", "to-pipe.yaml:1: extends: 'pipe' is not a regular file"),
        ("to-zero.yaml", "to-zero.yaml:1: extends: '/dev/zero' is not a regular file"),
        ("to-loop.yaml", "to-loop.yaml:1: extends: 'loop' is a link that leads to no file (back to itself)"),
        ("to-self.yaml", "to-self.yaml:1: extends: leads back to itself: to-self.yaml -> to-self.yaml"),
        (
            "nul.yaml",
            "nul.yaml:1: extends: no file can have this name; it needs 1 to 4096 characters without NUL bytes",
        ),
        ("chain0.yaml", "extends: is the 51th in a chain of files; lay a few together"),
    ],
)
def test_only_a_regular_file_of_some_size_is_read_as_a_scenario(traps: Path, name: str, message: str) -> None:
    found = ran("validate", name)
    assert (found.exit_code, found.stdout) == (2, "")
    assert message in found.stderr
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("population.hardware=pipe", "pipe cannot be read (is not a regular file)"),
        ("population.hardware=/dev/zero", "/dev/zero cannot be read (is not a regular file)"),
        ("population.hardware=loop", "loop cannot be read (Too many levels of symbolic links)"),
        ("population.hardware=deep.toml", "deep.toml: not valid as hardware: nested too deeply"),
        ("population.hardware=digits.toml", "digits.toml: not valid as hardware: a number has too many digits"),
        ('population.hardware="a\\0b"', "holds a NUL byte, which no name or path can have; remove it"),
        ("name=\udcff", "--set: name: not valid YAML: character 0xdcff is not allowed"),
        ('name="\\ud800"', "holds half of a character (a lone surrogate); remove it"),
        ("population.devices=1e12", "population.devices: must be at most 10000000, found 1000000000000"),
        ("seed=0x" + "f" * 5000, "is not a number, or has too many digits"),
    ],
)
def test_names_and_numbers_that_nothing_can_have_are_refused(traps: Path, setting: str, message: str) -> None:
    found = ran("validate", "good.yaml", "--set", setting)
    assert (found.exit_code, found.stdout) == (2, "")
    assert message in found.stderr


@pytest.mark.slow
def test_what_this_machine_has_no_room_for_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory_bytes", lambda: 10**9)
    data = "data={kind: synthetic, samples: 1000000, test_samples: 1, shape: [3, 100, 100], classes: 2}"
    found = ran("validate", "good.yaml", "--set", data)
    assert found.exit_code == 2
    assert found.stderr == (
        "--set: data: needs about 30.00 GB for 1000001 synthetic images of 2 classes, 30000 pixels each, 1 GB are free; "
        "lower data.samples, data.classes or data.shape\n"
    )
    found = ran("validate", "good.yaml", "--set", "population.devices=10000000")
    assert found.stderr == (
        "--set: population.devices: needs about 3 GB for the table of 10000000 devices, 1 GB are free; lower it\n"
    )


# Plug-ins that are broken.


@pytest.mark.parametrize("broken", ["raise RuntimeError('no licence')", "raise SystemExit(3)", "1 / 0", "COMPONENT = 3",
                                    "print('noise'); from nowhere import x", "COMPONENT = COMPONENT_WITH_BAD_OPTIONS"])  # fmt: skip
def test_a_broken_plug_in_is_named_and_takes_nothing_with_it(
    broken: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = "from neulite_sim.registry import Component\n"
    bad = "Component(kind='b', summary='s', source='s', options=dict, build=print)"
    Path("broken_plugin.py").write_text(head + broken.replace("COMPONENT_WITH_BAD_OPTIONS", bad))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "broken_plugin", raising=False)
    usual = registry._entry_points
    point = EntryPoint("broken", "broken_plugin:COMPONENT", "neulite_sim.availability")

    def with_broken(group: str) -> Mapping[str, EntryPoint]:
        return {**usual(group), **({"broken": point} if group == point.group else {})}

    monkeypatch.setattr(registry, "_entry_points", with_broken)
    listed = ran("components", "--json")
    assert listed.exit_code == 0
    entries = {
        entry["kind"]: entry for entry in json.loads(listed.stdout)["components"] if entry["field"] == "availability"
    }
    assert entries["broken"]["error"].startswith("availability 'broken'")
    assert entries["markov"]["error"] is None
    schema = ran("schema")
    assert schema.exit_code == 0
    assert "broken" not in schema.stdout
    assert json.loads(schema.stdout)
    assert "notice: left out: availability 'broken'" in schema.stderr
    assert ran("validate", "good.yaml").exit_code == 0
    named = ran("validate", "good.yaml", "--set", "population.availability=broken")
    assert named.exit_code == 2
    assert "population.availability.kind: availability 'broken'" in named.stderr


# validate


def test_validate_says_what_a_good_scenario_is() -> None:
    found = ran("validate", "good.yaml")
    assert (found.exit_code, found.stdout, found.stderr) == (0, "ok  good.yaml  (small, fedavg, 3 devices)\n", "")


def test_validate_prints_all_problems_of_each_bad_scenario_and_still_the_good_ones() -> None:
    Path("bad.yaml").write_text(SCENARIO.replace("rounds: 2", "rounds: 0").replace("fedavg", "fedavgg"))
    found = ran("validate", "bad.yaml", "good.yaml", "goood.yaml")
    assert found.exit_code == 2
    assert found.stdout == "ok  good.yaml  (small, fedavg, 3 devices)\n"
    lines = found.stderr.splitlines()
    assert lines[0].startswith(
        "bad.yaml:8: method.kind: 'fedavgg' is not a known method; did you mean 'fedavg' or 'fedra'?"
    )
    assert lines[1:] == [
        "bad.yaml:9: stop.rounds: must be at least 1, found 0",
        "error: 2 problems found",
        "goood.yaml: does not exist; did you mean 'good.yaml'?",
        "error: 2 of 3 scenarios cannot be run",
    ]


def test_validate_finds_six_mistakes_at_once_with_file_line_and_key() -> None:
    wrong = SCENARIO.replace("name: small", "name: my run").replace(
        "partition: iid", "partition: {kind: iid, alpha: 1}"
    )
    wrong = wrong.replace("devices: 3", "devices: none").replace("low: 100MB", "low: 100mb")
    wrong = wrong.replace("method: fedavg", "method: {kind: fedavg, memory_limt: false}") + "trainning: {epochs: 3}\n"
    Path("bad.yaml").write_text(wrong)
    found = ran("validate", "bad.yaml")
    assert found.exit_code == 2
    assert [line.split(": ")[:2] for line in found.stderr.splitlines()] == [
        ["bad.yaml:1", "name"],
        ["bad.yaml:2", "data.partition.alpha"],
        ["bad.yaml:5", "population.devices"],
        ["bad.yaml:7", "population.available_memory.low"],
        ["bad.yaml:8", "method.memory_limt"],
        ["bad.yaml:10", "trainning"],
        ["error", "6 problems found"],
    ]


def test_validate_knows_the_devices_of_the_catalogue() -> None:
    Path("bad.yaml").write_text(SCENARIO.replace("jetson-nano-4gb", "jetson-nano-4g"))
    found = ran("validate", "bad.yaml")
    assert found.exit_code == 2
    assert found.stderr.startswith(
        "bad.yaml:6: population.groups.0.device: 'jetson-nano-4g' is not a known device; did"
    )


def test_validate_reports_a_trace_that_is_not_there() -> None:
    found = ran("validate", "good.yaml", "--set", "population.availability={kind: trace, path: gone.csv}")
    assert found.exit_code == 2
    assert found.stderr.startswith("good.yaml: ")
    assert "gone.csv" in found.stderr


def test_validate_applies_settings() -> None:
    assert ran("validate", "good.yaml", "--set", "population.devices=1").stdout.endswith("(small, fedavg, 1 device)\n")
    found = ran("validate", "good.yaml", "--set", "population.devices=0", "--set", "seed=x")
    assert found.stderr.splitlines()[:2] == [
        "--set: seed: must be a whole number, found 'x'",
        "--set: population.devices: must be at least 1, found 0",
    ]


def test_validate_answers_in_json() -> None:
    Path("bad.yaml").write_text(SCENARIO.replace("rounds: 2", "rounds: 0"))
    found = ran("validate", "good.yaml", "bad.yaml", "--json")
    assert (found.exit_code, found.stderr) == (2, "")
    assert json.loads(found.stdout)["scenarios"] == [
        {"path": "good.yaml", "ok": True, "name": "small", "method": "fedavg", "devices": 3, "notes": []},
        {
            "path": "bad.yaml",
            "ok": False,
            "problems": [
                {"key": "stop.rounds", "message": "must be at least 1, found 0", "file": "bad.yaml", "line": 9}
            ],
        },
    ]


# schema


@pytest.mark.slow
def test_schema_prints_a_json_schema_that_knows_the_real_components() -> None:
    found = ran("schema")
    assert found.exit_code == 0
    schema = json.loads(found.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(yaml.safe_load(SCENARIO))
    assert not validator.is_valid({**yaml.safe_load(SCENARIO), "method": {"kind": "neulite", "curriculm": False}})


# components


@pytest.mark.parametrize("arguments", [["schema"], ["components"], ["validate", "nowhere.yaml"]])
def test_brief_commands_look_for_cycles_again_once_they_end(arguments: list[str]) -> None:
    CliRunner().invoke(cli.app, arguments)
    assert gc.isenabled()
    with uncollected():
        CliRunner().invoke(cli.app, arguments)
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_study_looks_for_cycles_as_often_as_before_once_it_ends() -> None:
    before = gc.get_threshold()
    with seldom_collected():
        assert gc.get_threshold()[0] > before[0]
    assert gc.get_threshold() == before
    CliRunner().invoke(cli.app, ["whatif", "nowhere.yaml"])
    assert gc.get_threshold() == before


def test_components_lists_every_component_of_every_field_with_its_source() -> None:
    found = ran("components")
    assert found.exit_code == 0
    fields = [*registry.GROUPS, *registry.TOOLS]
    for field in fields:
        for name in registry.kinds(field):
            component = registry.load(field, name)
            shown = f"{name}:NAME" if component.takes_argument else name
            assert f"  {shown}: {component.summary}" in found.stdout
    assert found.stdout.count("    source: ") == sum(len(registry.kinds(field)) for field in fields)


def test_components_shows_the_options_of_one_field() -> None:
    lines = ran("components", "available_memory").stdout.splitlines()
    assert lines[0] == "population.available_memory"
    assert any(line.startswith("    low = required  (such as 512MB, >= 0 and <= 1e+15)  ") for line in lines)
    assert not any("neulite:" in line for line in lines)


def test_components_finds_a_component_by_its_name_in_every_field() -> None:
    lines = ran("components", "uniform").stdout.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == ["selection", "population.available_memory"]


def test_components_shows_what_a_command_names_as_well() -> None:
    lines = ran("components", "mahimahi").stdout.splitlines()
    assert lines[0] == registry.TRACE_FORMAT
    assert ran("components", registry.TRACE_FORMAT).stdout == ran("traces", "formats").stdout


def test_components_answers_in_json() -> None:
    (entry,) = json.loads(ran("components", "markov", "--json").stdout)["components"]
    assert (entry["field"], entry["kind"], entry["error"]) == ("availability", "markov", None)
    assert entry["options"][0] == {
        "name": "mean_on",
        "allowed": "such as 90s, >= 0.001 and <= 3.15576e+09",
        "required": True,
        "default": None,
        "meaning": "Mean time online, for example 2h.",
    }


def test_components_draws_tables_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    components("dirichlet")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("data.partition ───")
    assert any(line.split()[:3] == ["option", "default", "allowed"] for line in lines)
    assert any(line.split()[:4] == ["alpha", "0.5", "number", ">="] for line in lines)
    assert max(map(len, lines)) <= 80


def test_components_refuses_an_unknown_kind_with_the_choices() -> None:
    found = ran("components", "methd")
    assert found.exit_code == 2
    assert found.stderr == (
        "error: 'methd' is neither a field of a scenario nor a component; did you mean 'method'? (fields: data, "
        "partition, model, method, selection, protocol, backend, available_memory, memory_motion, availability, trace "
        "format)\n"
    )


def test_a_component_that_cannot_be_loaded_is_listed_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(field: str, name: str) -> registry.Component:
        raise errors.UnknownComponentError(f"{name} cannot be loaded")

    monkeypatch.setattr(registry, "load", broken)
    found = ran("components", "neulite")
    assert (found.exit_code, found.stdout) == (0, "method\n  neulite: neulite cannot be loaded\n")


def test_every_option_of_every_real_component_is_explained() -> None:
    listed = json.loads(ran("components", "--json").stdout)["components"]
    silent = [
        f"{entry['kind']}.{option['name']}" for entry in listed for option in entry["options"] if not option["meaning"]
    ]
    assert not silent
    assert [entry["kind"] for entry in listed if not (entry["summary"] and entry["source"])] == []


# Shipped scenarios.


SHIPPED = sorted(path for path in (ROOT / "scenarios").rglob("*.yaml") if path.parent.name != "sweeps")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_scenario_is_valid(path: Path) -> None:
    """Whole but for data that is not part of this project; where that is not here, it is all that is said."""
    found = ran("validate", str(path))
    if found.exit_code:
        assert re.fullmatch(r"\S+: (cifar10|femnist|mini-imagenet): there is no folder [^\n]+\n", found.stderr)
    else:
        assert found.stderr == ""
