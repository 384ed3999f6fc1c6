"""`traces import` and `traces formats`: what they print, and how they fail."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from neulite_sim import registry
from neulite_sim.cli import app
from neulite_sim.cli.traces import formats


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def traces(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["traces", *arguments], prog_name="neulite-sim")


def test_an_import_says_what_the_table_holds_and_how_to_use_it() -> None:
    Path("matrix.csv").write_text("device,slots\na,10\nb,-0\nc,00\n")
    found = traces("import", "flash-matrix", "matrix.csv", "--set", "slot=12h", "--out", "own.csv")
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout.splitlines() == [
        "own.csv: 2 devices in 1 intervals, online 25.0% of the time (quartiles over devices 12.5%, 25.0%, 37.5%)",
        "- 16.7% of the slots are unknown: same-time",
        "- 1 device of 3 left out: too little is known",
        "- 1 device never online",
        "use it as population.availability: {kind: trace, path: own.csv}",
    ]


def test_throughput_and_devices_are_told_in_their_own_words() -> None:
    Path("bus.log").write_text("0 4\n1 2\n")
    assert traces("import", "throughput-csv", "bus.log").stdout.splitlines() == [
        "bus.throughput.csv: 1 traces in 2 steps, mean rate 3, 3, 3 Mbps (quartiles over traces), 2 s long (median)",
        "- 1 trace; a rate holds until-next",
        "- the last rate of a trace holds for a median line",
        "use it as population.link: {downlink: {trace: bus.throughput.csv}, uplink: {trace: bus.throughput.csv, scale: "
        "0.3}}",
    ]
    Path("capacity.pkl").write_bytes(pickle.dumps({1: [10.0, 5000.0]}))
    assert traces("import", "fedscale-capacity", "capacity.pkl").stdout.splitlines() == [
        "capacity.devices.csv: 1 devices; speed factor 1, 1, 1; downlink 5, 5, 5 Mbps (quartiles)",
        "- speed_factor 1 is 10 ms per sample, the median of the file",
        "- FedScale gives one rate for both directions",
        "use it as individuals of an item of population.groups: {path: capacity.devices.csv}",
    ]


def test_what_it_says_to_use_is_right() -> None:
    from neulite_sim.scenario.schema import Individuals, Link

    Path("bus.log").write_text("0 4\n1 2\n")
    Path("capacity.pkl").write_bytes(pickle.dumps({1: [10.0, 5000.0]}))
    import yaml

    used = traces("import", "throughput-csv", "bus.log").stdout.splitlines()[-1].removeprefix("use it as ")
    Link.model_validate(yaml.safe_load(used)["population.link"])
    used = traces("import", "fedscale-capacity", "capacity.pkl").stdout.splitlines()[-1]
    Individuals.model_validate(yaml.safe_load(used)[used.partition(":")[0]])


def test_an_import_answers_in_json() -> None:
    Path("a.txt").write_text("1\n2\n")
    found = json.loads(traces("import", "mahimahi", "a.txt", "--json").stdout)
    assert found == {
        "out": "a.throughput.csv",
        "format": "mahimahi",
        "kind": "throughput",
        "traces": 1,
        "steps": 1,
        "span_s_quartiles": [0.002] * 3,
        "bits_per_second_quartiles": [12e6] * 3,
        "packets": 2,
        "notes": ["2 packets of 1500 bytes, as rates over 1 ms"],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mahimahi", "gone.txt"), "error: there is no file at "),
        (
            ("mahimahii", "a.txt"),
            "error: 'mahimahii' is not a known trace format; did you mean 'mahimahi'? (choices: ai-",
        ),
        (
            ("mahimahi", "a.txt", "--set", "bin_ms"),
            "--set: 'bin_ms' sets nothing; write key=value, for example unit=kbps",
        ),
        (("mahimahi", "a.txt", "--set", "bin_ms=x"), "--set: bin_ms: must be a whole number, found 'x'"),
        (("mahimahi", "a.txt", "--set", "bin_ms=[1"), "--set: not valid YAML at column"),
        (("mahimahi", "a.txt", "--set", "bin=1"), "--set: bin: unknown key; did you mean 'bin_ms'?"),
        (("mahimahi", "bad.txt"), "bad.txt:2: 'x' is not a whole number of milliseconds"),
        (("fedscale-capacity", "a.txt"), "a.txt: "),
        (
            ("mahimahi", "a.txt", "--out", "bad.txt"),
            "error: bad.txt exists already; remove it, or name another with --out",
        ),
    ],
)
def test_what_is_wrong_is_told_with_exit_code_two_and_no_table(arguments: tuple[str, ...], message: str) -> None:
    Path("a.txt").write_text("1\n2\n")
    Path("bad.txt").write_text("1\nx\n")
    found = traces("import", *arguments)
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith(message)
    assert sorted(path.name for path in Path().iterdir()) == ["a.txt", "bad.txt"]


def test_formats_lists_every_format_with_its_options_and_its_source() -> None:
    printed = traces("formats").stdout
    for name in registry.names(registry.TRACE_FORMAT):
        found = registry.load(registry.TRACE_FORMAT, name)
        assert f"  {name}: {found.summary}\n    source: {found.source}\n" in printed
        assert all(f"    {option} = " in printed for option in found.options.model_fields)


def test_formats_shows_one_format_and_answers_in_json() -> None:
    assert "flash" not in traces("formats", "mahimahi").stdout
    (entry,) = json.loads(traces("formats", "mahimahi", "--json").stdout)["formats"]
    assert [option["name"] for option in entry["options"]] == ["bin_ms"]
    assert all(option["meaning"] for option in entry["options"])
    assert traces("formats", "mahimah").exit_code == 2


def test_formats_draws_tables_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    formats("mahimahi")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("trace format ───")
    assert max(map(len, lines)) <= 80


def test_the_word_alone_prints_its_commands() -> None:
    found = traces()
    assert found.exit_code == 2
    assert "import" in found.output
    assert "formats" in found.output
